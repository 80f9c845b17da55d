"""Figures of analyses: patching maps, faithfulness curves, route maps, figures with their controls, over training."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from compo_mech.faithfulness import Curve, RandomCurves
from compo_mech.plotting import HEAD_COLOURS, LAYOUT
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


CONTROL_COLOURS = ("#e07a1f", "#9aa0a6", "#2a9d6f", "#c2418f", "#1f9ac2")
"""Of controls, in the order in which they are given."""


def dots(
    names: Sequence[str],
    values: Sequence[tuple[float, float, float]],
    controls: Mapping[str, Sequence[float | None]],
    title: str,
    unit: str,
) -> go.Figure:
    """Figures with their intervals, one below the other, each beside its controls.

    Args:
        names: of the figures.
        values: (value, low, high) of each.
        controls: by name, a value for each figure; None: it has no such control.
        title: of the whole figure.
        unit: of the values.
    """
    figure = go.Figure()
    for (control, given), colour in zip(controls.items(), CONTROL_COLOURS, strict=False):
        figure.add_scatter(
            x=list(given), y=list(names), mode="markers", name=control,
            marker={"size": 9, "color": colour, "symbol": "line-ns-open", "line": {"width": 2}},
            hovertemplate=control + ", %{y}: %{x:.2f}<extra></extra>",
        )  # fmt: skip
    mean, low, high = zip(*values, strict=True)
    figure.add_scatter(
        x=list(mean), y=list(names), mode="markers", name="network", marker={"size": 10, "color": "#4c5fd5"},
        error_x={
            "type": "data", "symmetric": False, "color": "#4c5fd5", "thickness": 1.5,
            "array": [h - m for m, h in zip(mean, high, strict=True)],
            "arrayminus": [m - lo for m, lo in zip(mean, low, strict=True)],
        },
        hovertemplate="%{y}: %{x:.2f}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(
        **{**LAYOUT, "margin": {"l": 230, "r": 20, "t": 50, "b": 90}},
        title=title,
        width=820,
        height=170 + 34 * len(names),
        legend={"orientation": "h", "y": -60 / (30 + 34 * len(names)), "x": 0},
    )
    figure.update_xaxes(title=unit, range=[min(-0.03, *low), 1.03], dtick=0.25)
    figure.update_yaxes(autorange="reversed", tickmode="array", tickvals=list(names))
    return figure


def by_step(
    panels: Mapping[str, Mapping[str, tuple[Sequence[int], Sequence[tuple[float, float, float]]]]],
    control: Mapping[str, Mapping[str, float]],
    title: str,
) -> go.Figure:
    """Figures over training with their intervals, a panel each group; dotted: of a freshly initialised network.

    Args:
        panels: by title, curves by name: steps, and (value, low, high) at each.
        control: by title and name, the control's value.
        title: of the whole figure.
    """
    figure = make_subplots(
        len(panels), 1, subplot_titles=list(panels), shared_xaxes=True, vertical_spacing=0.3 / len(panels)
    )
    colours = ("#4c5fd5", *CONTROL_COLOURS)
    for row, (panel, curves) in enumerate(panels.items(), start=1):
        legend = "legend" if row == 1 else f"legend{row}"
        for (name, (steps, values)), colour in zip(curves.items(), colours, strict=False):
            mean, low, high = (list(part) for part in zip(*values, strict=True))
            band = f"rgba({int(colour[1:3], 16)},{int(colour[3:5], 16)},{int(colour[5:], 16)},.15)"
            figure.add_scatter(
                x=[*steps, *reversed(steps)], y=[*high, *reversed(low)], fill="toself", fillcolor=band,
                line={"width": 0}, hoverinfo="skip", showlegend=False, row=row, col=1,
            )  # fmt: skip
            figure.add_scatter(
                x=list(steps), y=mean, name=name, mode="lines", line={"color": colour}, legend=legend, row=row, col=1,
                hovertemplate=f"{name}, step %{{x}}: %{{y:.2f}}<extra></extra>",
            )  # fmt: skip
            if name in control.get(panel, {}):
                level = control[panel][name]
                figure.add_scatter(
                    x=[min(steps), max(steps)], y=[level, level], mode="lines",
                    line={"color": colour, "dash": "dot", "width": 1}, hoverinfo="skip", showlegend=False,
                    row=row, col=1,
                )  # fmt: skip
        top = 1 - (row - 1) * (1 + 0.3 / len(panels)) / len(panels) if len(panels) > 1 else 1
        figure.update_layout({legend: {"y": top, "yanchor": "top", "x": 1.02}})
        figure.update_yaxes(range=[-0.03, 1.03], dtick=0.5, row=row, col=1)
    figure.update_layout(
        **{**LAYOUT, "margin": {"l": 50, "r": 20, "t": 80, "b": 50}},
        title=title,
        width=900,
        height=130 + 210 * len(panels),
    )
    figure.update_xaxes(title="step", row=len(panels), col=1)
    return figure


def table_map(
    values: Sequence[Sequence[float]], columns: Sequence[str], rows: Sequence[str], title: str, unit: str
) -> go.Figure:
    """A table of numbers as a heat map, white at 0."""
    largest = max(abs(value) for row in values for value in row) or 1.0
    figure = go.Figure()
    figure.add_heatmap(
        z=[list(row) for row in values], x=list(columns), y=list(rows),
        zmin=-largest, zmax=largest, colorscale="RdBu_r",
        colorbar={"title": unit}, xgap=1, ygap=1, hovertemplate="%{y}, %{x}: %{z:.3g}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(
        **{**LAYOUT, "margin": {"l": 110, "r": 20, "t": 60, "b": 60}}, title=title,
        width=260 + 26 * max(14, len(columns)), height=160 + 24 * len(rows),
    )  # fmt: skip
    figure.update_xaxes(type="category", side="bottom")
    figure.update_yaxes(type="category", autorange="reversed")
    return figure


def interchange_maps(tables: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Interchange accuracy of each variable at each site, a panel a network and kind of source.

    Args:
        tables: by title, columns variable, others, site, interchange.
    """
    panels = {
        f"{name}, {others} others": table[table["others"] == others]
        for name, table in tables.items()
        for others in ("same", "free")
    }
    figure = make_subplots(
        len(panels), 1, subplot_titles=list(panels), vertical_spacing=0.2 / len(panels), shared_xaxes=True
    )
    for row, rows in enumerate(panels.values(), start=1):
        grid = rows.pivot(index="variable", columns="site", values="interchange")
        grid = grid.loc[rows["variable"].unique(), rows["site"].unique()]
        figure.add_heatmap(
            z=grid.to_numpy().tolist(), x=list(grid.columns), y=list(grid.index), coloraxis="coloraxis", xgap=1, ygap=1,
            text=[[f"{v:.2f}" for v in line] for line in grid.to_numpy()], texttemplate="%{text}",
            hovertemplate="%{y} at %{x}: %{z:.2f}<extra></extra>", row=row, col=1,
        )  # fmt: skip
        figure.update_yaxes(autorange="reversed", row=row, col=1)
    n_sites = tables[next(iter(tables))]["site"].nunique()
    figure.update_layout(
        **{**LAYOUT, "margin": {"l": 80, "r": 20, "t": 80, "b": 40}},
        title="Where each variable is held",
        width=200 + 58 * n_sites,
        height=160 + 150 * len(panels),
        coloraxis={"colorscale": "Blues", "cmin": 0.5, "cmax": 1, "colorbar": {"title": "interchange"}},
    )
    return figure


