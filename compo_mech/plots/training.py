"""Curves over training."""

import itertools
from typing import TYPE_CHECKING, NamedTuple

from compo_mech.evaluation.table import measured, select
from compo_mech.plots.panels import legend_of, stacked
from compo_mech.plots.theme import GREY, HEAD_COLOURS, INK, LOG_AXIS, ordered_colours

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


class Curve(NamedTuple):
    """Values by step, and how they are drawn."""

    values: "pd.Series"
    colour: str
    dash: str = "solid"


def training_curves(metrics: "pd.DataFrame", task: str) -> "go.Figure":
    """Draw accuracy by length, head scores and loss over steps, on one time axis.

    Args:
        metrics: a run's long rows; the control's are left out.
        task: spelling of the task.
    """
    of_task = measured(metrics, task)
    panels = {
        "Accuracy, generated freely": _by_length(select(of_task, metric="generated_accuracy")),
        "Head scores, mean over lengths ≥ 4": _by_head(select(of_task, split="mean").dropna(subset="head")),
        "Loss (nats)": {
            "training": Curve(_by_step(select(metrics, split="train", metric="loss")), GREY),
            "test": Curve(select(of_task, metric="loss").groupby("step")["value"].mean(), INK),
        },
    }
    figure = stacked({title: list(curves) for title, curves in panels.items()}, "", height=170)
    for row, curves in enumerate(panels.values(), start=1):
        for name, (values, colour, dash) in curves.items():
            figure.add_scatter(
                x=values.index, y=values.to_numpy(), name=name, line={"color": colour, "dash": dash},
                legend=legend_of(row), row=row, col=1,
            )  # fmt: skip
    figure.update_yaxes(range=[-0.03, 1.03], row=1)
    figure.update_yaxes(range=[-0.03, 1.03], row=2)
    figure.update_yaxes(**LOG_AXIS, row=3)
    figure.update_xaxes(showspikes=True, spikemode="across", spikethickness=1, spikedash="dot")
    figure.update_layout(hovermode="x")
    return figure


def _by_step(rows: "pd.DataFrame") -> "pd.Series":
    return rows.set_index("step")["value"]


def _by_length(accuracy: "pd.DataFrame") -> dict[str, Curve]:
    lengths = accuracy["length"].unique().tolist()
    colours = ordered_colours(len(lengths))
    return {
        f"length {length}": Curve(_by_step(select(accuracy, length=length)), colour)
        for length, colour in zip(lengths, colours, strict=True)
    }


def _by_head(means: "pd.DataFrame") -> dict[str, Curve]:
    heads = dict.fromkeys(zip(means["layer"].tolist(), means["head"].tolist(), strict=True))
    curves = {
        f"L{layer}H{head} {metric}": Curve(_by_step(select(means, layer=layer, head=head, metric=metric)), colour, dash)
        for (layer, head), colour in zip(heads, itertools.cycle(HEAD_COLOURS), strict=False)
        for metric, dash in (("iteration", "solid"), ("lookup", "dot"))
    }
    return {name: curve for name, curve in curves.items() if len(curve.values)}
