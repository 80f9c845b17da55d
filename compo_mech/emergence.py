"""From curves over training to when something came about, in how many runs, in which order, and whether it goes on."""

import math
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from scipy.optimize import brentq
from scipy.special import ndtr, stdtr, stdtrit
from scipy.stats import CensoredData, ecdf
from torch import Tensor

from compo_mech.metrics import Interval, wilson

MIN_POINTS, MIN_SEEDS = 8, 5
FALSE_ALARMS, N_PERMUTATIONS, N_RESAMPLES = 0.05, 399, 4000
CUT, WIDE_CUT = 0.96, 0.99
"""Levels of F tests: of 95% intervals (at 0.95 those of wide logistics covered 91 to 93%, as kinks break the test's
assumption of a smooth likelihood), and of what lattices close in on."""
N_FIRST_LINES, N_LINES, MAX_ZOOMS, FULL = 64, 48, 12, 0.6
ROUNDING = 1e-12  # of a curve's sum of squares: less is as good as none
MAX_CORRELATION, N_CORRELATIONS = 0.98, 40
RAMP, LOGISTIC = "ramp", "logistic"
WHOLE = torch.tensor([[0.0, 1.0], [0.0, 1.0]]).double()
MIX = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]).double()  # to onset, midpoint, saturation
Numbers = Sequence[int | float]
Steps = Float[Tensor, "step"]
Places = Float[Tensor, "place"]
Verdict = Literal["yes", "no", "undecided"]


def reached(steps: Sequence[int], values: Sequence[float], level: float) -> int | None:
    """The first step from which on the curve stays at or above `level`; None if it does not end there."""
    since = None
    for step, value in zip(steps, values, strict=True):
        if value < level:
            since = None
        elif since is None:
            since = step
    return since


class Moment(NamedTuple):
    """A step, or a number of steps, with its 95% interval. inf: after the last, or never; -inf: before the first."""

    step: float
    low: float
    high: float


Moments = Sequence[Moment | int | float]  # one a run; intervals are not used
NEVER = Moment(math.inf, math.inf, math.inf)


class Course(StrEnum):
    """How far a curve has come: the saturation of an unfinished one may lie after the last step."""

    NOTHING = "nothing"
    UNFINISHED = "unfinished"
    COMPLETE = "complete"


@dataclass(frozen=True)
class Emergence:
    """What `emergence` found in one curve.

    Attributes:
        course: whether anything emerged, and whether its end was seen.
        onset, midpoint, saturation: when; never if nothing emerged.
        p_flat: p value of the curve being flat.
        fitted: the ramp or logistic that fits best; the mean where nothing emerged.
        rise: of the fitted curve from its first step to its last, in units of the values; negative if it falls.
    """

    course: Course
    onset: Moment
    midpoint: Moment
    saturation: Moment
    p_flat: float
    fitted: Steps
    rise: float