def interchange_by_step(table: pd.DataFrame) -> go.Figure:
    """Interchange accuracy over training, a panel a variable and kind of source, a row a site.

    Args:
        table: columns step, variable, others, site, interchange.
    """
    panels = list(table.groupby(["variable", "others"], sort=False))
    names = [f"{variable}, {others} others" for (variable, others), _ in panels]
    sites = list(table["site"].unique())
    figure = make_subplots(
        (len(panels) + 1) // 2, 2, subplot_titles=names, vertical_spacing=0.06, horizontal_spacing=0.12
    )
    for n, (_, rows) in enumerate(panels):
        grid = rows.pivot(index="site", columns="step", values="interchange").loc[sites]
        row, col = n // 2 + 1, n % 2 + 1
        figure.add_heatmap(
            z=grid.to_numpy().tolist(), x=[str(step) for step in grid.columns], y=sites, coloraxis="coloraxis",
            hovertemplate="step %{x}, %{y}: %{z:.2f}<extra></extra>", row=row, col=col,
        )  # fmt: skip
        figure.update_yaxes(autorange="reversed", row=row, col=col)
        figure.update_xaxes(type="category", row=row, col=col)
    n_rows = (len(panels) + 1) // 2
    figure.update_layout(
        **{**LAYOUT, "margin": {"l": 90, "r": 20, "t": 80, "b": 50}},
        title="Where each variable is held, by step",
        width=1000,
        height=140 + (70 + 22 * len(sites)) * n_rows,
        coloraxis={"colorscale": "Blues", "cmin": 0.5, "cmax": 1, "colorbar": {"title": "interchange"}},
    )
    return figure


PART_COLOURS = {
    "t in the query": "#8a6d3b",
    "lookup": "#4c5fd5",
    "x fetched": "#1f9ac2",
    "textbook route": "#2a9d6f",
    "iteration": "#e07a1f",
    "worth of iteration": "#b23a3a",
    "state written": "#c2418f",
    "probe of t": "#d0a85a",
    "probe of the state": "#e58cc2",
    "accuracy": "#202124",
}


