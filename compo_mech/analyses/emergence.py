"""When each component of the circuit came about in a run, and what went on changing once accuracy was flat."""

import math
from typing import NamedTuple

import pandas as pd
import torch

from compo_mech.analyses.watch import ACCURACY, Watched
from compo_mech.runs.outcome import ACCURACY_LEVEL
from compo_mech.runs.trajectory import Quantity
from compo_mech.stats.onset import MIN_POINTS, Course, Emergence, emergence, reached
from compo_mech.stats.trend import still_rising

MOMENTS = ("onset", "midpoint", "saturation")


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


def component_emergence(found: Watched, generator: torch.Generator) -> pd.DataFrame:
    """Find when each component came about: a row a component.

    Returns:
        Columns component, those of `Quantity`, course, onset, midpoint, saturation with `_low` and `_high` each (steps;
        inf after the last, -inf before the first), p_flat, rise, control (the control's value), first, final and
        last_step.
    """
    rows = []
    for component, quantity in found.components().items():
        curve = found.curve(quantity)
        if len(curve) < MIN_POINTS:
            continue
        steps, values = curve["step"].tolist(), curve["value"].tolist()
        came = risen(emergence(steps, values, generator))
        row: dict[str, object] = {"component": component, **quantity._asdict(), "course": str(came.course)}
        for name in MOMENTS:
            moment = getattr(came, name)
            row |= {name: moment.step, f"{name}_low": moment.low, f"{name}_high": moment.high}
        row |= {"p_flat": came.p_flat, "rise": came.rise, "control": found.control(quantity)}
        rows.append(row | {"first": values[0], "final": values[-1], "last_step": steps[-1]})
    return pd.DataFrame(rows).astype({"layer": "Int64", "head": "Int64"}) if rows else pd.DataFrame()


def risen(came: Emergence) -> Emergence:
    """Return the same; in a curve that fell nothing emerged."""
    if came.rise > 0:
        return came
    nothing = {name: getattr(came, name)._replace(step=math.inf, low=math.inf, high=math.inf) for name in MOMENTS}
    return Emergence(Course.NOTHING, **nothing, p_flat=came.p_flat, fitted=came.fitted, rise=came.rise)


def changes_after_accuracy(found: Watched) -> pd.DataFrame:
    """Find how the maps changed from the step on from which accuracy stays at 99%: a row a measure and head; none if it
    does not.

    Returns:
        Columns measure, layer, head, since (step), at_since, final, total, low, high (change of the straight line
        through what follows), slope (per 1000 steps), correlation.
    """
    accuracy = found.curve(ACCURACY)
    since = reached(accuracy["step"].tolist(), accuracy["value"].tolist(), ACCURACY_LEVEL)
    rows: list[dict[str, object]] = []
    if since is None:
        return pd.DataFrame()
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
    return pd.DataFrame(rows).astype({"layer": "Int64", "head": "Int64"}) if rows else pd.DataFrame()


def step_text(step: float) -> str:
    """Return a step as people read it; `start` and `end` where it lies before the first or after the last."""
    return "end" if step == math.inf else "start" if step == -math.inf else f"{step:.0f}"


def place_text(layer: int | None, head: int | None) -> str:
    """Return a layer or a head as people read it, nothing for neither."""
    return "" if pd.isna(layer) else f"L{layer}" if pd.isna(head) else f"L{layer}H{head}"


def sentences(components: pd.DataFrame, rises: pd.DataFrame) -> list[str]:
    """Say in which order the components came, and whether the maps went on changing once accuracy was flat."""
    said = []
    came = components[components["midpoint"] < math.inf].sort_values("midpoint") if len(components) else components
    if len(came):
        order = ", ".join(f"{c} ({step_text(m)})" for c, m in zip(came["component"], came["midpoint"], strict=True))
        said.append(f"Half way, in order: {order}.")
    missing = components.loc[components["course"] == Course.NOTHING, "component"].tolist() if len(components) else []
    if missing:
        said.append(f"Did not rise: {', '.join(missing)}.")
    if not len(rises):
        said.append(f"Accuracy did not stay at {ACCURACY_LEVEL:.0%} for {MIN_POINTS} checkpoints.")
    for row in rises.to_dict("records"):
        verdict = "rose" if row["low"] > 0 else "fell" if row["high"] < 0 else "neither rose nor fell for certain"
        place = place_text(row["layer"], row["head"])
        said.append(
            f"From step {row['since']} on, with accuracy at {ACCURACY_LEVEL:.0%}, the {row['measure']}"
            f"{f' of {place}' if place else ''} {verdict}: {row['total']:+.3f} "
            f"({row['low']:+.3f} .. {row['high']:+.3f}), from {row['at_since']:.3f} to {row['final']:.3f}."
        )
    return said
