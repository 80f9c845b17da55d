"""Maps of the effect of a patch by stage, head and position."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from compo_mech.plots.theme import DIVERGING, base_layout, plain, scale

if TYPE_CHECKING:
    import plotly.graph_objects as go


def effect_maps(
    maps: Mapping[str, Sequence[Sequence[float]]],
    columns: Sequence[str],
    rows: Sequence[str],
    title: str,
    unit: str = "nats",
) -> "go.Figure":
    """Draw effects as heat maps below each other, on one scale.

    Args:
        maps: by title, effects in rows of columns.
        columns, rows: their names.
        title: of the whole figure.
        unit: of the effects.
    """
    from plotly.subplots import make_subplots

    columns, rows = [plain(name) for name in columns], [plain(name) for name in rows]
    figure = make_subplots(len(maps), 1, subplot_titles=list(map(plain, maps)), vertical_spacing=0.34 / len(maps))
    largest = max(abs(value) for effects in maps.values() for row in effects for value in row) or 1.0
    for i, effects in enumerate(maps.values(), start=1):
        labels = [[f"{row}, {column}" for column in columns] for row in rows]
        figure.add_heatmap(
            z=effects, coloraxis="coloraxis", row=i, col=1, customdata=labels,
            hovertemplate="%{customdata}: %{z:.3g}<extra></extra>", xgap=1, ygap=1,
        )  # fmt: skip
        figure.update_xaxes(tickmode="array", tickvals=list(range(len(columns))), ticktext=columns, row=i, col=1)
        figure.update_yaxes(tickmode="array", tickvals=list(range(len(rows))), ticktext=rows, row=i, col=1)
    figure.update_layout(
        **{**base_layout(), "margin": {"l": 80, "r": 20, "t": 80, "b": 40}},
        title=title,
        width=190 + 44 * max(8, len(columns)),
        height=120 + (90 + 28 * len(rows)) * len(maps),
        coloraxis={"colorscale": scale(DIVERGING), "cmin": -largest, "cmax": largest, "colorbar": {"title": unit}},
    )
    return figure
