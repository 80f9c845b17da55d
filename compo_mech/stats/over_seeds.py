"""Times to event over several runs: the fraction of runs, and the order of two events."""

import math
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.stats.intervals import Bounds, Interval, bounded, wilson
from compo_mech.stats.onset import MIN_SEEDS, N_RESAMPLES, ROUNDING, Moment, Moments, Numbers


@dataclass(frozen=True)
class Survival:
    """The fraction of runs in which an event had happened by a step; before the first of `steps` it is 0.

    Attributes:
        steps: at which it happened in some run, increasing.
        share, low, high: fraction of runs from that step on, with its 95% interval.
        median: the step by which half had; inf where fewer have.
        n_runs, n_censored: number of runs, and of those that ended before the event.
    """

    steps: Float[Tensor, "event"]
    share: Float[Tensor, "event"]
    low: Float[Tensor, "event"]
    high: Float[Tensor, "event"]
    median: Moment
    n_runs: int
    n_censored: int


def survival(moments: Moments, ends: Numbers) -> Survival:
    """The fraction of runs in which an event had happened by each step, with runs that ended without it censored.

    Kaplan & Meier 1958; intervals by the log-log transform of Greenwood's formula (Borgan & Liestøl 1990); the
    median's holds the steps at which the fraction's interval contains a half (Brookmeyer & Crowley 1982).

    Args:
        moments: time to event of each run, inf where censored; -inf counts as step 0.
        ends: last step of each run.

    Raises:
        ValueError: too few runs, other lengths, no number, an end that is not finite, or a moment after its end.
    """
    import scipy

    at, until = times_to_event(moments, ends)
    emerged = at < math.inf
    data = scipy.stats.CensoredData(uncensored=at[emerged].tolist(), right=until[~emerged].tolist())
    with warnings.catch_warnings(action="ignore"):  # that the formula says nothing of none and of all
        left = scipy.stats.ecdf(data).sf
        interval = left.confidence_interval(0.95, method="log-log")
    event = torch.isin(torch.from_numpy(left.quantiles), at)
    share, low, high = (1 - torch.from_numpy(f.probabilities)[event] for f in (left, interval.high, interval.low))
    n_emerged = int(emerged.sum())
    if n_emerged and share[-1] > 1 - ROUNDING:
        low[-1] = low[-2] if len(low) > 1 else wilson(n_emerged, n_emerged).low
        high[-1] = 1.0
    steps = torch.from_numpy(left.quantiles)[event]
    median = Moment(*(float(min(steps[curve >= 0.5 - ROUNDING], default=math.inf)) for curve in (share, high, low)))
    return Survival(steps, share, low, high, median, len(at), len(at) - n_emerged)


def times_to_event(moments: Moments, ends: Numbers) -> tuple[Float[Tensor, "run"], Float[Tensor, "run"]]:
    """Return the time to event of each run, at least 0 and inf where censored, and its last step.

    Raises:
        ValueError: as `survival`.
    """
    at, until = _steps("moments", moments), _steps("ends", ends, len(moments))
    if not until.isfinite().all():
        raise ValueError(f"ends = {float(until[~until.isfinite()][0])}: must be finite")
    if (late := at.isfinite() & (at > until)).any():
        raise ValueError(f"moments = {float(at[late][0]):g}: must be at most the run's end, {float(until[late][0]):g}")
    return at.clamp_min(0), until


def _steps(name: str, moments: Moments, n_runs: int | None = None) -> Float[Tensor, "run"]:
    if n_runs is not None and len(moments) != n_runs:
        raise ValueError(f"{name} = {len(moments)} runs: must be the same {n_runs} as the other")
    if len(moments) < MIN_SEEDS:
        raise ValueError(f"{name} = {len(moments)} runs: must be at least {MIN_SEEDS}")
    at = torch.tensor([float(m.step if isinstance(m, Moment) else m) for m in moments], dtype=torch.float64)
    if at.isnan().any():
        raise ValueError(f"{name} = nan: must be steps, or inf where censored")
    return at


@dataclass(frozen=True)
class Lag:
    """By how many steps one event precedes another in the same runs.

    Attributes:
        mean, median: of second less first, over the runs in which both happened; None if these are too few.
        before: fraction of the runs whose order is known in which the first came first; None if there are none.
        n_runs, n_censored: number of runs, and of those in which either did not happen: if the other did, the order is
            known.
        n_unordered: number of runs in which neither happened, or both at the same step.
    """

    mean: Moment | None
    median: Moment | None
    before: Interval | None
    n_runs: int
    n_censored: int
    n_unordered: int


