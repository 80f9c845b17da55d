"""Figures of analyses: patching maps, faithfulness curves, route maps."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from compo_mech.faithfulness import Curve, RandomCurves
from compo_mech.plotting import LAYOUT
from compo_mech.routes import SHARE_FLOOR, RouteMap, Way

WAY_COLOURS = {
    Way.TEXTBOOK: "#4c5fd5",
    Way.OFFSET: "#e07a1f",
    Way.STATE: "#2a9d6f",
    Way.ACCUMULATED: "#c2418f",
    Way.STRAIGHT: "#1f9ac2",
    Way.ATTENTION: "#8a6d3b",
    Way.MIXED: "#9aa0a6",
    Way.NO_ROUTE: "#e3e5e8",
}


def effect_maps(
    maps: Mapping[str, Sequence[Sequence[float]]], columns: Sequence[str], rows: Sequence[str], title: str
) -> go.Figure:
    """Effects as heat maps below each other, on one scale.

    Args:
        maps: by title, effects in rows of columns.
        columns, rows: their names.
        title: of the whole figure.
    """
    figure = make_subplots(len(maps), 1, subplot_titles=list(maps), vertical_spacing=0.34 / len(maps))
    largest = max(abs(value) for effects in maps.values() for row in effects for value in row) or 1.0
    for i, effects in enumerate(maps.values(), start=1):
        told = [[f"{row}, {column}" for column in columns] for row in rows]
        figure.add_heatmap(
            z=effects, coloraxis="coloraxis", row=i, col=1, customdata=told,
            hovertemplate="%{customdata}: %{z:.3g}<extra></extra>", xgap=1, ygap=1,
        )  # fmt: skip
        figure.update_xaxes(tickmode="array", tickvals=list(range(len(columns))), ticktext=list(columns), row=i, col=1)
        figure.update_yaxes(tickmode="array", tickvals=list(range(len(rows))), ticktext=list(rows), row=i, col=1)
    figure.update_layout(
        **{**LAYOUT, "margin": {"l": 80, "r": 20, "t": 80, "b": 40}},
        title=title,
        width=190 + 44 * max(8, len(columns)),
        height=120 + (90 + 28 * len(rows)) * len(maps),
        coloraxis={"colorscale": "RdBu_r", "cmin": -largest, "cmax": largest, "colorbar": {"title": "nats"}},
    )
    return figure


def faithfulness_curves(own: Curve, random: RandomCurves | None, control: Curve) -> go.Figure:
    """Faithfulness against the share of edges: in score order, in random order, and of a fresh network."""
    figure = go.Figure()
    shares = [n / own.n_edges[-1] for n in own.n_edges]
    if random is not None:
        low, high = random.low.tolist(), random.high.tolist()
        figure.add_scatter(
            x=[*shares, *reversed(shares)], y=[*high, *reversed(low)], fill="toself", fillcolor="rgba(154,160,166,.25)",
            line={"width": 0}, name="random order, 95%", hoverinfo="skip",
        )  # fmt: skip
        figure.add_scatter(x=shares, y=random.mean.tolist(), name="random order", line={"color": "#9aa0a6"})
    if control.cpr is not None:
        figure.add_scatter(
            x=shares, y=control.faithfulness.tolist(), name="fresh network", line={"color": "#e07a1f", "dash": "dot"}
        )
    figure.add_scatter(
        x=shares, y=own.faithfulness.tolist(), name="in score order", mode="lines+markers",
        line={"color": "#4c5fd5"}, marker={"size": 5},
    )  # fmt: skip
    figure.add_hline(y=1, line={"color": "#202124", "width": 1, "dash": "dash"})
    values = [v for v in (*own.faithfulness.tolist(), *control.faithfulness.tolist()) if v == v]
    figure.update_layout(**LAYOUT, title="Faithfulness of circuits", width=820, height=420)
    figure.update_xaxes(title="share of edges", tickformat=".0%")
    figure.update_yaxes(
        title="faithfulness", range=[max(-1.0, min([0.0, *values])) - 0.05, min(2.0, max([1.0, *values])) + 0.08]
    )
    return figure


def route_cells(routes: RouteMap) -> go.Figure:
    """What x_t's way is called, for each length and t, and its share; hover for the strongest routes."""
    cells = [cell for cell in routes.cells if cell.variable == "x"]
    figure = go.Figure()
    for way in Way:
        named = [cell for cell in cells if cell.name == way]
        if not named:
            continue
        told = []
        for cell in named:
            labels = routes.layout.labels(cell.length)
            order = sorted(range(len(cell.routes)), key=lambda i: -abs(float(cell.share[i])))[:4]
            lines = []
            for i in order:
                if abs(float(cell.share[i])) >= SHARE_FLOOR:
                    first, second = cell.routes[i].hops
                    lines.append(f"{first}, {labels[cell.routes[i].carrier]}, {second}: {float(cell.share[i]):.2f}")
            told.append("<br>".join([f"length {cell.length}, t = {cell.t}: {way}", *lines]))
        texts = ["" if way == Way.NO_ROUTE else f"{cell.shares.get(way, 0.0):.2f}" for cell in named]
        figure.add_scatter(
            x=[cell.t for cell in named], y=[cell.length for cell in named], mode="markers+text", name=str(way),
            marker={"symbol": "square", "size": 30, "color": WAY_COLOURS[way]},
            text=texts, textfont={"color": "#ffffff" if way != Way.NO_ROUTE else "#202124", "size": 10},
            customdata=told, hovertemplate="%{customdata}<extra></extra>",
        )  # fmt: skip
    lengths = sorted({cell.length for cell in cells})
    figure.update_layout(
        **LAYOUT, title="How x<sub>t</sub> reaches s<sub>t</sub>; the number is the share", showlegend=True,
        width=330 + 42 * max(lengths, default=1), height=170 + 38 * len(lengths), legend={"itemsizing": "constant"},
    )  # fmt: skip
    figure.update_xaxes(title="t", dtick=1, range=[0.4, max(lengths, default=1) + 0.6], showgrid=False, zeroline=False)
    span = [min(lengths, default=1) - 0.6, max(lengths, default=1) + 0.6]
    figure.update_yaxes(title="length", dtick=1, range=span, showgrid=False, zeroline=False)
    return figure
