"""When each component came about, as a section of a run's page."""

import html
import math

import pandas as pd

from compo_mech.analyses.emergence import MOMENTS, step_text
from compo_mech.analyses.trajectories import Watched
from compo_mech.plots import trajectories
from compo_mech.report.html_parts import table_html, wide


def shown_emergence(parts: pd.DataFrame) -> pd.DataFrame:
    """The table of parts as a person reads it."""
    rows = []
    for row in parts.to_dict("records"):
        told: dict[str, object] = {"part": row["part"], "course": row["course"]}
        for name in MOMENTS:
            told[name] = _moment(row[name], row[f"{name}_low"], row[f"{name}_high"])
        rows.append(told | {"final": f"{row['final']:.2f} [{row['fresh']:.2f}]"})
    return pd.DataFrame(rows)


def _moment(step: float, low: float, high: float) -> str:
    if step == math.inf:
        return "–"
    return f"{step_text(step)} ({step_text(low)} .. {step_text(high)})"


def emergence_section(found: Watched, parts: pd.DataFrame, rises: pd.DataFrame, said: list[str]) -> str:
    """Of the run's page: sentences, timeline, curves with their control, table."""
    items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in said)
    shown_parts = [f"<h2>When each part came: {html.escape(str(found.task))}</h2><ul>{items}</ul>"]
    if len(parts):
        shown_parts.append(
            wide(trajectories.timeline(parts.assign(run="this run"), "Onset, midpoint and saturation of each part"))
        )
        shown_parts.append(table_html(shown_emergence(parts)))
        shown_parts.append(
            "<p class=quiet>Steps with 95% intervals; a dash: nothing rose; in brackets: a freshly initialised "
            "network. Lookup, iteration: attention of a layer's heads together. Worth: states lost when the layer's "
            "heads attend evenly. t, x, state: answers that follow another string's activation, less those that "
            "follow a random change of its size. Onset and saturation are where the line through 25% and 75% of the "
            "rise meets the plateaus.</p>"
        )
    panels: dict[str, dict] = {"Attention": {}, "Causes": {}, "Accuracy": {}}
    control: dict[str, dict[str, float]] = {name: {} for name in panels}
    for part, (measure, site) in found.parts().items():
        panel = "Attention" if part in ("lookup", "iteration") else "Accuracy" if part == "accuracy" else "Causes"
        curve = found.curve(measure, site)
        low, high = (curve[name].fillna(curve["value"]) for name in ("low", "high"))
        panels[panel][part] = (curve["step"].tolist(), list(zip(curve["value"], low, high, strict=True)))
        control[panel][part] = found.control(measure, site)
    panels = {name: curves for name, curves in panels.items() if curves}
    if panels:
        shown_parts.append(wide(trajectories.by_step(panels, control, "Over training; dotted: freshly initialised")))
    return "\n".join(shown_parts)