def lag(first: Moments, second: Moments, generator: torch.Generator) -> Lag:
    """By how many steps the first of two events precedes the second, and in what fraction of runs.

    Intervals are from 4000 resamples of runs: of the median between their quantiles, of the mean between quantiles
    widened for few runs as by Student's t (Hesterberg 2015, What Teachers Should Know About the Bootstrap).
    For 5 to 20 runs with normal lags they covered 91 to 96% of the time; the mean of exponential ones 87 to 92%.

    Args:
        first, second: times to event, one per run, inf where censored; runs in the same order.
        generator: of resamples.

    Raises:
        ValueError: too few runs, other lengths, or no number.
    """
    import scipy

    a, b = _steps("first", first), _steps("second", second, len(first))
    both = a.isfinite() & b.isfinite()
    lags, n_ordered = (b - a)[both], int((a != b).sum())
    mean = median = None
    if (n := len(lags)) >= MIN_SEEDS:
        resamples = lags[torch.randint(n, (N_RESAMPLES, n), generator=generator)]
        tail = float(scipy.special.ndtr(-math.sqrt(n / (n - 1)) * scipy.special.stdtrit(n - 1, 0.975)))
        levels = torch.tensor([tail, 1 - tail, 0.025, 0.975], dtype=torch.float64)
        mean = Moment(float(lags.mean()), *resamples.mean(1).quantile(levels[:2]).tolist())
        median = Moment(float(lags.quantile(0.5)), *resamples.quantile(0.5, dim=1).quantile(levels[2:]).tolist())
    before = wilson(int((a < b).sum()), n_ordered) if n_ordered else None
    return Lag(mean, median, before, len(a), int((~both).sum()), len(a) - n_ordered)


class SeedSummary(StrEnum):
    """How a measure is summarised over seeds."""

    MEAN = "mean"
    FRACTION = "fraction"
    """Of the runs in which it is 1, the others being 0."""
    TIME_TO_EVENT = "time to event"
    """The median, censored runs, in which the event did not come, being infinite."""


UNBOUNDED: Bounds = (-math.inf, math.inf)


def check_values(name: str, summary: SeedSummary, values: Sequence[float]) -> None:
    """Refuse values that cannot be ranked or counted: no number, or of a fraction neither 0 nor 1.

    Raises:
        ValueError: there is one.

    >>> check_values("values", SeedSummary.FRACTION, [1.0, 0.5])
    Traceback (most recent call last):
    ValueError: values = 0.5: must be 0 or 1
    """
    for value in values:
        if math.isnan(value):
            raise ValueError(f"{name} = nan: must be numbers")
        if summary is SeedSummary.FRACTION and value not in (0, 1):
            raise ValueError(f"{name} = {value:g}: must be 0 or 1")


def over_seeds(summary: SeedSummary, values: Sequence[float], bounds: Bounds = UNBOUNDED) -> Interval:
    """Values over seeds, as one number with its 95% interval.

    A fraction has Wilson's interval. A time to event is the median, censored runs counted as longer than all others,
    with the order statistics that hold it (of fewer than six runs the lowest and the highest: for five, 94%). A mean
    has Student's interval, within the bounds as Wilson's is (see `bounded`), which takes two seeds at least (nan: no
    interval); where a value is infinite, the median stands for it.

    Of 3000 draws of 5 values each the interval of the mean held the truth in 95% (Beta(50, 50) and Beta(1/2, 1/2)), 94%
    (Beta(9, 1)), 90% (Beta(2, 0.3)) and 93% (exponential); without bounds it did in 95, 93, 90, 82 and 88%.

    Args:
        summary: which of them.
        values: one a seed.
        bounds: between which a mean lies, wider where a value is beyond them.

    Raises:
        ValueError: there are no values, or one is no number, or of a fraction neither 0 nor 1.
    """
    import scipy

    if not len(values):
        raise ValueError("values = none: must be at least one")
    check_values("values", summary, values)
    n, ordered = len(values), sorted(values)
    match summary:
        case SeedSummary.FRACTION:
            return wilson(int(sum(values)), n)
        case SeedSummary.TIME_TO_EVENT:
            aside = max(0, int(scipy.stats.binom.ppf(0.025, n, 0.5)) - 1)
            return Interval(statistics.median_low(ordered), ordered[aside], ordered[n - 1 - aside])
        case SeedSummary.MEAN if math.inf in map(abs, ordered):
            return Interval(statistics.median_low(ordered), math.nan, math.nan)
        case SeedSummary.MEAN:
            mean = statistics.fmean(values)
            if n < 2:
                return Interval(mean, math.nan, math.nan)
            half = float(scipy.special.stdtrit(n - 1, 0.975)) * statistics.stdev(values) / math.sqrt(n)
            return bounded(mean, half, (min(bounds[0], ordered[0]), max(bounds[1], ordered[-1])))
