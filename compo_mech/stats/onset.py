"""Onset, midpoint and saturation of a curve over training, with intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from compo_mech.model.finite import check_finite

MIN_POINTS, MIN_SEEDS = 8, 5
FALSE_ALARMS, N_PERMUTATIONS, N_RESAMPLES = 0.05, 399, 4000

GONE, BEGUN = 0.5, 0.25
"""A rise of which more than this fraction lay before the first step has its midpoint, or the point from which it is
dated, there."""

CUT, WIDE_CUT = 0.96, 0.99
"""Levels of F tests: of 95% intervals (at 0.95 those of wide logistics covered 91 to 93%, as kinks break the test's
assumption of a smooth likelihood), and of what lattices close in on."""
N_FIRST_LINES, N_LINES, MAX_ZOOMS, FULL = 64, 48, 12, 0.6
ROUNDING = 1e-12  # of a curve's sum of squares: less is as good as none
RAMP, LOGISTIC = "ramp", "logistic"
WHOLE = torch.tensor([[0.0, 1.0], [0.0, 1.0]]).double()
MIX = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]).double()  # to onset, midpoint, saturation
Numbers = Sequence[int | float]
Steps = Float[Tensor, "step"]
Knots = Float[Tensor, "knot"]


def reached(steps: Sequence[int], values: Sequence[float], level: float) -> int | None:
    """Return the first step from which on the curve stays at or above `level`; None if it does not end there.

    Raises:
        ValueError: a value is not finite.
    """
    check_finite("values", torch.tensor(values, dtype=torch.float64))
    since = None
    for step, value in zip(steps, values, strict=True):
        if value < level:
            since = None
        elif since is None:
            since = step
    return since


class Moment(NamedTuple):
    """A step, or a number of steps, with its 95% interval. inf: censored; -inf: before the first."""

    step: float
    low: float
    high: float


Moments = Sequence[Moment | int | float]  # one a run; intervals are not used
CENSORED = Moment(math.inf, math.inf, math.inf)
UNDATED = Moment(math.nan, math.nan, math.nan)


class Course(StrEnum):
    """Whether a curve rose, and which of its plateaus were seen."""

    NOTHING = "nothing"
    UNFINISHED = "unfinished"
    """Its saturation may lie after the last step."""
    COMPLETE = "complete"
    ALREADY_HIGH = "already high"
    """It had left its first plateau before the first step: nothing is dated."""
    THROUGHOUT = "rises throughout"
    """It leaves no plateau that is seen, but rises from the first step on: nothing is dated."""

    @property
    def dated(self) -> bool:
        """Whether moments are known, be it that they did not come."""
        return self not in (Course.ALREADY_HIGH, Course.THROUGHOUT)


@dataclass(frozen=True)
class Emergence:
    """What `emergence` found in one curve.

    Attributes:
        course: whether anything emerged, and whether its plateau was reached.
        onset, midpoint, saturation: steps with intervals; inf if nothing emerged, nan if it cannot be dated.
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


def emergence(steps: Numbers, values: Numbers, generator: torch.Generator, before: float | None = None) -> Emergence:
    """Estimate when a curve leaves one plateau, reaches its midpoint, and reaches the other plateau.

    Draw a line through the points at 25% and 75% of the rise. Onset and saturation are where it meets the plateaus, the
    midpoint is at 50% of the rise. On a ramp these are the kinks and the middle; on a logistic the steps at 10%, 50%
    and 90% of the rise (ln 9 = 2 ln 3). Least squares choose between a ramp and a logistic, rising or falling.
    Intervals hold every onset (midpoint, saturation) with which some ramp or logistic fits by the F test: profile
    likelihood over the other parameters, plateaus and shape (Seber & Wild 1989, Nonlinear Regression, 5.4). Whether
    there is a rise at all is a permutation test of the fit of ramps, exact for independent noise.

    Where it is known from where the curve came (`before`), a rise is dated only if it is seen. It is `ALREADY_HIGH` if
    at the first step it had gone more than half of the way from there to its end, and more than two standard deviations
    of the noise. It is `THROUGHOUT` if no line fits whose point at 25% of the rise lies after the first step, as where
    the upper half of a logistic is all that there is; if it may have begun before the first step and had gone more than
    25% of the way, since any ramp that began earlier fits as well; and if neither plateau is seen, as on a straight
    line. Else moments are those of the lines that have this point, so that no midpoint is before the first step; an
    onset may be. A saturation that may lie after the last step but one may lie after the last: a plateau of one step
    is none.

    Over 500 draws each of ramps, logistics and abrupt steps with independent noise of 2 to 10% of the rise, on 40 to
    200 points, equally spaced or not, with plateaus down to 2% of the curve, intervals covered 94 to 98% of the time.
    Those of abrupt steps covered up to 99%: all steps between two snapshots fit as well. Where noise correlates by
    0.3 (0.5) between neighbours they cover 87% (75%), and 29% (53%) of 100-point flat curves are taken for an
    emergence.

    Args:
        steps: increasing, at least `MIN_POINTS`, spaced in any way.
        values: of any range.
        generator: of permutations.
        before: value before the first step, as of a randomly initialised control; None: unknown.

    Raises:
        ValueError: too few points, lengths that differ, a value that is not finite, or steps that do not increase.
    """
    x, y = checked_curve(steps, values)
    centred = y - y.mean()
    size, flat = float(centred.norm()), torch.full_like(y, float(y.mean()))
    constant = size <= math.sqrt(ROUNDING) * float(y.abs().max())
    target, away = centred / size, 1.5 * (x[-1] - x[0]) * 2.0 ** torch.arange(-9, 1)
    knots = torch.cat([x[0] - away.flip(0), x, x[-1] + away])  # where a line may lie: also out of sight
    p_flat = 1.0 if constant else _p_flat(x, target, knots, generator)
    if p_flat > FALSE_ALARMS:
        return Emergence(Course.NOTHING, CENSORED, CENSORED, CENSORED, p_flat, flat, 0.0)
    fits = _Fits.of(*(_fits(x, target, knots, shape) for shape in (RAMP, LOGISTIC)))
    return _dated(x, y, fits, p_flat, before)


