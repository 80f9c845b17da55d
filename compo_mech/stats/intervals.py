"""Means and fractions with their 95% intervals."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import torch

from compo_mech.model.finite import check_finite

Bounds = tuple[float, float]
ROUNDING = 1e-9
NORMAL = statistics.NormalDist().inv_cdf(0.975)
"""The 97.5% quantile of a normal variable."""
MAX_DECIMALS = 12


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
        mean, low, high = (two_decimals(value) for value in self)
        return f"{mean} ({low} .. {high})"


def two_decimals(value: float) -> str:
    """Write a number with two decimals, without the sign of what is rounded to zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def on_its_side(value: float, level: float, percent: bool = False, decimals: int | None = None) -> str:
    """Write a number with two decimals (as a percentage with one), or with as many as it takes that what is written is
    below, at or above the level as the number is; what is off by the rounding of arithmetic alone is at the level.

    Args:
        value: the number.
        level: that it is compared with.
        percent: whether both are fractions, to be written as percentages.
        decimals: with how many at least; None: the two, or the one.

    >>> on_its_side(0.9, 0.9), on_its_side(0.8996, 0.9), on_its_side(0.9896, 0.99, percent=True)
    ('0.90', '0.8996', '98.96%')
    """
    scale, usual = (100, 1) if percent else (1, 2)
    decimals = usual if decimals is None else decimals
    while decimals < MAX_DECIMALS and _side(round(value * scale, decimals), level * scale) != _side(value, level):
        decimals += 1
    return f"{round(value * scale, decimals) + 0.0:.{decimals}f}{'%' * percent}"


def level_beside(level: float, value: float, written: str) -> str:
    """Write a level that is no round number beside a value that is written already, by `on_its_side`: with as few
    decimals as it takes that what is written of the two are below, at or above each other as the numbers are.

    >>> level_beside(0.754, 0.7536, "75.36%"), level_beside(0.754, 0.6, "60.0%"), level_beside(2 / 3, 0.668, "0.67")
    ('75.4%', '75%', '0.667')
    """
    percent, shown = written.endswith("%"), float(written.rstrip("%"))
    scale, decimals = (100, 0) if percent else (1, 2)
    while decimals < MAX_DECIMALS and _side(shown, round(level * scale, decimals)) != _side(value, level):
        decimals += 1
    return f"{level:.{decimals}%}" if percent else f"{level:.{decimals}f}"


def _side(number: float, of: float) -> int:
    return 0 if abs(number - of) < ROUNDING else int(number > of) - int(number < of)


def counted(n: int, what: str) -> str:
    """Write a number of things, as `1 run` or `2 runs`."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def wilson(n_right: int, n: int) -> Interval:
    """Return a fraction with its 95% interval (Wilson 1927), which unlike the normal approximation is informative at 0
    and 1.

    Raises:
        ValueError: there is nothing to count, or there are more right than there are.
    """
    if n < 1:
        raise ValueError(f"n = {n}: must be at least 1")
    if not 0 <= n_right <= n:
        raise ValueError(f"n_right = {n_right}: must be 0 .. {n}")
    # not by scipy.stats, of which this is all that a run needs, and which takes half a second to import
    share, spread = n_right / n, NORMAL**2 / n
    middle, half = share + spread / 2, math.sqrt(spread * (share * (1 - share) + spread / 4))
    low, high = (middle - half) / (1 + spread), (middle + half) / (1 + spread)
    return Interval(share, low if n_right else 0.0, high if n_right < n else 1.0)


def bounded(mean: float, half: float, bounds: Bounds) -> Interval:
    """Return the interval of an estimate that lies between bounds, and so does its interval.

    It holds every value whose distance from the estimate is at most `half`, were the variance that of the value and not
    of the estimate, as in Wilson's interval: in proportion to (value - low) (high - value), or with one bound to the
    distance from it. Far from the bounds, and without any, it is mean - half .. mean + half; of ones and zeros with a
    normal `half` it is Wilson's. At a bound itself there is no variance, and the interval is that one value.

    Args:
        mean: the estimate, between the bounds.
        half: of its interval if nothing bounded it, such as a quantile of Student's t times a standard error.
        bounds: lowest and highest value, either of which may be infinite.

    Raises:
        ValueError: the estimate is not between the bounds.

    >>> print(bounded(0.9, 0.3, (0.0, 1.0)), bounded(0.9, 0.3, (-math.inf, math.inf)))
    0.90 (0.41 .. 0.99) 0.90 (0.60 .. 1.20)
    """
    low, high = bounds
    if not low - ROUNDING <= mean <= high + ROUNDING:
        raise ValueError(f"mean = {mean:g}: must be {low:g} .. {high:g}")
    if half == 0 or mean <= low or mean >= high:
        return Interval(mean, mean, mean)
    # of the variance at mean + d, in units of that at the mean: 1 + slope d + bend d²
    below, above = 1 / (mean - low), 1 / (high - mean)
    slope, bend = below - above, -below * above
    # d² = half² (1 + slope d + bend d²)
    middle = half * slope / 2
    root, scale = math.sqrt(middle**2 + 1 - half**2 * bend), half / (1 - half**2 * bend)
    return Interval(mean, mean + scale * (middle - root), mean + scale * (middle + root))
