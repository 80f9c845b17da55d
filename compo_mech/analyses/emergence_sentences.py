"""What was found of a run's emergence, in sentences: each from one result, none without its figures."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from compo_mech.analyses.emergence import AfterAccuracy
from compo_mech.runs.outcome import ACCURACY_LEVEL
from compo_mech.stats.intervals import counted, on_its_side, two_decimals
from compo_mech.stats.onset import FALSE_ALARMS, MIN_POINTS, Course

if TYPE_CHECKING:
    import pandas as pd


def sentences(components: "pd.DataFrame", after: AfterAccuracy) -> list[str]:
    """Say when the components came, which could not be dated, and whether the maps went on changing once accuracy was
    flat."""
    rows = components.sort_values("midpoint", kind="stable").to_dict("records") if len(components) else []
    said = [half_way([row for row in rows if math.isfinite(row["midpoint"])])]
    by_fate: dict[str, list[str]] = {}
    for row in rows:
        if not math.isfinite(row["midpoint"]):
            by_fate.setdefault(fate(row), []).append(f"{row['component']} {levels(row)}")
    said += [f"{name[0].upper()}{name[1:]}: {', '.join(named)}." for name, named in by_fate.items()]
    return [*filter(None, said), *after_sentences(after)]


def half_way(rows: list[dict]) -> str:
    """Say when components were half way, earliest first; nothing if there are none."""
    if not rows:
        return ""
    order = ", ".join(f"{row['component']} at {moment(row, 'midpoint')}" for row in rows)
    return f"Half way, earliest first (95% intervals; where they overlap the order is open): {order}."


def fate(row: Mapping) -> str:
    """Say why a component has no midpoint, as far as its course is known."""
    if "course" not in row:
        return "without a midpoint"
    course = Course(row["course"])
    if not course.dated:
        return f"not dated, {course}"
    if course is not Course.NOTHING:
        return "not half way at the last checkpoint"
    return f"no rise can be told (p ≤ {FALSE_ALARMS} needed)" if _flat(row) else "did not rise"


def _flat(row: Mapping) -> bool:
    """Return whether a component's course is not told from a flat one."""
    return row.get("p_flat", 0.0) > FALSE_ALARMS


def levels(row: Mapping) -> str:
    """Write a component's value at the first and the last checkpoint, the control's, and the p value if it decides."""
    first, final = (two_decimals(row[name]) for name in ("first", "final"))
    beside = "no control" if math.isnan(row["control"]) else f"control {two_decimals(row['control'])}"
    p = f", p = {on_its_side(row['p_flat'], FALSE_ALARMS, decimals=3)}" if _flat(row) else ""
    return f"(from {first} to {final}, {beside}{p})"


def moment(row: Mapping, name: str) -> str:
    """Write a step with its interval."""
    return f"{step_text(row[name])} ({step_text(row[f'{name}_low'])} .. {step_text(row[f'{name}_high'])})"


def step_text(step: float) -> str:
    """Return a step as people read it; `start` and `end` where it lies before the first or after the last."""
    return "end" if step == math.inf else "start" if step == -math.inf else f"{step:.0f}"


def place_text(layer: int | None, head: int | None) -> str:
    """Return a layer or a head as people read it, nothing for neither."""
    import pandas as pd

    return "" if pd.isna(layer) else f"L{layer}" if pd.isna(head) else f"L{layer}H{head}"


def after_sentences(after: AfterAccuracy) -> list[str]:
    """Say whether each measure went on changing once accuracy stayed at its level, or why that cannot be told."""
    level = f"{ACCURACY_LEVEL:.0%}"
    if after.since is None:
        if math.isnan(after.final):
            return ["Accuracy was not measured at the last checkpoint."]
        final = on_its_side(after.final, ACCURACY_LEVEL, percent=True)
        return [f"Accuracy is not at {level} at the last checkpoint, but at {final}."]
    stays = f"accuracy is at {level} or more from step {after.since} on"
    if not len(after.changes):
        return [
            f"Too few checkpoints to tell whether the maps went on changing: {stays}, in "
            f"{counted(after.n_checkpoints, 'checkpoint')}, and {MIN_POINTS} are needed."
        ]
    return [change_sentence(row, stays) for row in after.changes.to_dict("records")]


def change_sentence(row: Mapping, stays: str) -> str:
    """Say whether one measure rose, fell or did neither for certain, its 95% interval being on one side of 0 or not."""
    verdict = "rose" if row["low"] > 0 else "fell" if row["high"] < 0 else "neither rose nor fell for certain"
    place = place_text(row["layer"], row["head"])
    total, low, high = (signed(row[name]) for name in ("total", "low", "high"))
    ends = row["final"] - row["at_since"]
    otherwise = verdict in ("rose", "fell") and ends * row["total"] <= 0
    return (
        f"The {row['measure']}{f' of {place}' if place else ''} {verdict} once {stays}: {total} ({low} .. {high}) "
        f"along the straight line through what follows, {'though ' * otherwise}from {row['at_since']:.3f} at its first "
        f"checkpoint to {row['final']:.3f} at its last."
    )


def signed(change: float) -> str:
    """Write a change with its sign, with three decimals or as many as it takes not to be 0.

    >>> signed(0.02), signed(0.0002), signed(-0.0004), signed(0.0)
    ('+0.020', '+0.0002', '-0.0004', '0.000')
    """
    return f"{'+' * (change > 0)}{on_its_side(change, 0.0, decimals=3)}"
