"""Onset, midpoint and saturation of a curve over training, with intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import scipy  # its parts load when they are first asked for
import torch
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.model.finite import check_finite

MIN_POINTS, MIN_SEEDS = 8, 5
FALSE_ALARMS, N_PERMUTATIONS, N_RESAMPLES = 0.05, 399, 4000

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


class Course(StrEnum):
    """Whether a curve rose, and whether its plateau was reached: the saturation of an unfinished rise may lie after the
    last step."""

    NOTHING = "nothing"
    UNFINISHED = "unfinished"
    COMPLETE = "complete"


@dataclass(frozen=True)
class Emergence:
    """What `emergence` found in one curve.

    Attributes:
        course: whether anything emerged, and whether its plateau was reached.
        onset, midpoint, saturation: steps with intervals; inf if nothing emerged.
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
    """Estimate when a curve leaves one plateau, reaches its midpoint, and reaches the other plateau.

    Draw a line through the points at 25% and 75% of the rise. Onset and saturation are where it meets the plateaus, the
    midpoint is at 50% of the rise. On a ramp these are the kinks and the middle; on a logistic the steps at 10%, 50%
    and 90% of the rise (ln 9 = 2 ln 3). Least squares choose between a ramp and a logistic, rising or falling.
    Intervals hold every onset (midpoint, saturation) with which some ramp or logistic fits by the F test: profile
    likelihood over the other parameters, plateaus and shape (Seber & Wild 1989, Nonlinear Regression, 5.4). Whether
    there is a rise at all is a permutation test of the fit of ramps, exact for independent noise.

    Over 500 draws each of ramps, logistics and abrupt steps with independent noise of 2 to 10% of the rise, on 40 to
    200 points, equally spaced or not, with plateaus down to 2% of the curve, intervals covered 94 to 98% of the time.
    Those of abrupt steps covered up to 99%: all steps between two snapshots fit as well. Where noise correlates by
    0.3 (0.5) between neighbours they cover 87% (75%), and 29% (53%) of 100-point flat curves are taken for an
    emergence.

    Args:
        steps: increasing, at least `MIN_POINTS`, spaced in any way.
        values: of any range.
        generator: of permutations.

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
    ramps, logistics = (_fits(x, target, knots, shape) for shape in (RAMP, LOGISTIC))
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