def emergence(steps: Numbers, values: Numbers, generator: torch.Generator) -> Emergence:
    """When a curve left one plateau, was half way, and came to the other.

    Draw a line through the points where 25% and 75% of the rise are done. Onset and saturation are where it meets
    the plateaus, the midpoint where half is done. On a ramp these are the kinks and the middle; on a logistic the
    steps where 10%, 50% and 90% are done (ln 9 = 2 ln 3). Least squares choose between a ramp and a logistic, rising
    or falling. Intervals hold every onset (midpoint, saturation) with which some ramp or logistic fits by the F test:
    profile likelihood over the other parameters, plateaus and shape (Seber & Wild 1989, Nonlinear Regression, 5.4).
    Whether there is anything at all is told by the fit of ramps to permuted values: exact for independent noise.

    Over 500 draws each of ramps, logistics and abrupt steps with independent noise of 2 to 10% of the rise, on 40 to
    200 points, evenly spaced or not, with plateaus down to 2% of the curve, intervals covered 94 to 98% of the time.
    Those of abrupt steps covered up to 99%: all steps between two snapshots fit as well. Where noise correlates by
    0.3 (0.5) between neighbours they cover 87% (75%), and 29% (53%) of 100-point flat curves pass for an emergence.

    Args:
        steps: increasing, at least `MIN_POINTS`, spaced in any way.
        values: of any range.
        generator: of permutations.

    Raises:
        ValueError: too few points, other lengths, a value that is no finite number, or steps that do not increase.
    """
    x, y = _curve(steps, values)
    centred = y - y.mean()
    size, flat = float(centred.norm()), torch.full_like(y, float(y.mean()))
    constant = size <= math.sqrt(ROUNDING) * float(y.abs().max())
    target, away = centred / size, 1.5 * (x[-1] - x[0]) * 2.0 ** torch.arange(-9, 1)
    places = torch.cat([x[0] - away.flip(0), x, x[-1] + away])  # where a line may lie: also out of sight
    p_flat = 1.0 if constant else _p_flat(x, target, places, generator)
    if p_flat > FALSE_ALARMS:
        return Emergence(Course.NOTHING, NEVER, NEVER, NEVER, p_flat, flat, 0.0)
    ramps, logistics = (_fits(x, target, places, shape) for shape in (RAMP, LOGISTIC))
    at, low, high, misfit = (torch.cat(two, -1) for two in zip(ramps, logistics, strict=True))
    least = misfit.min()
    good = misfit <= _limit(len(x), CUT) * least
    # the middle of those as good: within the gap between two snapshots every step is
    at = at[:, misfit <= least * (1 + 1e-6)].mean(1)
    curve = _curves(x, at[::2, None], RAMP if ramps[-1].min() <= least else LOGISTIC)[0]
    seen = torch.stack([at, low[:, good].amin(1), high[:, good].amax(1)], 1)
    seen = seen.where(seen >= x[0], -math.inf).where(seen <= x[-1], math.inf)
    onset, midpoint, saturation = (Moment(*row) for row in seen.tolist())
    course = Course.UNFINISHED if saturation.high == math.inf else Course.COMPLETE
    fitted = flat + (curve @ centred) * curve
    return Emergence(course, onset, midpoint, saturation, p_flat, fitted, float(fitted[-1] - fitted[0]))


def _curve(steps: Numbers, values: Numbers) -> tuple[Steps, Steps]:
    if len(steps) != len(values):
        raise ValueError(f"values = {len(values)}: must be one for each of the {len(steps)} steps")
    if len(steps) < MIN_POINTS:
        raise ValueError(f"steps = {len(steps)}: must be at least {MIN_POINTS}")
    x, y = (torch.tensor([float(v) for v in column], dtype=torch.float64) for column in (steps, values))
    for name, column in (("steps", x), ("values", y)):
        if not column.isfinite().all():
            raise ValueError(f"{name} = {float(column[~column.isfinite()][0])}: must be finite numbers")
    if (x.diff() <= 0).any():
        raise ValueError(f"steps = {float(x[1:][x.diff() <= 0][0]):g} out of order: must increase")
    return x, y


def _limit(n: int, level: float) -> float:
    """The sum of squares, in units of the least, at which the F test rejects one parameter of four."""
    return 1 + float(stdtrit(n - 4, (1 + level) / 2)) ** 2 / (n - 4)


def _lattice(
    x: Steps, places: Places, box: Float[Tensor, "2 2"], n_lines: int
) -> tuple[Float[Tensor, "2 line"], Int[Tensor, "2 pair"]]:
    """Onsets and saturations, spaced as the places, within shares of these; and which pair up to a rise in sight."""
    at = (box[:, :1] + box.diff() * torch.linspace(0, 1, n_lines, dtype=torch.float64)) * (len(places) - 1)
    below = at.long().clamp_max(len(places) - 2)
    lines = torch.lerp(places[below], places[below + 1], at - below)
    onsets, saturations = lines[0, :, None], lines[1]
    return lines, ((onsets < saturations) & (onsets < x[-1]) & (saturations > x[0])).nonzero().T


