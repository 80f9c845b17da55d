"""Where variables are held, as a section of a run's page."""

import html
from collections.abc import Sequence

import pandas as pd

from compo_mech.plots import interchange
from compo_mech.report import thresholds
from compo_mech.report.html_parts import table_html, verdict, wide


def alignment_section(
    task: str,
    step: int,
    sentences: Sequence[str],
    trained: pd.DataFrame,
    control: pd.DataFrame,
    by_step: pd.DataFrame | None,
    searched: pd.DataFrame,
) -> str:
    """Write where the algorithm's variables are held: maps over sites, over steps, and searched subspaces.

    Args:
        task, step: what was asked.
        sentences: what it comes to.
        trained, control: interchange maps of the network and of its control.
        by_step: maps with a column step; None: of no other step.
        searched: a row a variable and site.
    """
    parts = [f"<h2>Aligned with the algorithm: {html.escape(task)}, step {step}</h2>"]
    parts.append(verdict(sentences, thresholds.INTERCHANGE))
    parts.append(wide(interchange.interchange_maps({"trained": trained, "control": control})))
    parts.append(
        "<p class=quiet>Interchange intervention accuracy (IIA): fraction of answers that become what the algorithm "
        "says when one site, at the row that predicts, carries another string's value; mean over answers that have to "
        "change and those that have to stay, so one half by chance. Matched context: the other string shares all other "
        "variables. Independent context: it shares none.</p>"
    )
    shown = searched.map(lambda v: f"{v:.2f}" if isinstance(v, float) else v)
    parts.append("<h3>Subspaces found by search</h3>" + table_html(shown))
    if by_step is not None:
        parts.append("<h3>Over training</h3>")
        parts.append(wide(interchange.interchange_by_step(by_step)))
    return "\n".join(parts)
