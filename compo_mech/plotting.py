"""Arrays and tables -> plotly figures. Nothing here changes plotly's settings on import."""

import itertools
from collections.abc import Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots
from torch import Tensor

from compo_mech.evaluate import measured, select

HEAD_COLOURS = ("#4c5fd5", "#e07a1f", "#2a9d6f", "#c2418f", "#8a6d3b", "#1f9ac2", "#b23a3a", "#6b6b6b")
_LAYOUT = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "margin": {"l": 60, "r": 20, "t": 50, "b": 50},
}


def training_curves(metrics: pd.DataFrame, task: str) -> go.Figure:
    """Accuracy by length, head scores and loss over steps, on one time axis.

    Args:
        metrics: a run's long rows; the control's are left out.
        task: spelling of the task.
    """
    titles = ("Accuracy, generated freely", "Head scores, mean over lengths ≥ 4", "Loss (nats)")
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, subplot_titles=titles, vertical_spacing=0.07)
    of_task = measured(metrics, task)
    accuracy = select(of_task, metric="generated_accuracy")
    lengths = accuracy["length"].unique().tolist()
    places = [i / max(1, len(lengths) - 1) for i in range(len(lengths))]
    for length, colour in zip(lengths, sample_colorscale("Viridis", places), strict=True):
        curve = select(accuracy, length=length)
        figure.add_scatter(
            x=curve["step"], y=curve["value"], name=f"length {length}", line={"color": colour}, row=1, col=1,
            legendgroup="lengths", legendgrouptitle_text="Accuracy",
        )  # fmt: skip
    means = select(of_task, split="mean")
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
    figure.update_layout(**_LAYOUT, height=820, hovermode="x", legend={"groupclick": "toggleitem"})
    return figure


def attention_maps(patterns: Sequence[Float[Tensor, "head pos pos"]], labels: Sequence[str], title: str) -> go.Figure:
    """Attention of every head, the axes labelled by tokens: a row of panels a layer, or one row in
    all where layers have a single head.

    Args:
        patterns: one tensor a layer; queries down, keys across.
        labels: a name for every position.
        title: of the whole figure.
    """
    n_layers, n_heads = len(patterns), patterns[0].shape[0]
    n_rows, n_columns = (1, n_layers) if n_heads == 1 else (n_layers, n_heads)
    titles = [f"layer {layer} head {head}" for layer in range(n_layers) for head in range(n_heads)]
    side = 440 if n_columns <= 2 else 340
    figure = make_subplots(n_rows, n_columns, subplot_titles=titles, vertical_spacing=0.25 / n_rows)
    ticks: dict[str, Any] = {"tickmode": "array", "tickvals": list(range(len(labels))), "ticktext": list(labels)}
    for layer, heads in enumerate(patterns):
        for head, pattern in enumerate(heads):
            place: Any = {"row": 1, "col": layer + 1} if n_heads == 1 else {"row": layer + 1, "col": head + 1}
            figure.add_heatmap(
                z=pattern.tolist(), coloraxis="coloraxis", **place,
                customdata=[[f"{q} → {k}" for k in labels] for q in labels],
                hovertemplate="%{customdata}: %{z:.3f}<extra></extra>",
            )  # fmt: skip
            figure.update_xaxes(**ticks, title="looks at", tickangle=90, tickfont_size=9, **place)
            figure.update_yaxes(**ticks, title="token", autorange="reversed", tickfont_size=9, **place)
    figure.update_layout(
        **{**_LAYOUT, "margin": {"l": 70, "r": 20, "t": 80, "b": 60}},
        title=title,
        width=(side + 40) * n_columns + 130,
        height=(side + 70) * n_rows + 90,
        coloraxis={"colorscale": "Blues", "cmin": 0, "cmax": 1, "colorbar": {"title": "weight", "len": 0.9 / n_rows}},
    )
    return figure