def _curves(x: Steps, ends: Float[Tensor, "2 pair"], shape: str) -> Float[Tensor, "pair step"]:
    """Rises of mean 0 and sum of squares 1, from onsets to saturations."""
    onset, saturation = ends[:, :, None]
    curves = (x - (onset + saturation) / 2) / (saturation - onset)
    curves = curves.add_(0.5).clamp_(0, 1) if shape == RAMP else curves.mul_(2 * math.log(9)).sigmoid_()
    curves -= curves.mean(1, keepdim=True)
    return curves.div_(curves.norm(dim=1, keepdim=True).clamp_min(1e-9))


def _p_flat(x: Steps, target: Steps, places: Places, generator: torch.Generator) -> float:
    """Share of permutations that ramps fit as well, the curve itself counted as one of them."""
    lines, pairs = _lattice(x, places, WHOLE, N_FIRST_LINES)
    curves = _curves(x, lines.gather(1, pairs), RAMP)
    order = torch.rand(len(x), N_PERMUTATIONS, generator=generator).argsort(0)
    explained = (curves.float() @ torch.cat([target[:, None], target[order]], 1).float()).abs().amax(0)
    return (1 + int((explained[1:] >= explained[0] - 1e-5).sum())) / (1 + N_PERMUTATIONS)


def _fits(x: Steps, target: Steps, places: Places, shape: str) -> tuple[Float[Tensor, "... pair"], ...]:
    """Onsets, midpoints and saturations; the same one line lower, and higher; and the sums of squares they leave.

    A lattice is drawn closer around what the F test keeps until this fills it.
    """
    box, n_lines, n_zooms = WHOLE, N_FIRST_LINES, 0
    while True:
        lines, pairs = _lattice(x, places, box, n_lines)
        misfit = (1 - (_curves(x, lines.gather(1, pairs), shape) @ target).square()).clamp_min(ROUNDING)
        kept = pairs[:, misfit <= _limit(len(x), WIDE_CUT) * misfit.min()]
        ends = torch.stack([kept.amin(1) - 2, kept.amax(1) + 2], 1).clamp(0, n_lines - 1)
        if n_zooms == MAX_ZOOMS or (n_zooms and ends.diff().min() > FULL * (n_lines - 1)):
            break
        box, n_lines, n_zooms = box[:, :1] + box.diff() * ends / (n_lines - 1), N_LINES, n_zooms + 1
    at, low, high = (MIX @ lines.gather(1, (pairs + by).clamp(0, n_lines - 1)) for by in (0, -1, 1))
    share = torch.tensor([[1.0], [0.25], [1.0]]).double()  # midpoints of pairs lie closer than lines
    return at, torch.lerp(at, low, share), torch.lerp(at, high, share), misfit


@dataclass(frozen=True)
class Survival:
    """In what share of runs something had emerged by a step; before the first of `steps` that is 0.

    Attributes:
        steps: at which it emerged in some run, increasing.
        share, low, high: of runs, from that step on, with a 95% interval.
        median: the step by which half had; inf where fewer have.
        n_runs, n_censored: of all, and those that ended before it emerged.
    """

    steps: Float[Tensor, "event"]
    share: Float[Tensor, "event"]
    low: Float[Tensor, "event"]
    high: Float[Tensor, "event"]
    median: Moment
    n_runs: int
    n_censored: int


def survival(moments: Moments, ends: Numbers) -> Survival:
    """In what share of runs something had emerged by each step, runs that ended without it counted as such.

    Kaplan & Meier 1958; intervals by the log-log transform of Greenwood's formula (Borgan & Liestøl
    1990), those of the median where that of the share holds a half (Brookmeyer & Crowley 1982).

    Args:
        moments: one a run, inf where nothing emerged; -inf counts as step 0.
        ends: last step of each run.

    Raises:
        ValueError: too few runs, other lengths, no number, an end that is not finite, or a moment after its end.
    """
    at, until = _steps("moments", moments), _steps("ends", ends, len(moments))
    if not until.isfinite().all():
        raise ValueError(f"ends = {float(until[~until.isfinite()][0])}: must be finite")
    emerged = at < math.inf
    if (late := emerged & (at > until)).any():
        raise ValueError(f"moments = {float(at[late][0]):g}: must be at most the run's end, {float(until[late][0]):g}")
    at = at.clamp_min(0)
    data = CensoredData(uncensored=at[emerged].tolist(), right=until[~emerged].tolist())
    with warnings.catch_warnings(action="ignore"):  # that the formula says nothing of none and of all
        left = ecdf(data).sf
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


