"""The routes of x_t, cell by cell."""

from typing import TYPE_CHECKING

from compo_mech.plots.theme import (
    BLUE,
    BROWN,
    CYAN,
    GREEN,
    GREY,
    INK,
    LINE,
    ORANGE,
    PAPER,
    PINK,
    base_layout,
    legend_below,
)
from compo_mech.routes.summary import SHARE_FLOOR, RouteMap, RouteName

if TYPE_CHECKING:
    import plotly.graph_objects as go

ROUTE_COLOURS = {
    RouteName.TEXTBOOK: GREEN,
    RouteName.OFFSET: ORANGE,
    RouteName.STATE: BLUE,
    RouteName.ACCUMULATED: PINK,
    RouteName.STRAIGHT: CYAN,
    RouteName.ATTENTION: BROWN,
    RouteName.MIXED: GREY,
    RouteName.NO_ROUTE: LINE,
}


def route_cells(routes: RouteMap) -> "go.Figure":
    """Draw the name of x_t's route and its fraction of the effect, for each length and t; hover for the strongest
    routes."""
    import plotly.graph_objects as go

    cells = [cell for cell in routes.cells if cell.variable == "x"]
    figure = go.Figure()
    for name in RouteName:
        named = [cell for cell in cells if cell.name == name]
        if not named:
            continue
        hover = []
        for cell in named:
            labels = routes.layout.labels(cell.length)
            order = sorted(range(len(cell.routes)), key=lambda i: -abs(float(cell.share[i])))[:4]
            lines = []
            for i in order:
                if abs(float(cell.share[i])) >= SHARE_FLOOR:
                    first, second = cell.routes[i].hops
                    lines.append(f"{first}, {labels[cell.routes[i].carrier]}, {second}: {float(cell.share[i]):.2f}")
            hover.append("<br>".join([f"length {cell.length}, t = {cell.t}: {name}", *lines]))
        texts = ["" if name == RouteName.NO_ROUTE else f"{cell.shares.get(name, 0.0):.2f}" for cell in named]
        figure.add_scatter(
            x=[cell.t for cell in named], y=[cell.length for cell in named], mode="markers+text", name=str(name),
            marker={"symbol": "square", "size": 30, "color": ROUTE_COLOURS[name]},
            text=texts, textfont={"color": PAPER if name != RouteName.NO_ROUTE else INK, "size": 10},
            customdata=hover, hovertemplate="%{customdata}<extra></extra>",
        )  # fmt: skip
    lengths = sorted({cell.length for cell in cells})
    figure.update_layout(
        **base_layout(), title="How x<sub>t</sub> reaches s<sub>t</sub>; the number is its fraction", showlegend=True,
        width=330 + 42 * max(lengths, default=1), height=170 + 38 * len(lengths),
        legend=legend_below(60, 70 + 38 * len(lengths)),
    )  # fmt: skip
    figure.update_xaxes(title="t", dtick=1, range=[0.4, max(lengths, default=1) + 0.6], showgrid=False, zeroline=False)
    span = [min(lengths, default=1) - 0.6, max(lengths, default=1) + 0.6]
    figure.update_yaxes(title="length", dtick=1, range=span, showgrid=False, zeroline=False)
    return figure
