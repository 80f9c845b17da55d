"""When each component of the circuit came about in many runs: onset, midpoint and saturation, a panel a task.

python experiments/emergence.py watch runs/* --out figures/emergence
python figures/emergence.py figures/results/emergence.csv --out figures/results/emergence.png

Writes an image (.png, .svg, .pdf: pip install kaleido, which needs a Chrome) or a page (.html).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from compo_mech.cli.command import Positional, call
from compo_mech.cli.draw import drawing, save
from compo_mech.cli.output import table_of
from compo_mech.plots import theme, trajectories
from compo_mech.plots.theme import layout_of

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("task", "run", "component")
NUMBERS = ("onset", "midpoint", "saturation", "last_step")


def drawn(table: "pd.DataFrame"):
    """A panel a task, below each other."""
    from plotly.subplots import make_subplots

    tasks = list(dict.fromkeys(table["task"]))
    titles = [f"{task}, {table[table['task'] == task]['run'].nunique()} seeds" for task in tasks]
    panels = [trajectories.timeline(table[table["task"] == task], "") for task in tasks]
    figure = make_subplots(len(tasks), 1, subplot_titles=titles, vertical_spacing=0.12 / len(tasks))
    for row, panel in enumerate(panels, start=1):
        figure.add_traces(list(panel.data), rows=row, cols=1)
        figure.update_yaxes(layout_of(panel).yaxis, row=row, col=1)
        figure.update_xaxes(range=layout_of(panel).xaxis.range, row=row, col=1)
        for note in layout_of(panel).annotations:
            figure.add_annotation(
                x=1.01, xref="paper", y=note.y, yref=f"y{row if row > 1 else ''}", text=note.text, showarrow=False,
                xanchor="left", align="left",
            )  # fmt: skip
    figure.update_xaxes(title="step", row=len(tasks), col=1)
    height = round(0.72 * sum(layout_of(panel).height for panel in panels))
    figure.update_layout(
        **{**theme.base_layout(), "margin": {"l": 180, "r": 310, "t": 90, "b": 50}}, width=1160, height=height,
        title="A line a run from onset to saturation, its dot half way; a diamond at the median",
    )  # fmt: skip
    return figure


def main(table: Annotated[Path, Positional], out: Path) -> None:
    """Draw TABLE into OUT.

    Args:
        table: as experiments/emergence.py writes it.
        out: an image (.png, .svg, .pdf) or a page (.html).
    """
    with drawing(out):
        rows = table_of(table, "experiments/emergence.py", COLUMNS, NUMBERS, (*COLUMNS, "last_step"))
        save(drawn(rows), out, __doc__)


if __name__ == "__main__":
    call(main, description=__doc__)
