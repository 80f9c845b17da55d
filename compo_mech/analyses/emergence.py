"""When each component of the circuit came about in a run, and what went on changing once accuracy was flat."""

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from compo_mech.analyses.watch import ACCURACY, Watched
from compo_mech.runs.outcome import ACCURACY_LEVEL
from compo_mech.runs.trajectory import Quantity
from compo_mech.stats.onset import CENSORED, MIN_POINTS, UNDATED, Course, Emergence, emergence, reached
from compo_mech.stats.trend import still_rising

if TYPE_CHECKING:
    import pandas as pd

MOMENTS = ("onset", "midpoint", "saturation")

HIGH = 0.1
"""What does not rise was already high where it begins higher than the control by this much: all are fractions."""


class Cleanliness(NamedTuple):
    """A measure that may go on changing once accuracy is flat.

    Attributes:
        measure: of attention, or of the whole network.
        layers_before: the layer that fetches x_t, how many; None: it is of the whole network.
        by_head: whether each head has its own.
    """

    measure: str
    layers_before: int | None
    by_head: bool = False

    def quantities(self, found: Watched) -> list[Quantity]:
        """Return what of a run it stands for; nothing where the run has no such layer."""
        if self.layers_before is None:
            return [Quantity(self.measure)]
        if found.layer is None or found.layer < self.layers_before:
            return []
        layer = found.layer - self.layers_before
        return [Quantity(self.measure, layer=layer, head=h) for h in (found.heads(layer) if self.by_head else [None])]


CLEANLINESS = {
    "iteration score": Cleanliness("iteration_together", 0),
    "iteration sparsity": Cleanliness("iteration_sparsity", 0, by_head=True),
    "lookup score": Cleanliness("lookup_together", 1),
    "lookup sparsity": Cleanliness("lookup_sparsity", 1, by_head=True),
    "weight norm": Cleanliness("weight norm", None),
}
"""What may go on changing once accuracy is flat, by the name that tables give it."""


def component_emergence(found: Watched, generator: torch.Generator) -> "pd.DataFrame":
    """Find when each component came about: a row a component.

    It is dated only if its rise is seen, from the plateau of the control and of the first checkpoints (see `Course`).

    Returns:
        Columns component, those of `Quantity`, course, onset, midpoint, saturation with `_low` and `_high` each (steps;
        inf after the last or never, -inf before the first, which a midpoint is not; nan where not dated), p_flat, rise,
        control (the control's value), first, final and last_step.
    """
    import pandas as pd

    rows = []
    for component, quantity in found.components().items():
        curve = found.curve(quantity)
        if len(curve) < MIN_POINTS:
            continue
        steps, values, control = curve["step"].tolist(), curve["value"].tolist(), found.control(quantity)
        before = values[0] if math.isnan(control) else control
        came = risen(emergence(steps, values, generator, before), before)
        row: dict[str, object] = {"component": component, **quantity._asdict(), "course": str(came.course)}
        for name in MOMENTS:
            moment = getattr(came, name)
            row |= {name: moment.step, f"{name}_low": moment.low, f"{name}_high": moment.high}
        row |= {"p_flat": came.p_flat, "rise": came.rise, "control": control}
        rows.append(row | {"first": values[0], "final": values[-1], "last_step": steps[-1]})
    return pd.DataFrame(rows).astype({"layer": "Int64", "head": "Int64"}) if rows else pd.DataFrame()


def risen(came: Emergence, before: float) -> Emergence:
    """Return the same; in a curve that did not rise nothing emerged, or it had before the first step."""
    if came.rise > 0:
        return came
    high = float(came.fitted[0]) - before > HIGH
    course, moment = (Course.ALREADY_HIGH, UNDATED) if high else (Course.NOTHING, CENSORED)
    return dataclasses.replace(came, course=course, **dict.fromkeys(MOMENTS, moment))


@dataclass(frozen=True)
class AfterAccuracy:
    """What became of the maps once accuracy stayed at 99%.

    Attributes:
        since: the first step from which on it stays there; None if at the end it is below.
        n_checkpoints: from that step on.
        final: accuracy at the last checkpoint.
        changes: a row a measure and head, with columns measure, layer, head, since, at_since, final, total, low, high
            (change of the straight line through what follows), slope (per 1000 steps), correlation; none if fewer than
            `MIN_POINTS` checkpoints follow.
    """

    since: int | None
    n_checkpoints: int
    final: float
    changes: "pd.DataFrame"


def after_accuracy(found: Watched) -> AfterAccuracy:
    """Find how the maps changed from the step on from which accuracy stays at 99%."""
    import pandas as pd

    accuracy = found.curve(ACCURACY)
    since = reached(accuracy["step"].tolist(), accuracy["value"].tolist(), ACCURACY_LEVEL)
    rows: list[dict[str, object]] = []
    if since is None:
        return AfterAccuracy(None, 0, float(accuracy["value"].iloc[-1]), pd.DataFrame())
    for name, cleanliness in CLEANLINESS.items():
        for quantity in cleanliness.quantities(found):
            curve = found.curve(quantity)
            if (curve["step"] >= since).sum() < MIN_POINTS:
                continue
            steps, values = curve["step"].tolist(), curve["value"].tolist()
            rise = still_rising(steps, values, since)
            row: dict[str, object] = {"measure": name, "layer": quantity.layer, "head": quantity.head}
            row |= {"since": since, "at_since": values[steps.index(since)], "final": values[-1]}
            row |= dict(zip(("total", "low", "high"), rise.total, strict=True))
            rows.append(row | {"slope": rise.slope.mean, "correlation": rise.correlation})
    changes = pd.DataFrame(rows).astype({"layer": "Int64", "head": "Int64"}) if rows else pd.DataFrame()
    n_left = int((accuracy["step"] >= since).sum())
    return AfterAccuracy(since, n_left, float(accuracy["value"].iloc[-1]), changes)
