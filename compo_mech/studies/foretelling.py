"""How early what is measured of a network foretells its end: on seeds that no weight was fitted to."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from compo_mech.evaluation.attention import AttentionVerdict

N_FOLDS = 10
N_RESAMPLES = 400
MIN_EACH = 20
"""Seeds of either end without which nothing is fitted."""


def foretold(followed: pd.DataFrame, early: Sequence[str]) -> pd.DataFrame:
    """Foretell, at each step, whether a seed ends textbook, by logistic regression on what is measured then.

    Args:
        followed: rows of every seed at every step.
        early: columns that may be used.

    Returns:
        A row a step: area under the ROC curve over held-out seeds (tenfold; 0.5 is chance) with its interval over
        resampled seeds, the same with the ends permuted among seeds, the one measure that does best on the seeds
        fitted to, as often as it is chosen, and its area over held-out seeds. No rows if nearly all seeds end alike.
    """
    last = followed["step"].max()
    end = followed[followed["step"] == last].set_index("seed")["verdict"] == str(AttentionVerdict.TEXTBOOK)
    if min(end.sum(), (~end).sum()) < MIN_EACH:
        return pd.DataFrame()
    draws, rows = np.random.default_rng(0), []
    permuted = pd.Series(draws.permutation(end.to_numpy()), end.index)
    for step, at_step in followed[followed["step"] < last].groupby("step"):
        x = at_step.set_index("seed").loc[end.index, list(early)].to_numpy(float)
        known, single, names = _held_out(x, end.to_numpy(bool), early)
        control, _, _ = _held_out(x, permuted.to_numpy(bool), early)
        rows.append(
            {"step": step, "area": area(known, end.to_numpy(bool))}
            | dict(zip(("low", "high"), _interval(known, end.to_numpy(bool), draws), strict=True))
            | {"permuted": area(control, permuted.to_numpy(bool))}
            | {"best alone": max(set(names), key=names.count), "chosen": names.count(max(set(names), key=names.count))}
            | {"its area": area(single, end.to_numpy(bool))}
        )
    return pd.DataFrame(rows)


def _held_out(
    x: Float[np.ndarray, "seed measure"], end: Bool[np.ndarray, "seed"], early: Sequence[str]
) -> tuple[Float[np.ndarray, "seed"], Float[np.ndarray, "seed"], list[str]]:
    """What is foretold of each seed by the others: by all measures, by the one that does best on the others; and which
    that is in each fold."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    by_all, by_one, names = np.zeros(len(end)), np.zeros(len(end)), list[str]()
    for fitted, held_out in StratifiedKFold(N_FOLDS, shuffle=True, random_state=0).split(x, end):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000)).fit(x[fitted], end[fitted])
        by_all[held_out] = model.decision_function(x[held_out])
        areas = np.array([area(column, end[fitted]) for column in x[fitted].T])
        best = int(np.abs(areas - 0.5).argmax())
        by_one[held_out] = np.sign(areas[best] - 0.5) * x[held_out, best]
        names.append(early[best])
    return by_all, by_one, names


def area(score: Float[np.ndarray, "seed"], end: Bool[np.ndarray, "seed"]) -> float:
    """Area under the ROC curve: how often a seed of the one end has the higher score than one of the other, ties half.

    >>> area(np.array([0.0, 1.0, 1.0, 2.0]), np.array([False, False, True, True]))
    0.875
    """
    from scipy.stats import rankdata

    n, n_other = int(end.sum()), int((~end).sum())
    return float((rankdata(score)[end].sum() - n * (n + 1) / 2) / (n * n_other))


def _interval(
    score: Float[np.ndarray, "seed"], end: Bool[np.ndarray, "seed"], draws: np.random.Generator
) -> tuple[float, float]:
    """The 2.5% and 97.5% quantiles over seeds drawn with replacement, from either end as many as there are."""
    ends = [np.flatnonzero(end), np.flatnonzero(~end)]
    drawn = [np.concatenate([draws.choice(of, len(of)) for of in ends]) for _ in range(N_RESAMPLES)]
    low, high = np.quantile([area(score[rows], end[rows]) for rows in drawn], [0.025, 0.975])
    return float(low), float(high)
