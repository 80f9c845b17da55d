"""The routes by which x_t reaches s_t in one or several runs, one panel each, for every length and t.

python figures/route_map.py runs/parity-seed0 runs/other --out figures/results/route_map.png

Writes an image (.png, .svg, .pdf: pip install kaleido, which needs a Chrome) or a page (.html).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from compo_mech.cli.command import Runs, Seed, Step, call
from compo_mech.cli.draw import drawing, save
from compo_mech.model.params import Model
from compo_mech.plots import routes, theme
from compo_mech.plots.notes import other_tasks, with_notes
from compo_mech.plots.theme import layout_of
from compo_mech.routes.route_map import route_map
from compo_mech.routes.summary import RouteMap
from compo_mech.runs.names import distinct
from compo_mech.runs.run import Run

if TYPE_CHECKING:
    import plotly.graph_objects as go


def main(
    runs: Runs,
    out: Path,
    titles: tuple[str, ...] = (),
    step: Step | None = None,
    seed: Seed = 0,
) -> None:
    """Draw the route map of each run's first task into OUT.

    Args:
        runs: folders of runs.
        out: an image (.png, .svg, .pdf) or a page (.html).
        titles: of the panels; none given: the runs' names.
        step: of the checkpoint; None: the last.
        seed: of all that is drawn.
    """
    with drawing(out):
        opened = [Run.open(run) for run in runs]
        maps = [
            route_map(
                Model(run.params(step), run.config.model),
                run.config.data,
                torch.Generator().manual_seed(seed),
                task=run.config.data.measured_tasks[0],
            )
            for run in opened
        ]
        figure = beside(maps, [*titles, *distinct([run.path for run in opened])[len(titles) :]])
        earlier = [] if step is None else [f"At step {step}."]
        save(with_notes(figure, earlier + other_tasks(opened)), out, __doc__)


def beside(maps: list[RouteMap], names: list[str]) -> "go.Figure":
    """A panel a network, with one legend."""
    from plotly.subplots import make_subplots

    drawn = [routes.route_cells(found) for found in maps]
    figure = make_subplots(1, len(drawn), subplot_titles=names, horizontal_spacing=0.06)
    shown: set[str] = set()
    for column, panel in enumerate(drawn, start=1):
        traces: Any = panel.data  # which plotly declares as a name
        for trace in traces:
            name = str(trace.name)
            trace.update(legendgroup=name, showlegend=name not in shown)
            shown.add(name)
            figure.add_trace(trace, row=1, col=column)
        figure.update_xaxes(layout_of(panel).xaxis, row=1, col=column)
        figure.update_yaxes(layout_of(panel).yaxis, row=1, col=column)
    figure.update_traces(marker_size=24, textfont_size=8)
    figure.update_layout(
        **{**theme.base_layout(), "margin": {"l": 60, "r": 20, "t": 50, "b": 90}},
        width=120 + 470 * len(drawn),
        height=540,
        legend={"orientation": "h", "y": -0.16, "x": 0.5, "xanchor": "center", "itemsizing": "constant"},
    )
    return figure


if __name__ == "__main__":
    call(main, description=__doc__)
