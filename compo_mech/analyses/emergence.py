"""A run watched over its checkpoints: when each part of the circuit came about, and what went on after accuracy."""

import math

import pandas as pd
import torch

from compo_mech.analyses.trajectories import Watched
from compo_mech.runs.outcome import ACCURACY_LEVEL
from compo_mech.stats.onset import MIN_POINTS, Course, Emergence, emergence, reached
from compo_mech.stats.trend import still_rising

MOMENTS = ("onset", "midpoint", "saturation")

CLEAN = {
    "iteration score": ("iteration_together", 0),
    "iteration sparsity": ("iteration_sparsity", 0),
    "lookup score": ("lookup_together", -1),
    "lookup sparsity": ("lookup_sparsity", -1),
    "weight norm": ("weight norm", None),
}
"""What may go on changing once accuracy is flat: measure, and how many layers from the one that fetches x_t."""


def component_emergence(found: Watched, generator: torch.Generator) -> pd.DataFrame:
    """When each part came about: a row a part.

    Returns:
        Columns part, measure, site, course, onset, midpoint, saturation with `_low` and `_high` each (steps; inf after
        the last, -inf before the first), p_flat, rise, fresh (the control's value), first, final and last_step.
    """
    rows = []
    for part, (measure, site) in found.parts().items():
        curve = found.curve(measure, site)
        if len(curve) < MIN_POINTS:
            continue
        steps, values = curve["step"].tolist(), curve["value"].tolist()
        came = risen(emergence(steps, values, generator))
        row: dict[str, object] = {"part": part, "measure": measure, "site": site or "", "course": str(came.course)}
        for name in MOMENTS:
            moment = getattr(came, name)
            row |= {name: moment.step, f"{name}_low": moment.low, f"{name}_high": moment.high}
        row |= {"p_flat": came.p_flat, "rise": came.rise, "fresh": found.control(measure, site)}
        rows.append(row | {"first": values[0], "final": values[-1], "last_step": steps[-1]})
    return pd.DataFrame(rows)


def risen(came: Emergence) -> Emergence:
    """The same; a curve that fell has nothing that emerged."""
    if came.rise > 0:
        return came
    nothing = {name: getattr(came, name)._replace(step=math.inf, low=math.inf, high=math.inf) for name in MOMENTS}
    return Emergence(Course.NOTHING, **nothing, p_flat=came.p_flat, fitted=came.fitted, rise=came.rise)


def changes_after_accuracy(found: Watched) -> pd.DataFrame:
    """How the maps changed from the step on from which accuracy stays at 99%: a row a measure; none if it does not.

    Returns:
        Columns measure, site, since (step), at_since, final, total, low, high (change of the straight line through what
        follows), slope (per 1000 steps), correlation.
    """
    accuracy = found.curve("strings right")
    since = reached(accuracy["step"].tolist(), accuracy["value"].tolist(), ACCURACY_LEVEL)
    rows: list[dict[str, object]] = []
    if since is None:
        return pd.DataFrame(rows)
    for name, (measure, layers_away) in CLEAN.items():
        if layers_away is not None and (found.layer is None or found.layer + layers_away < 0):
            continue
        layer = None if layers_away is None else (found.layer or 0) + layers_away
        sites = [None] if layer is None else [f"L{layer}"] if measure.endswith("together") else found.heads(layer)
        for site in sites:
            curve = found.curve(measure, site)
            if (curve["step"] >= since).sum() < MIN_POINTS:
                continue
            steps, values = curve["step"].tolist(), curve["value"].tolist()
            rise = still_rising(steps, values, since)
            row: dict[str, object] = {"measure": name, "site": site or "", "since": since}
            row |= {"at_since": values[steps.index(since)], "final": values[-1]}
            row |= dict(zip(("total", "low", "high"), rise.total, strict=True))
            rows.append(row | {"slope": rise.slope.mean, "correlation": rise.correlation})
    return pd.DataFrame(rows)


def step_text(step: float) -> str:
    """A step as people read it; `start` and `end` where it lies before the first or after the last."""
    return "end" if step == math.inf else "start" if step == -math.inf else f"{step:.0f}"


def sentences(found: Watched, parts: pd.DataFrame, rises: pd.DataFrame) -> list[str]:
    """In which order the parts came, and whether the maps went on changing once accuracy was flat."""
    said = []
    came = parts[parts["midpoint"] < math.inf].sort_values("midpoint") if len(parts) else parts
    if len(came):
        order = ", ".join(f"{p} ({step_text(m)})" for p, m in zip(came["part"], came["midpoint"], strict=True))
        said.append(f"Half way, in order: {order}.")
    missing = [str(part) for part, course in zip(parts["part"], parts["course"], strict=True) if course == "nothing"]
    if missing:
        said.append(f"Did not rise: {', '.join(missing)}.")
    if not len(rises):
        said.append(f"Accuracy did not stay at {ACCURACY_LEVEL:.0%} for {MIN_POINTS} checkpoints.")
    for row in rises.to_dict("records"):
        verdict = "rose" if row["low"] > 0 else "fell" if row["high"] < 0 else "neither rose nor fell for certain"
        said.append(
            f"From step {row['since']} on, with accuracy at {ACCURACY_LEVEL:.0%}, the {row['measure']}"
            f"{' of ' + row['site'] if row['site'] else ''} {verdict}: {row['total']:+.3f} "
            f"({row['low']:+.3f} .. {row['high']:+.3f}), from {row['at_since']:.3f} to {row['final']:.3f}."
        )
    return said
