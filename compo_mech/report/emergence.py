"""When each component came about, as a section of a run's page."""

import html

import pandas as pd

from compo_mech.analyses.emergence import MOMENTS
from compo_mech.analyses.emergence_sentences import moment
from compo_mech.analyses.watch import Watched
from compo_mech.plots import trajectories
from compo_mech.report import thresholds
from compo_mech.report.html_parts import table_html, verdict, wide
from compo_mech.stats.intervals import two_decimals
from compo_mech.stats.onset import Course

COURSES = {Course.COMPLETE: "reaches a plateau", Course.UNFINISHED: "reaches no plateau"}
"""What a dated course is called on pages: a plateau may be low."""


def shown_emergence(components: pd.DataFrame) -> pd.DataFrame:
    """Lay out the table of components as a person reads it."""
    rows = []
    for row in components.to_dict("records"):
        course = Course(row["course"])
        shown: dict[str, object] = {"component": row["component"], "course": COURSES.get(course, str(course))}
        for name in MOMENTS:
            shown[name] = moment(row, name) if course in COURSES else "–"
        final, control = two_decimals(row["final"]), "–" if pd.isna(row["control"]) else two_decimals(row["control"])
        rows.append(shown | {"first": two_decimals(row["first"]), "final": f"{final} [{control}]"})
    return pd.DataFrame(rows)


CAPTION = (
    "<p class=quiet>Steps with 95% intervals, start: before the first checkpoint, end: after the last. A dash: nothing "
    "rose, or its rise is not seen and is not dated: already high, if at the first checkpoint it had gone more than "
    "half of the way from the control to its end; rises throughout, if from the first checkpoint on it leaves no "
    "plateau. In brackets: a randomly initialised control. "
    "Lookup, iteration: attention of a layer's heads together. Ablation cost: fraction of states lost with uniform "
    "attention of the layer's heads. t, x, state: interchange intervention accuracy less that of a random change of "
    "the same size. Onset and saturation are where the line through 25% and 75% of the rise meets the plateaus.</p>"
)

PANELS = {"accuracy": "Accuracy", "lookup": "Attention", "iteration": "Attention"}
"""Panel of a component; of any other `Causes`."""


def emergence_section(found: Watched, components: pd.DataFrame, said: list[str]) -> str:
    """Write the section of the run's page: sentences, timeline, table, curves with their control."""
    shown = [f"<h2>When each component came: {html.escape(str(found.task))}</h2>"]
    shown.append(verdict(said, thresholds.EMERGENCE))
    if len(components):
        title = "Onset, midpoint and saturation of each component"
        shown += [wide(trajectories.timeline(components.assign(run="this run"), title))]
        shown += [table_html(shown_emergence(components), sticky=True), CAPTION]
    return "\n".join([*shown, *_curves(found)])


def _curves(found: Watched) -> list[str]:
    """Draw the curves of all components with their control, a panel a kind; nothing where there are none."""
    panels: dict[str, dict] = {"Attention": {}, "Causes": {}, "Accuracy": {}}
    control: dict[str, dict[str, float]] = {name: {} for name in panels}
    for component, quantity in found.components().items():
        panel, curve = PANELS.get(component, "Causes"), found.curve(quantity)
        low, high = (curve[name].fillna(curve["value"]) for name in ("low", "high"))
        panels[panel][component] = (curve["step"].tolist(), list(zip(curve["value"], low, high, strict=True)))
        control[panel][component] = found.control(quantity)
    panels = {name: curves for name, curves in panels.items() if curves}
    return [wide(trajectories.by_step(panels, control, "Over training; dotted: control"))] if panels else []
