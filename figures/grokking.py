"""Memorised at once, generalised late if at all: accuracy on training and test strings, cleanliness, weights, by step.

python experiments/grokking.py
python figures/grokking.py runs/grokking/24-strings,-weight-decay-0.1-seed[012] --out figures/results/grokking.png

Writes an image (.png, .svg, .pdf: pip install kaleido, which needs a Chrome) or a page (.html).
"""

import math
from typing import TYPE_CHECKING

from compo_mech.cli.command import call
from compo_mech.cli.draw import command_to_draw
from compo_mech.evaluation.table import TRAIN, measured, select
from compo_mech.plots import theme
from compo_mech.plots.notes import other_tasks, with_notes
from compo_mech.runs.names import distinct
from compo_mech.runs.run import Run

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLOURS = {
    "training strings": theme.GREY, "test strings": theme.INK, "iteration": theme.COMPONENT_COLOURS["iteration"],
    "lookup": theme.COMPONENT_COLOURS["lookup"], "sparsity": theme.GREEN, "weight norm": theme.RED,
}  # fmt: skip


def curves(run: Run) -> dict[str, dict[str, tuple[list[int], list[float]]]]:
    """Steps and values by panel and name."""
    task, metrics = str(run.config.data.measured_tasks[0]), run.metrics
    own = measured(metrics, task)
    known = select(metrics, split=TRAIN, metric="accuracy", task=task)
    means = select(own, split="mean")
    found = {
        "training strings": known.groupby("step")["value"].mean(),
        "test strings": select(own, metric="accuracy").groupby("step")["value"].mean(),
        "iteration": select(means, metric="iteration").groupby("step")["value"].max(),
        "lookup": select(means, metric="lookup").groupby("step")["value"].max(),
        "sparsity": select(means, metric="iteration_sparsity").groupby("step")["value"].max(),
    }
    norms = {
        step: math.sqrt(sum(float(value.square().sum()) for value in params.values()))
        for step, params in run.checkpoints()
    }
    by_name = {name: (curve.index.tolist(), curve.tolist()) for name, curve in found.items() if len(curve)}
    by_name["weight norm"] = (list(norms), list(norms.values()))
    panels = {"accuracy": ("training strings", "test strings"), "attention": ("iteration", "lookup", "sparsity"),
              "weights": ("weight norm",)}  # fmt: skip
    return {panel: {n: by_name[n] for n in wanted if n in by_name} for panel, wanted in panels.items()}


def drawn(runs: list[Run]) -> "go.Figure":
    """A column a run."""
    from plotly.subplots import make_subplots

    titles = distinct([run.path for run in runs]) + [""] * 2 * len(runs)
    figure = make_subplots(3, len(runs), shared_xaxes=True, vertical_spacing=0.05, subplot_titles=titles)
    for column, run in enumerate(runs, start=1):
        for row, (panel, named) in enumerate(curves(run).items(), start=1):
            for name, (steps, values) in named.items():
                figure.add_scatter(
                    x=[step + 1 for step in steps], y=values, name=name, legendgroup=name, mode="lines",
                    showlegend=column == 1, line={"color": COLOURS[name], "width": 1.6}, row=row, col=column,
                    hovertemplate=f"{name}: %{{y:.3f}}<extra></extra>",
                )  # fmt: skip
            if panel != "weights":
                figure.update_yaxes(range=[-0.03, 1.03], row=row, col=column)
            if column == 1:
                figure.update_yaxes(title=panel, row=row, col=column)
        figure.update_xaxes(**theme.LOG_AXIS, row=3, col=column, title="step + 1")
        for row in (1, 2):
            figure.update_xaxes(**theme.LOG_AXIS, row=row, col=column)
    figure.update_layout(
        **theme.base_layout(), width=max(760, 190 + 330 * len(runs)), height=640, hovermode="x",
        legend={"orientation": "h", "y": -0.12},
    )  # fmt: skip
    return with_notes(figure, other_tasks(runs))


main = command_to_draw(drawn, __doc__)


if __name__ == "__main__":
    call(main, description=__doc__)
