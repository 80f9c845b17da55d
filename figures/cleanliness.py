"""Cleanliness of attention maps against accuracy, each run a path through training: does either come without the other?

python figures/cleanliness.py runs/* --out figures/cleanliness.png

Writes an image (.png, .svg, .pdf: pip install kaleido, which needs a Chrome) or a page (.html).
"""

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from compo_mech.cli.command import Runs, call
from compo_mech.cli.draw import drawing, save
from compo_mech.evaluation.table import measured, select
from compo_mech.plots import theme
from compo_mech.runs.names import distinct, once
from compo_mech.runs.run import Run

if TYPE_CHECKING:
    import plotly.graph_objects as go

N_NAMED = len(theme.HEAD_COLOURS)
"""Up to this many paths have a colour each; beyond it each task has one."""


def drawn(runs: list[Run], measure: str) -> "go.Figure":
    """Draw a path a run and task, with a ring where it ends."""
    import plotly.graph_objects as go

    figure, paths, full = go.Figure(), [], []
    for run, own in zip(runs, distinct([run.path for run in runs]), strict=True):
        tasks = [str(task) for task in run.config.data.measured_tasks]
        paths += [(run, task) for task in tasks]
        full += [f"{own}, {task}" if len(tasks) > 1 else own for task in tasks]
    named = full if len(paths) <= N_NAMED else [task for _, task in paths]
    colours = dict(zip(dict.fromkeys(named), itertools.cycle(theme.HEAD_COLOURS), strict=False))
    shown: set[str] = set()
    for (run, task), name, whole in zip(paths, named, full, strict=True):
        rows = measured(run.metrics, task)
        accuracy = select(rows, metric="accuracy").groupby("step")["value"].mean()
        score = select(rows, split="mean", metric=measure).groupby("step")["value"].max()
        table = accuracy.to_frame("accuracy").join(score.rename("score"), how="inner")
        if not len(table):
            raise ValueError(f"run = {run.path}: must have heads that can do {measure}, over lengths from 4 on")
        figure.add_scatter(
            x=table["accuracy"], y=table["score"], mode="lines", line={"color": colours[name], "width": 1.3},
            opacity=0.7, name=name, legendgroup=name, showlegend=name not in shown,
            text=[f"{whole}, step {step}" for step in table.index],
            hovertemplate="%{text}: accuracy %{x:.2f}, score %{y:.2f}<extra></extra>",
        )  # fmt: skip
        figure.add_scatter(
            x=table["accuracy"].iloc[-1:], y=table["score"].iloc[-1:], mode="markers", hoverinfo="skip",
            marker={"color": theme.PAPER, "size": 10, "line": {"color": colours[name], "width": 2}}, legendgroup=name,
            showlegend=False,
        )  # fmt: skip
        shown.add(name)
    title = f"Attention against accuracy in {len(runs)} runs; a ring where each ends"
    figure.update_layout(**theme.base_layout(), width=900, height=560, title=title, showlegend=True)
    figure.update_layout(legend=theme.legend_below(60, 460))
    figure.update_xaxes(title="accuracy, mean over lengths", range=[-0.03, 1.05])
    figure.update_yaxes(title=f"{measure} score of the best head", range=[-0.03, 1.05])
    return figure


def main(
    runs: Runs,
    out: Path,
    measure: Literal["iteration", "lookup"] = "iteration",
) -> None:
    """Draw RUNS into OUT.

    Args:
        runs: folders of runs.
        out: an image (.png, .svg, .pdf) or a page (.html).
        measure: the score that is shown.
    """
    with drawing(out):
        save(drawn([Run.open(run) for run in once(runs)], measure), out, __doc__)


if __name__ == "__main__":
    call(main, description=__doc__)