def _steps(name: str, moments: Moments, n_runs: int | None = None) -> Float[Tensor, "run"]:
    if n_runs is not None and len(moments) != n_runs:
        raise ValueError(f"{name} = {len(moments)} runs: must be the same {n_runs} as the other")
    if len(moments) < MIN_SEEDS:
        raise ValueError(f"{name} = {len(moments)} runs: must be at least {MIN_SEEDS}")
    at = torch.tensor([float(m.step if isinstance(m, Moment) else m) for m in moments], dtype=torch.float64)
    if at.isnan().any():
        raise ValueError(f"{name} = nan: must be steps, or inf for never")
    return at


@dataclass(frozen=True)
class Lag:
    """By how many steps one thing came before another in the same runs.

    Attributes:
        mean, median: of second less first, over the runs in which both emerged; None if these are too few.
        before: share in which the first came first, of the runs whose order is known; None if there are none.
        n_runs, n_censored: of all, and those in which either did not emerge: if the other did, the order is known.
        n_unordered: in which neither emerged, or both at the same step.
    """

    mean: Moment | None
    median: Moment | None
    before: Interval | None
    n_runs: int
    n_censored: int
    n_unordered: int


def lag(first: Moments, second: Moments, generator: torch.Generator) -> Lag:
    """By how many steps the first of two things came before the second, and in what share of runs.

    Intervals are from 4000 resamples of runs: of the median between their quantiles, of the mean between those
    that make up for few runs as Student's t does (Hesterberg 2015, What Teachers Should Know About the Bootstrap).
    For 5 to 20 runs with normal lags they covered 91 to 96% of the time; the mean of exponential ones 87 to 92%.

    Args:
        first, second: one a run, inf where it never emerged; runs in the same order.
        generator: of resamples.

    Raises:
        ValueError: too few runs, other lengths, or no number.
    """
    a, b = _steps("first", first), _steps("second", second, len(first))
    both = a.isfinite() & b.isfinite()
    lags, n_ordered = (b - a)[both], int((a != b).sum())
    mean = median = None
    if (n := len(lags)) >= MIN_SEEDS:
        resamples = lags[torch.randint(n, (N_RESAMPLES, n), generator=generator)]
        tail = float(ndtr(-math.sqrt(n / (n - 1)) * stdtrit(n - 1, 0.975)))
        levels = torch.tensor([tail, 1 - tail, 0.025, 0.975], dtype=torch.float64)
        mean = Moment(float(lags.mean()), *resamples.mean(1).quantile(levels[:2]).tolist())
        median = Moment(float(lags.quantile(0.5)), *resamples.quantile(0.5, dim=1).quantile(levels[2:]).tolist())
    before = wilson(int((a < b).sum()), n_ordered) if n_ordered else None
    return Lag(mean, median, before, len(a), int((~both).sum()), len(a) - n_ordered)


@dataclass(frozen=True)
class Rise:
    """The trend of a curve, with 95% intervals.

    Attributes:
        slope, total: in units of the values, per 1000 steps and from the first point to the last.
        correlation: of the noise of neighbouring points.
    """

    slope: Interval
    total: Interval
    correlation: float