def _dated(x: Steps, y: Steps, fits: "_Fits", p_flat: float, before: float | None) -> Emergence:
    """What the lines that fit say of a curve that is not flat."""
    good = fits.misfit <= _limit(len(x), CUT) * fits.misfit.min()
    fitted = fits.best(x, y)[1]
    undated = partial(Emergence, onset=UNDATED, midpoint=UNDATED, saturation=UNDATED, p_flat=p_flat)
    if before is not None:
        if _gone(y, fitted, before) > GONE:
            return undated(Course.ALREADY_HIGH, fitted=fitted, rise=float(fitted[-1] - fitted[0]))
        good &= fits.at[:2].mean(0) >= x[0]  # between onset and midpoint: the point at 25%
        if not good.any():
            return undated(Course.THROUGHOUT, fitted=fitted, rise=float(fitted[-1] - fitted[0]))
    kept = fits.only(good)
    at, fitted = kept.best(x, y)
    moments = torch.stack([at, kept.low.amin(1), kept.high.amax(1)], 1)
    if before is not None:
        moments[1:] = moments[1:].clamp_min(x[0])  # of low, which is a line further than those kept
    moments = moments.where(moments >= x[0], -math.inf).where(moments <= x[-1], math.inf)
    if moments[2, 2] > x[-2]:  # of the plateau one step at most is seen, which may as well lie on the way up
        moments[2, 2] = math.inf
    onset, midpoint, saturation = (Moment(*row) for row in moments.tolist())
    rise = float(fitted[-1] - fitted[0])
    course = Course.UNFINISHED if saturation.high == math.inf else Course.COMPLETE
    if (
        before is not None
        and onset.low == -math.inf  # its onset is not seen
        and (course is Course.UNFINISHED or _gone(y, fitted, before) > BEGUN)
    ):
        return undated(Course.THROUGHOUT, fitted=fitted, rise=rise)
    return Emergence(course, onset, midpoint, saturation, p_flat, fitted, rise)


def _gone(y: Steps, fitted: Steps, before: float) -> float:
    """Return the fraction of the way to the end that lay before the first step; 0 where it is within the noise, or the
    curve goes back the way that it came."""
    gone, whole = float(fitted[0]) - before, float(fitted[-1]) - before
    noise = float((y - fitted).square().mean().sqrt())
    return gone / whole if gone * (whole - gone) > 0 and abs(gone) > 2 * noise else 0.0


