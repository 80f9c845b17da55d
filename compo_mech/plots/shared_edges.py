"""The effect of each edge on two tasks."""

import plotly.graph_objects as go

from compo_mech.analyses.sharing import Sharing, Standing
from compo_mech.plots.theme import BLUE, BROWN, CYAN, GREY, INK, ORANGE, PINK, base_layout, legend_below, plain

N_SHOWN_EDGES = 36
STANDING_COLOURS: dict[tuple[Standing, bool | None], str] = {
    ("shared", False): BLUE,
    ("shared", True): CYAN,
    ("first", None): ORANGE,
    ("second", None): PINK,
    ("undecided", None): BROWN,
    ("neither", None): GREY,
}
"""By an edge's standing and, where that matters, whether its shares differ between the tasks."""


def edges_figure(found: Sharing) -> go.Figure:
    """Each edge's share of the gap for both tasks, joined by a line, coloured by what is said of the edge."""
    table = found.edges.assign(largest=found.edges[["first_share", "second_share"]].abs().max(axis=1))
    table = table.sort_values("largest", ascending=False).head(N_SHOWN_EDGES)
    first, second = map(plain, found.names)
    names = {
        ("shared", True): "shared, of other strength",
        ("first", None): f"only {first}'s",
        ("second", None): f"only {second}'s",
        ("neither", None): "in neither circuit",
    }
    figure = go.Figure()
    for symbol, name in (("circle", first), ("diamond-open", second)):
        figure.add_scatter(
            x=[None], y=[None], mode="markers", name=name, marker={"symbol": symbol, "size": 9, "color": INK}
        )
    for (standing, differs), colour in STANDING_COLOURS.items():
        rows = table[table["standing"] == standing]
        rows = rows if differs is None else rows[rows["differs"] == differs]
        if not len(rows):
            continue
        edges = [str(edge) for edge in rows["edge"]]
        one, other = rows["first_share"].tolist(), rows["second_share"].tolist()
        x = [value for pair in zip(one, other, [None] * len(one), strict=True) for value in pair]
        y = [value for edge in edges for value in (edge, edge, None)]
        figure.add_scatter(
            x=x, y=y, mode="lines", line={"color": colour, "width": 2}, showlegend=False, hoverinfo="skip"
        )
        for symbol, name, values in (("circle", first, one), ("diamond-open", second, other)):
            figure.add_scatter(
                x=values, y=edges, mode="markers", name=names.get((standing, differs), standing),
                legendgroup=f"{standing} {differs}",
                showlegend=symbol == "circle",
                marker={"symbol": symbol, "size": 9, "color": colour, "line": {"width": 2, "color": colour}},
                customdata=[f"{name}, p = {p:.3f}" for p in rows["p"]],
                hovertemplate="%{y}: %{x:.3f}, %{customdata}<extra></extra>",
            )  # fmt: skip
    figure.update_layout(
        **{**base_layout(), "margin": {"l": 130, "r": 20, "t": 50, "b": 50}},
        title="Effect of each edge on either task", width=900, height=150 + 20 * len(table), showlegend=True,
        legend=legend_below(60, 50 + 20 * len(table)),
    )  # fmt: skip
    figure.update_xaxes(title="fraction of the cross-entropy that there is to explain")
    order = [str(edge) for edge in table["edge"]]
    figure.update_yaxes(
        type="category",
        categoryorder="array",
        categoryarray=order,
        autorange="reversed",
        tickmode="array",
        tickvals=order,
        dtick=1,
    )
    return figure
