"""Figures beside their controls."""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from compo_mech.plots.theme import BLUE, CONTROL_COLOURS, DIVERGING, base_layout, legend_below, scale

if TYPE_CHECKING:
    import plotly.graph_objects as go


def dots(
    names: Sequence[str],
    values: Sequence[tuple[float, float, float]],
    controls: Mapping[str, Sequence[float | None]],
    title: str,
    unit: str,
) -> "go.Figure":
    """Figures with their intervals, one below the other, each beside its controls.

    Args:
        names: of the figures.
        values: (value, low, high) of each.
        controls: by name, a value for each figure; None: it has no such control.
        title: of the whole figure.
        unit: of the values.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    for (control, given), colour in zip(controls.items(), itertools.cycle(CONTROL_COLOURS), strict=False):
        figure.add_scatter(
            x=list(given), y=list(names), mode="markers", name=control,
            marker={"size": 9, "color": colour, "symbol": "line-ns-open", "line": {"width": 2}},
            hovertemplate=control + ", %{y}: %{x:.2f}<extra></extra>",
        )  # fmt: skip
    mean, low, high = zip(*values, strict=True)
    figure.add_scatter(
        x=list(mean), y=list(names), mode="markers", name="trained", marker={"size": 10, "color": BLUE},
        error_x={
            "type": "data", "symmetric": False, "color": BLUE, "thickness": 1.5,
            "array": [h - m for m, h in zip(mean, high, strict=True)],
            "arrayminus": [m - lo for m, lo in zip(mean, low, strict=True)],
        },
        hovertemplate="%{y}: %{x:.2f}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(
        **{**base_layout(), "margin": {"l": 230, "r": 20, "t": 50, "b": 90}},
        title=title,
        width=820,
        height=170 + 34 * len(names),
        legend=legend_below(60, 30 + 34 * len(names)),
    )
    figure.update_xaxes(title=unit, range=[min(-0.03, *low), 1.03], dtick=0.25)
    figure.update_yaxes(autorange="reversed", tickmode="array", tickvals=list(names))
    return figure


def table_map(
    values: Sequence[Sequence[float]], columns: Sequence[str], rows: Sequence[str], title: str, unit: str
) -> "go.Figure":
    """A table of numbers as a heat map, white at 0."""
    import plotly.graph_objects as go

    largest = max(abs(value) for row in values for value in row) or 1.0
    figure = go.Figure()
    figure.add_heatmap(
        z=[list(row) for row in values], x=list(columns), y=list(rows),
        zmin=-largest, zmax=largest, colorscale=scale(DIVERGING),
        colorbar={"title": unit}, xgap=1, ygap=1, hovertemplate="%{y}, %{x}: %{z:.3g}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(
        **{**base_layout(), "margin": {"l": 110, "r": 20, "t": 60, "b": 60}}, title=title,
        width=260 + 26 * max(14, len(columns)), height=160 + 24 * len(rows),
    )  # fmt: skip
    figure.update_xaxes(type="category", side="bottom")
    figure.update_yaxes(type="category", autorange="reversed")
    return figure
