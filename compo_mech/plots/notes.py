"""What a figure leaves out, said on the figure."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from compo_mech.plots.theme import QUIET, layout_of, subscripts
from compo_mech.runs.names import distinct
from compo_mech.runs.run import Run

if TYPE_CHECKING:
    import plotly.graph_objects as go

LINE, SIZE, WIDTH = 17, 12, 7
"""Height of a line, size of its letters, and about how wide one is, in pixels."""


def with_notes(figure: "go.Figure", notes: Sequence[str]) -> "go.Figure":
    """Write lines below all else of a figure, which grows by their height."""
    across = max(40, int((layout_of(figure).width or 760) / WIDTH))
    lines = [subscripts(line) for note in notes for line in textwrap.wrap(note, across)]
    if not lines:
        return figure
    bottom, more = layout_of(figure).margin.b or 80, LINE * len(lines) + 8
    figure.add_annotation(
        text="<br>".join(lines), showarrow=False, align="left", font={"size": SIZE, "color": QUIET}, x=0,
        xref="paper", xanchor="left", y=0, yref="paper", yanchor="top", yshift=-bottom,
    )  # fmt: skip
    figure.update_layout(height=(layout_of(figure).height or 450) + more, margin_b=bottom + more)
    return figure


def other_tasks(runs: Sequence[Run]) -> list[str]:
    """Say which tasks are not shown where a figure is of each run's first."""
    notes = []
    for run, name in zip(runs, distinct([run.path for run in runs]), strict=True):
        first, *others = map(str, run.config.data.measured_tasks)
        if others:
            notes.append(f"Of {name} only {first} is shown, not {', '.join(others)}.")
    return notes
