"""From curves over training to when something came about, in how many runs, in which order, and whether it goes on.

Everything is reckoned in plain steps: of ramps and logistics in steps, their square root and their logarithm
those in steps came nearest to curves of real runs.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit
from scipy.stats import CensoredData, ecdf
from torch import Tensor

from compo_mech.metrics import Interval, wilson

MIN_POINTS, MIN_SEEDS = 8, 5
FALSE_ALARMS, N_PERMUTATIONS = 0.05, 399
CUT = 0.96
"""Level of the F test that an onset must fail to be left out of its 95% interval. By simulation: at 0.95 intervals of
wide logistics cover 91 to 93%, as two changes of slope do not meet the test's assumption of a smooth likelihood."""
N_FIRST_LINES, N_LINES, MAX_ZOOMS, MARGIN = 100, 48, 12, 2.0
ROUNDING = 1e-12
"""Of a curve's sum of squares: less is as good as none."""
N_RESAMPLED = 4000
MAX_CORRELATION, N_CORRELATIONS = 0.97, 60
RAMP, LOGISTIC = "ramp", "logistic"


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
    """A step with its 95% interval. inf: after the last step looked at, or never; -inf: before the first."""

    step: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.step:.0f} ({self.low:.0f} .. {self.high:.0f})"


NEVER = Moment(math.inf, math.inf, math.inf)


class Course(IntEnum):
    """How far a curve has come: the saturation of an unfinished one may lie after the last step."""

    NOTHING = 0
    UNFINISHED = 1
    COMPLETE = 2

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class Emergence:
    """What `emergence` found in one curve.

    Attributes:
        course: whether anything emerged, and whether its end was seen.
        onset, midpoint, saturation: when; never if nothing emerged.
        p_flat: of permutations of the values, the share that fit as well (one more counted on either side).
        fitted: the curve that fits best; the mean where nothing emerged.
    """

    course: Course
    onset: Moment
    midpoint: Moment
    saturation: Moment
    p_flat: float
    fitted: Float[Tensor, "step"]

    @property
    def rise(self) -> float:
        """Of the fitted curve from its first step to its last; negative if it falls."""
        return float(self.fitted[-1] - self.fitted[0])


def emergence(steps: Sequence[float], values: Sequence[float], generator: torch.Generator) -> Emergence:
    """When a curve left one plateau, was half way, and came to the other.

    Draw a line through the points where 25% and 75% of the rise are done. Onset and saturation are
    where it meets the plateaus, the midpoint where half is done. On a ramp these are the kinks and the
    middle; on a logistic the steps where 10%, 50% and 90% are done (ln 9 = 2 ln 3). Least squares
    choose between a ramp and a logistic, rising or falling. Intervals hold every onset (or midpoint, or
    saturation) with which some ramp or logistic fits by the F test: a profile likelihood over the
    other parameters, plateaus and shape. Whether there is anything at all is told by the fit of ramps
    to permuted values, which is exact whatever the noise's distribution.

    Noise is taken to be independent between steps and of the same size; slow drifts look like a rise.

    Args:
        steps: increasing, at least `MIN_POINTS`, spaced in any way.
        values: of any range.
        generator: of permutations.

    Raises:
        ValueError: too few points, other lengths, a value that is no finite number, or steps that do not increase.
    """
    x, y = _curve(steps, values)
    centred = y - y.mean()
    size = float(centred.norm())
    if size <= math.sqrt(ROUNDING) * float(y.abs().max()):
        return Emergence(Course.NOTHING, NEVER, NEVER, NEVER, 1.0, y.mean().expand(len(y)))
    target = centred / size
    places = _places(x)
    p_flat = _p_flat(x, target, places, generator)
    if p_flat > FALSE_ALARMS:
        return Emergence(Course.NOTHING, NEVER, NEVER, NEVER, p_flat, y.mean().expand(len(y)))
    lattices = [_zoom(x, target, places, shape) for shape in (RAMP, LOGISTIC)]
    best = min(lattices, key=lambda lattice: float(lattice.misfit.min()))
    limit = _limit(len(x), CUT) * float(best.misfit.min())
    spans = [lattice.spans(limit) for lattice in lattices if lattice.misfit.min() <= limit]
    row, column = divmod(int(best.misfit.argmin()), len(best.saturations))
    onset, saturation = float(best.onsets[row]), float(best.saturations[column])
    moments = [
        Moment(*(_seen(step, x) for step in (at, min(s[i][0] for s in spans), max(s[i][1] for s in spans))))
        for i, at in enumerate((onset, (onset + saturation) / 2, saturation))
    ]
    course = Course.UNFINISHED if moments[2].high == math.inf else Course.COMPLETE
    curve = _curves(x, best.onsets[row, None], best.saturations[column, None], best.shape)[0]
    return Emergence(course, *moments, p_flat, y.mean() + (curve @ centred) * curve)