def timeline(rows: pd.DataFrame, title: str) -> go.Figure:
    """When each part came about: a line from onset to saturation with a dot half way, for each run.

    Args:
        rows: columns part, run, onset, midpoint, saturation, last_step; inf: later or never. With several runs a
            diamond is the median of their midpoints, and the number of runs without any stands at the right.
        title: of the figure.
    """
    names = [part for part in PART_COLOURS if part in set(rows["part"])]
    names += [part for part in dict.fromkeys(rows["part"]) if part not in names]
    medians = rows.groupby("part")["midpoint"].median()
    names.sort(key=lambda part: float(medians[part]))
    figure, end = go.Figure(), float(rows["last_step"].max())
    for place, part in enumerate(names):
        own = rows[rows["part"] == part].sort_values("midpoint")
        came = own[own["midpoint"] < math.inf]
        colour = PART_COLOURS.get(part, "#6b6b6b")
        for n, row in enumerate(came.to_dict("records")):
            y = place + 0.7 * ((n + 0.5) / len(own) - 0.5)
            ends = [max(0.0, row["onset"]), min(end, row["saturation"])]
            figure.add_scatter(
                x=ends, y=[y, y], mode="lines", line={"color": colour, "width": 3 if len(own) == 1 else 1.4},
                opacity=0.55, showlegend=False, hoverinfo="skip",
            )  # fmt: skip
            told = f"{row['run']}, {part}: onset {row['onset']:.0f}, half way {row['midpoint']:.0f}, end "
            figure.add_scatter(
                x=[row["midpoint"]], y=[y], mode="markers", marker={"color": colour, "size": 9 if len(own) == 1 else 5},
                showlegend=False, hovertemplate=f"{told}{row['saturation']:.0f}<extra></extra>",
            )  # fmt: skip
        if len(own) > 1 and 2 * len(came) > len(own):
            figure.add_scatter(
                x=[float(medians[part])], y=[place], mode="markers", showlegend=False, hoverinfo="skip",
                marker={"color": "#ffffff", "symbol": "diamond", "size": 11, "line": {"color": colour, "width": 2}},
            )  # fmt: skip
        if len(own) > len(came):
            text = "did not rise" if len(own) == 1 else f"{len(own) - len(came)} of {len(own)} did not rise"
            figure.add_annotation(x=1.01, xref="paper", y=place, text=text, showarrow=False, xanchor="left")
    figure.update_layout(
        **{**LAYOUT, "margin": {"l": 150, "r": 150, "t": 60, "b": 50}}, title=title, width=1000,
        height=130 + (34 if rows["run"].nunique() == 1 else 62) * len(names),
    )  # fmt: skip
    figure.update_xaxes(title="step", range=[-0.02 * end, 1.02 * end])
    figure.update_yaxes(
        tickmode="array", tickvals=list(range(len(names))), ticktext=names, range=[len(names) - 0.4, -0.6],
        showgrid=False, zeroline=False,
    )  # fmt: skip
    return figure


def curves_of_runs(
    panels: Mapping[str, Mapping[str, tuple[Sequence[int], Sequence[float]]]], names: Sequence[str], title: str
) -> go.Figure:
    """Curves of several runs over each other, a panel a measure, a colour a run.

    Args:
        panels: by title, a run's steps and values, by its name; a run without this measure is left out.
        names: of all runs, each once in the legend.
        title: of the whole figure.
    """
    colours = list(HEAD_COLOURS)
    if len(names) > len(colours):
        colours = sample_colorscale("Turbo", [i / (len(names) - 1) for i in range(len(names))])
    figure = make_subplots(len(panels), 1, subplot_titles=list(panels), shared_xaxes=True, vertical_spacing=0.08)
    shown: set[str] = set()
    for row, curves in enumerate(panels.values(), start=1):
        for name, colour in zip(names, colours, strict=False):
            if name in curves:
                steps, values = curves[name]
                figure.add_scatter(
                    x=list(steps), y=list(values), mode="lines", name=name, legendgroup=name, opacity=0.8,
                    line={"color": colour}, showlegend=name not in shown, row=row, col=1,
                    hovertemplate="step %{x}: %{y:.2f}",
                )  # fmt: skip
                shown.add(name)
        figure.update_yaxes(range=[-0.03, 1.03], dtick=0.5, row=row, col=1)
    figure.update_xaxes(title="step", row=len(panels), col=1)
    layout = {**LAYOUT, "margin": {"l": 50, "r": 20, "t": 80, "b": 50}}
    figure.update_layout(**layout, title=title, height=130 + 230 * len(panels), showlegend=True)
    return figure
