"""Attention maps, and a slider over steps."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from compo_mech.plots.theme import SEQUENTIAL, base_layout, layout_of, plain, scale

if TYPE_CHECKING:
    import plotly.graph_objects as go


def attention_maps(patterns: Sequence[Float[Tensor, "head pos pos"]], labels: Sequence[str], title: str) -> "go.Figure":
    """Draw the attention of every head, the axes labelled by tokens: a row of panels a layer, or one row in
    all where layers have a single head.

    Args:
        patterns: one tensor a layer; queries down, keys across.
        labels: a name for every position.
        title: of the whole figure.
    """
    from plotly.subplots import make_subplots

    labels, (n_layers, n_heads) = [plain(label) for label in labels], (len(patterns), patterns[0].shape[0])
    n_rows, n_columns = (1, n_layers) if n_heads == 1 else (n_layers, n_heads)
    titles = [f"layer {layer} head {head}" for layer in range(n_layers) for head in range(n_heads)]
    side = 440 if n_columns <= 2 else 340
    figure = make_subplots(n_rows, n_columns, subplot_titles=titles, vertical_spacing=0.25 / n_rows)
    ticks: dict[str, Any] = {"tickmode": "array", "tickvals": list(range(len(labels))), "ticktext": labels}
    for layer, heads in enumerate(patterns):
        for head, pattern in enumerate(heads):
            cell: Any = {"row": 1, "col": layer + 1} if n_heads == 1 else {"row": layer + 1, "col": head + 1}
            figure.add_heatmap(
                z=_rounded(pattern), coloraxis="coloraxis", **cell,
                customdata=[[f"{q} → {k}" for k in labels] for q in labels],
                hovertemplate="%{customdata}: %{z:.3f}<extra></extra>",
            )  # fmt: skip
            figure.update_xaxes(**ticks, title="attends to", tickangle=90, tickfont_size=10, **cell)
            figure.update_yaxes(**ticks, title="token", autorange="reversed", tickfont_size=10, **cell)
    figure.update_layout(
        **{**base_layout(), "margin": {"l": 70, "r": 20, "t": 80, "b": 60}},
        title=title,
        width=(side + 40) * n_columns + 130,
        height=(side + 70) * n_rows + 90,
        coloraxis={
            "colorscale": scale(SEQUENTIAL),
            "cmin": 0,
            "cmax": 1,
            "colorbar": {"title": "weight", "len": 0.9 / n_rows},
        },
    )
    return figure


def with_slider(
    frames: Mapping[int, Sequence[Float[Tensor, "head pos pos"]]], labels: Sequence[str], title: str
) -> "go.Figure":
    """Draw attention maps with a slider over the steps of training; it starts at the last one.

    Args:
        frames: by step, the patterns of every layer.
        labels: a name for every position.
        title: of the figure.
    """
    steps = list(frames)
    figure = attention_maps(frames[steps[-1]], labels, title)
    changed = [i for i, _ in enumerate(figure.select_traces())]
    # plain dictionaries: plotly would check every weight of every step
    figure.frames = [
        {
            "name": str(step),
            "traces": changed,
            "data": [{"type": "heatmap", "z": _rounded(p)} for heads in patterns for p in heads],
        }
        for step, patterns in frames.items()
    ]
    at_once = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    figure.update_layout(
        height=layout_of(figure).height + 90,
        margin_b=layout_of(figure).margin.b + 90,
        sliders=[
            {
                "active": len(steps) - 1,
                "currentvalue": {"prefix": "step "},
                "pad": {"t": 70},
                "lenmode": "pixels",
                "len": 640,  # in reach where the screen is narrow
                "steps": [{"method": "animate", "label": str(step), "args": [[str(step)], at_once]} for step in steps],
            }
        ],
    )
    return figure


def _rounded(pattern: Float[Tensor, "pos pos"]) -> list[list[float]]:
    return [[round(weight, 3) for weight in row] for row in pattern.tolist()]
