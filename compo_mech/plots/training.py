"""Curves over training."""

import itertools

import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from compo_mech.evaluation.table import measured, select
from compo_mech.plots.theme import HEAD_COLOURS, LAYOUT


def training_curves(metrics: pd.DataFrame, task: str) -> go.Figure:
    """Draw accuracy by length, head scores and loss over steps, on one time axis.

    Args:
        metrics: a run's long rows; the control's are left out.
        task: spelling of the task.
    """
    titles = ("Accuracy, generated freely", "Head scores, mean over lengths ≥ 4", "Loss (nats)")
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, subplot_titles=titles, vertical_spacing=0.07)
    of_task = measured(metrics, task)
    accuracy = select(of_task, metric="generated_accuracy")
    lengths = accuracy["length"].unique().tolist()
    fractions = [i / max(1, len(lengths) - 1) for i in range(len(lengths))]
    for length, colour in zip(lengths, sample_colorscale("Viridis", fractions), strict=True):
        curve = select(accuracy, length=length)
        figure.add_scatter(
            x=curve["step"], y=curve["value"], name=f"length {length}", line={"color": colour}, row=1, col=1,
            legendgroup="lengths", legendgrouptitle_text="Accuracy",
        )  # fmt: skip
    means = select(of_task, split="mean").dropna(subset="head")
    heads = dict.fromkeys(zip(means["layer"].tolist(), means["head"].tolist(), strict=True))
    for (layer, head), colour in zip(heads, itertools.cycle(HEAD_COLOURS), strict=False):
        for metric, dash in (("iteration", "solid"), ("lookup", "dot")):
            curve = select(means, layer=layer, head=head, metric=metric)
            if len(curve):
                figure.add_scatter(
                    x=curve["step"], y=curve["value"], name=f"L{layer}H{head} {metric}", row=2, col=1,
                    line={"color": colour, "dash": dash}, legendgroup="heads", legendgrouptitle_text="Heads",
                )  # fmt: skip
    train = select(metrics, split="train", metric="loss")
    test = select(of_task, metric="loss").groupby("step")["value"].mean()
    for name, x, y, colour in (
        ("training", train["step"], train["value"], "#9aa0a6"),
        ("test", test.index, test.to_numpy(), "#202124"),
    ):
        figure.add_scatter(
            x=x, y=y, name=name, line={"color": colour}, row=3, col=1,
            legendgroup="loss", legendgrouptitle_text="Loss",
        )  # fmt: skip
    figure.update_yaxes(range=[-0.03, 1.03], row=1)
    figure.update_yaxes(range=[-0.03, 1.03], row=2)
    figure.update_yaxes(type="log", row=3)
    figure.update_xaxes(title="step", row=3)
    figure.update_xaxes(showspikes=True, spikemode="across", spikethickness=1, spikedash="dot")
    figure.update_layout(**LAYOUT, height=820, hovermode="x", legend={"groupclick": "toggleitem"})
    return figure
