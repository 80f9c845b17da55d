"""Means and fractions with their 95% intervals."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import torch

from compo_mech.model.finite import check_finite


class Interval(NamedTuple):
    """A mean and the 2.5% and 97.5% quantiles."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Interval":
        """Return the interval of these values.

        Raises:
            ValueError: there are none, or one is not finite.
        """
        if not len(values):
            raise ValueError("values = none: an interval needs at least one")
        known = torch.tensor(values, dtype=torch.float64)
        check_finite("values", known)
        low, high = known.quantile(torch.tensor([0.025, 0.975]).double()).tolist()
        return cls(statistics.fmean(values), low, high)

    def __str__(self) -> str:
        return f"{self.mean:.2f} ({self.low:.2f} .. {self.high:.2f})"


def wilson(n_right: int, n: int) -> Interval:
    """Return a fraction with its 95% interval (Wilson 1927), which unlike the normal approximation is informative at 0
    and 1.

    Raises:
        ValueError: there is nothing to count.
    """
    if n < 1:
        raise ValueError(f"n = {n}: must be at least 1")
    share, z = n_right / n, statistics.NormalDist().inv_cdf(0.975)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Interval(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))
