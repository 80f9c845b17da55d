"""What was found of a run's emergence, in sentences: each from one result, none without its figures."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from compo_mech.analyses.emergence import AfterAccuracy
from compo_mech.runs.outcome import ACCURACY_LEVEL
from compo_mech.stats.intervals import two_decimals
from compo_mech.stats.onset import MIN_POINTS, Course

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
    return "did not rise" if course is Course.NOTHING else "not half way at the last checkpoint"


def levels(row: Mapping) -> str:
    """Write a component's value at the first and the last checkpoint, and the control's."""
    first, final, control = (two_decimals(row[name]) for name in ("first", "final", "control"))
    return f"(from {first} to {final}, control {control})"


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
        return [f"Accuracy is not at {level} at the last checkpoint, but at {after.final:.1%}."]
    stays = f"accuracy is at {level} or more from step {after.since} on"
    if not len(after.changes):
        few = f"{after.n_checkpoints} checkpoint{'s' * (after.n_checkpoints != 1)}"
        return [
            f"Too few checkpoints to tell whether the maps went on changing: {stays}, in {few}, and {MIN_POINTS} are "
            "needed."
        ]
    return [change_sentence(row, stays) for row in after.changes.to_dict("records")]


def change_sentence(row: Mapping, stays: str) -> str:
    """Say whether one measure rose, fell or did neither for certain, its 95% interval being on one side of 0 or not."""
    verdict = "rose" if row["low"] > 0 else "fell" if row["high"] < 0 else "neither rose nor fell for certain"
    place = place_text(row["layer"], row["head"])
    return (
        f"The {row['measure']}{f' of {place}' if place else ''} {verdict} once {stays}: {row['total']:+.3f} "
        f"({row['low']:+.3f} .. {row['high']:+.3f}), from {row['at_since']:.3f} to {row['final']:.3f}."
    )