def _curve(steps: Sequence[float], values: Sequence[float]) -> tuple[Float[Tensor, "step"], Float[Tensor, "step"]]:
    if len(steps) != len(values):
        raise ValueError(f"values = {len(values)}: must be one for each of the {len(steps)} steps")
    if len(steps) < MIN_POINTS:
        raise ValueError(f"steps = {len(steps)}: must be at least {MIN_POINTS}")
    x, y = (torch.tensor([float(v) for v in column], dtype=torch.float64) for column in (steps, values))
    for name, column in (("steps", x), ("values", y)):
        if not column.isfinite().all():
            raise ValueError(f"{name} = {column[~column.isfinite()][0]:g}: must be finite numbers")
    if (x.diff() <= 0).any():
        raise ValueError(f"steps = {float(x[1:][x.diff() <= 0][0]):g} out of order: must increase")
    return x, y


def _seen(step: float, x: Float[Tensor, "step"]) -> float:
    return -math.inf if step < x[0] else math.inf if step > x[-1] else step


def _limit(n: int, level: float) -> float:
    """The sum of squares, in units of the least, at which the F test rejects one parameter of four."""
    return 1 + float(stdtrit(n - 4, (1 + level) / 2)) ** 2 / (n - 4)


def _places(x: Float[Tensor, "step"]) -> Float[Tensor, "place"]:
    """The steps, and beyond either end, at distances that double, as far as one and a half curves."""

    def beyond(gap: float) -> Tensor:
        n = math.ceil(math.log2(1 + 1.5 * float(x[-1] - x[0]) / gap))
        return gap * (2.0 ** torch.arange(1, n + 1, dtype=torch.float64) - 1)

    return torch.cat([x[0] - beyond(float(x[1] - x[0])).flip(0), x, x[-1] + beyond(float(x[-1] - x[-2]))])


def _curves(
    x: Float[Tensor, "step"], onset: Float[Tensor, "pair"], saturation: Float[Tensor, "pair"], shape: str
) -> Float[Tensor, "pair step"]:
    """Rises of mean 0 and sum of squares 1."""
    done = (x - ((onset + saturation) / 2)[:, None]) / (saturation - onset)[:, None]
    curves = (done + 0.5).clamp(0, 1) if shape == RAMP else (done * 2 * math.log(9)).sigmoid()
    curves = curves - curves.mean(1, keepdim=True)
    return curves / curves.norm(dim=1, keepdim=True).clamp_min(1e-9)


def _pairs(
    x: Float[Tensor, "step"], onsets: Float[Tensor, "onset"], saturations: Float[Tensor, "saturation"]
) -> Bool[Tensor, "onset saturation"]:
    """Which pairs are in order, with something of the rise between the first step and the last."""
    return (onsets[:, None] < saturations) & (onsets[:, None] < x[-1]) & (saturations > x[0])


def _between(places: Float[Tensor, "place"], at: Float[Tensor, "line"]) -> Float[Tensor, "line"]:
    """Steps at numbers of places, fractions included."""
    below = at.floor().long().clamp(0, len(places) - 2)
    return torch.lerp(places[below], places[below + 1], at - below)


def _first_lines(places: Float[Tensor, "place"]) -> Float[Tensor, "line"]:
    n = len(places)
    return torch.linspace(0, n - 1, min(N_FIRST_LINES, 2 * n - 1), dtype=torch.float64)


def _p_flat(
    x: Float[Tensor, "step"],
    target: Float[Tensor, "step"],
    places: Float[Tensor, "place"],
    generator: torch.Generator,
) -> float:
    lines = _between(places, _first_lines(places))
    row, column = _pairs(x, lines, lines).nonzero(as_tuple=True)
    curves = _curves(x, lines[row], lines[column], RAMP)
    order = torch.rand(len(x), N_PERMUTATIONS, generator=generator, dtype=torch.float64).argsort(0)
    explained = (curves @ torch.cat([target[:, None], target[order]], 1)).abs().amax(0)
    return (1 + int((explained[1:] >= explained[0] - ROUNDING).sum())) / (1 + N_PERMUTATIONS)


@dataclass(frozen=True)
class _Lattice:
    """Sums of squares left by curves of one shape, 1 being those of a flat line; inf: no curve."""

    shape: str
    onsets: Float[Tensor, "onset"]
    saturations: Float[Tensor, "saturation"]
    misfit: Float[Tensor, "onset saturation"]

    def spans(self, limit: float) -> list[tuple[float, float]]:
        """Least and greatest onset, midpoint and saturation within the limit, a line (midpoint: half one) further out.

        Pairs of lines put midpoints twice as densely as lines.
        """
        kept = self.misfit <= limit
        rows, columns = kept.any(1).nonzero()[:, 0], kept.any(0).nonzero()[:, 0]
        ends = []
        for sign in (-1, 1):
            a, b = _neighbours(self.onsets, sign), _neighbours(self.saturations, sign)
            near = [(line + (beside - line) / 4) for line, beside in ((self.onsets, a), (self.saturations, b))]
            middles = ((near[0][:, None] + near[1]) / 2)[kept]
            ends.append((a[rows[min(sign, 0) and 0 or -(sign > 0)]], middles.max() if sign > 0 else middles.min(), b[columns[-(sign > 0)]]))
        return [(float(low), float(high)) for low, high in zip(*ends, strict=True)]