def still_rising(steps: Numbers, values: Numbers, since: int | float) -> Rise:
    """Whether a curve goes on rising after a step, as when an accuracy has long been flat.

    A straight line plus noise whose correlation is r over the median spacing and falls exponentially (AR(1) on evenly
    spaced points). Intervals are of the slope's posterior under flat priors of the line, 1 / sd of the noise and
    1 / sqrt(1 - r^2) of r below 0.98: Student's t for each r, weighted by the restricted likelihood (Harville 1974).

    Of flat AR(1) curves of 8 to 100 points at most 4% were off 0 for r up to 0.5 and 7% for r = 0.8, but 13% for 0.9
    (20 points), and 22% where white noise was added to r = 0.9 (60 points). 500 draws each.

    Args:
        steps, values: as for `emergence`.
        since: the first step to count, with at least `MIN_POINTS` from it on.

    Raises:
        ValueError: as for `emergence`.
    """
    x, y = _curve(steps, values)
    n = int((x >= since).sum())
    if n < MIN_POINTS:
        raise ValueError(f"since = {since:g}: must leave at least {MIN_POINTS} points, leaves {n}")
    x, y = x[-n:], y[-n:]
    span, size = float(x[-1] - x[0]), float((y - y.mean()).norm())
    if size <= math.sqrt(ROUNDING) * float(y.abs().max()):
        return Rise(Interval(0.0, 0.0, 0.0), Interval(0.0, 0.0, 0.0), 0.0)
    columns = torch.stack([torch.ones_like(x), (x - x.mean()) / span, (y - y.mean()) / size], 1)
    r = ((torch.arange(N_CORRELATIONS) + 0.5) / N_CORRELATIONS * math.asin(MAX_CORRELATION)).double().sin()
    root = torch.linalg.cholesky(r[:, None, None] ** ((x[:, None] - x).abs() / x.diff().median()))
    gram = columns.T @ torch.cholesky_solve(columns.expand(len(r), n, 3), root)
    inverse = torch.linalg.inv(gram[:, :2, :2])
    line = (inverse @ gram[:, :2, 2:]).squeeze(2)
    left = (gram[:, 2, 2] - (gram[:, :2, 2] * line).sum(1)).clamp_min(ROUNDING)
    log_weight = inverse.logdet() / 2 - root.diagonal(dim1=1, dim2=2).log().sum(1) - (n - 2) / 2 * left.log()
    weight, rise, sd = log_weight.softmax(0), line[:, 1], (left / (n - 2) * inverse[:, 1, 1]).sqrt()

    def quantile(level: float) -> float:
        def beyond(at: float) -> float:
            return float(weight @ torch.from_numpy(stdtr(n - 2, ((at - rise) / sd).numpy()))) - level

        far = float(stdtrit(n - 2, 1 - 1e-6)) * sd
        return float(brentq(beyond, float((rise - far).min()), float((rise + far).max())))  # pyright: ignore

    total = [size * value for value in (float(weight @ rise), quantile(0.025), quantile(0.975))]
    return Rise(Interval(*(v * 1000 / span for v in total)), Interval(*total), float(weight @ r))


class RiseOverSeeds(NamedTuple):
    """Of `rising_over_seeds`: the mean total rise in units of the values, what it says, and of how many runs."""

    mean: Interval
    verdict: Verdict
    n_runs: int


def rising_over_seeds(totals: Sequence[float], least: float = 0.0) -> RiseOverSeeds:
    """Whether curves go on rising in the mean over runs: Student's t of their total rises, the runs being the sample.

    Args:
        totals: rise of each run (see `Rise.total`).
        least: the mean rise, in units of the values, to exceed ("yes") or not to ("no").

    Raises:
        ValueError: too few runs.
    """
    if (n := len(totals)) < MIN_SEEDS:
        raise ValueError(f"totals = {n} runs: must be at least {MIN_SEEDS}")
    mean = statistics.fmean(totals)
    half = float(stdtrit(n - 1, 0.975)) * statistics.stdev(totals) / math.sqrt(n)
    verdict: Verdict = "yes" if mean - half > least else "no" if mean + half <= least else "undecided"
    return RiseOverSeeds(Interval(mean, mean - half, mean + half), verdict, n)
