"""Means of arms whose runs share seeds, by a model in which every seed shifts all its runs alike."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Effect(NamedTuple):
    """By how much an arm's mean exceeds the reference's: the estimate, its standard error, and degrees of freedom."""

    difference: float
    error: float
    df: int


def mixed_effects(values: Mapping[str, Mapping[int, float]], reference: str) -> dict[str, Effect]:
    """Estimate how each arm's mean differs from the reference's, with seeds as random effects.

    value = mean of the arm + shift of the seed + noise, both normal; by restricted maximum likelihood (Patterson &
    Thompson 1971), which where every arm has every seed is the mean difference seed by seed, with the noise of all arms
    pooled. Degrees of freedom are those left within seeds.

    Args:
        values: of each arm by seed, finite; arms need not have the same seeds.
        reference: an arm of them.

    Returns:
        By arm, all but the reference; none where no degree of freedom is left.
    """
    import scipy

    arms = [arm for arm in dict.fromkeys([reference, *values]) if values[arm]]
    if len(arms) < 2 or arms[0] != reference:
        return {}
    rows = [(i, seed, value) for i, arm in enumerate(arms) for seed, value in values[arm].items()]
    which, labels, y = (np.array(column) for column in zip(*rows, strict=True))
    seeds, seed = np.unique(labels, return_inverse=True)
    design = np.eye(len(arms))[which]
    df = len(y) - len(seeds) - (len(arms) - 1)
    if df < 1:
        return {}
    sizes = np.bincount(seed)

    def fitted(log_ratio: float) -> tuple[Float[np.ndarray, "arm"], Float[np.ndarray, "arm arm"], float]:
        """Means, their covariance by the noise's variance, and the deviance, at a ratio of the variances."""
        kept = 1 - 1 / np.sqrt(1 + sizes * math.exp(log_ratio))

        def whitened(columns: Float[np.ndarray, "run column"]) -> Float[np.ndarray, "run column"]:
            sums = np.zeros((len(seeds), columns.shape[1]))
            np.add.at(sums, seed, columns)
            return columns - (kept / sizes)[seed, None] * sums[seed]

        x, target = whitened(design), whitened(y[:, None])[:, 0]
        inverse = np.linalg.inv(x.T @ x)
        means = inverse @ x.T @ target
        n_left = len(y) - len(arms)
        noise = max(float(((target - x @ means) ** 2).sum()) / n_left, 1e-30)
        deviance = np.log1p(sizes * math.exp(log_ratio)).sum() - np.linalg.slogdet(inverse)[1]
        return means, inverse * noise, float(deviance + n_left * math.log(noise))

    best = scipy.optimize.minimize_scalar(lambda at: fitted(at)[2], bounds=(-15, 15), method="bounded")
    means, covariance, _ = fitted(float(best.x))
    return {
        arm: Effect(
            float(means[i] - means[0]), math.sqrt(covariance[0, 0] + covariance[i, i] - 2 * covariance[0, i]), df
        )
        for i, arm in enumerate(arms)
        if i
    }