class _Fits(NamedTuple):
    """Lines, ramps first: onset, midpoint and saturation of each, those of its neighbours, and the sum of squares that
    it leaves."""

    at: Float[Tensor, "3 pair"]
    low: Float[Tensor, "3 pair"]
    high: Float[Tensor, "3 pair"]
    misfit: Float[Tensor, "pair"]
    n_ramps: int

    @classmethod
    def of(cls, ramps: tuple[Tensor, ...], logistics: tuple[Tensor, ...]) -> "_Fits":
        at, low, high, misfit = (torch.cat(two, -1) for two in zip(ramps, logistics, strict=True))
        return cls(at, low, high, misfit, ramps[-1].numel())

    def only(self, kept: Bool[Tensor, "pair"]) -> "_Fits":
        """The lines that are kept."""
        at, low, high = (found[:, kept] for found in (self.at, self.low, self.high))
        return _Fits(at, low, high, self.misfit[kept], int(kept[: self.n_ramps].sum()))

    def best(self, x: Steps, y: Steps) -> tuple[Float[Tensor, "3"], Steps]:
        """Onset, midpoint and saturation of the best, and its curve."""
        least, centred = self.misfit.min(), y - y.mean()
        # the middle of those as good: within the gap between two snapshots every step is
        at = self.at[:, self.misfit <= least * (1 + 1e-6)].mean(1)
        shape = RAMP if (self.misfit[: self.n_ramps] <= least).any() else LOGISTIC
        curve = _curves(x, at[::2, None], shape)[0]
        return at, y.mean() + (curve @ centred) * curve


def checked_curve(steps: Numbers, values: Numbers) -> tuple[Steps, Steps]:
    """Return steps and values in double precision.

    Raises:
        ValueError: as `emergence`.
    """
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
    import scipy

    return 1 + float(scipy.special.stdtrit(n - 4, (1 + level) / 2)) ** 2 / (n - 4)


def _lattice(
    x: Steps, knots: Knots, box: Float[Tensor, "2 2"], n_lines: int
) -> tuple[Float[Tensor, "2 line"], Int[Tensor, "2 pair"]]:
    """Candidate onsets and saturations, spaced as the given points, within the given fractions of their range; and
    which pairs form a visible rise."""
    at = (box[:, :1] + box.diff() * torch.linspace(0, 1, n_lines, dtype=torch.float64)) * (len(knots) - 1)
    below = at.long().clamp_max(len(knots) - 2)
    lines = torch.lerp(knots[below], knots[below + 1], at - below)
    onsets, saturations = lines[0, :, None], lines[1]
    return lines, ((onsets < saturations) & (onsets < x[-1]) & (saturations > x[0])).nonzero().T


def _curves(x: Steps, ends: Float[Tensor, "2 pair"], shape: str) -> Float[Tensor, "pair step"]:
    """Rises of mean 0 and sum of squares 1, from onsets to saturations."""
    onset, saturation = ends[:, :, None]
    curves = (x - (onset + saturation) / 2) / (saturation - onset)
    curves = curves.add_(0.5).clamp_(0, 1) if shape == RAMP else curves.mul_(2 * math.log(9)).sigmoid_()
    curves -= curves.mean(1, keepdim=True)
    return curves.div_(curves.norm(dim=1, keepdim=True).clamp_min(1e-9))


def _p_flat(x: Steps, target: Steps, knots: Knots, generator: torch.Generator) -> float:
    """Fraction of permutations that ramps fit as well, the curve itself counted as one of them."""
    lines, pairs = _lattice(x, knots, WHOLE, N_FIRST_LINES)
    curves = _curves(x, lines.gather(1, pairs), RAMP)
    order = torch.rand(len(x), N_PERMUTATIONS, generator=generator).argsort(0)
    explained = (curves.float() @ torch.cat([target[:, None], target[order]], 1).float()).abs().amax(0)
    return (1 + int((explained[1:] >= explained[0] - 1e-5).sum())) / (1 + N_PERMUTATIONS)


def _fits(x: Steps, target: Steps, knots: Knots, shape: str) -> tuple[Float[Tensor, "... pair"], ...]:
    """Onsets, midpoints and saturations; the same one line lower, and higher; and the sums of squares they leave.

    A lattice is refined around what the F test keeps until this fills it.
    """
    box, n_lines, n_zooms = WHOLE, N_FIRST_LINES, 0
    while True:
        lines, pairs = _lattice(x, knots, box, n_lines)
        misfit = (1 - (_curves(x, lines.gather(1, pairs), shape) @ target).square()).clamp_min(ROUNDING)
        kept = pairs[:, misfit <= _limit(len(x), WIDE_CUT) * misfit.min()]
        ends = torch.stack([kept.amin(1) - 2, kept.amax(1) + 2], 1).clamp(0, n_lines - 1)
        if n_zooms == MAX_ZOOMS or (n_zooms and ends.diff().min() > FULL * (n_lines - 1)):
            break
        box, n_lines, n_zooms = box[:, :1] + box.diff() * ends / (n_lines - 1), N_LINES, n_zooms + 1
    at, low, high = (MIX @ lines.gather(1, (pairs + by).clamp(0, n_lines - 1)) for by in (0, -1, 1))
    share = torch.tensor([[1.0], [0.25], [1.0]]).double()  # midpoints of pairs lie closer than lines
    return at, torch.lerp(at, low, share), torch.lerp(at, high, share), misfit
