"""Where a network holds the algorithm's variables."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from compo_mech.plots.theme import SEQUENTIAL, base_layout, scale


def interchange_maps(tables: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Draw the IIA of each variable at each site, a panel a network and context.

    Args:
        tables: by title, columns variable, context, site, iia.
    """
    panels = {
        f"{name}, {context} context": table[table["context"] == context]
        for name, table in tables.items()
        for context in ("matched", "independent")
    }
    figure = make_subplots(
        len(panels), 1, subplot_titles=list(panels), vertical_spacing=0.2 / len(panels), shared_xaxes=True
    )
    for row, rows in enumerate(panels.values(), start=1):
        grid = rows.pivot(index="variable", columns="site", values="iia")
        grid = grid.loc[rows["variable"].unique(), rows["site"].unique()]
        figure.add_heatmap(
            z=grid.to_numpy().tolist(), x=list(grid.columns), y=list(grid.index), coloraxis="coloraxis", xgap=1, ygap=1,
            text=[[f"{v:.2f}" for v in line] for line in grid.to_numpy()], texttemplate="%{text}",
            hovertemplate="%{y} at %{x}: %{z:.2f}<extra></extra>", row=row, col=1,
        )  # fmt: skip
        figure.update_yaxes(autorange="reversed", row=row, col=1)
    n_sites = tables[next(iter(tables))]["site"].nunique()
    figure.update_layout(
        **{**base_layout(), "margin": {"l": 80, "r": 20, "t": 80, "b": 40}},
        title="Where each variable is held",
        width=200 + 58 * n_sites,
        height=160 + 150 * len(panels),
        coloraxis={"colorscale": scale(SEQUENTIAL), "cmin": 0.5, "cmax": 1, "colorbar": {"title": "IIA"}},
    )
    return figure


def interchange_by_step(table: pd.DataFrame) -> go.Figure:
    """Draw the IIA over training, a panel a variable and context, a row a site.

    Args:
        table: columns step, variable, context, site, iia.
    """
    panels = list(table.groupby(["variable", "context"], sort=False))
    names = [f"{variable}, {context} context" for (variable, context), _ in panels]
    sites = list(table["site"].unique())
    figure = make_subplots(
        (len(panels) + 1) // 2, 2, subplot_titles=names, vertical_spacing=0.06, horizontal_spacing=0.12
    )
    for n, (_, rows) in enumerate(panels):
        grid = rows.pivot(index="site", columns="step", values="iia").loc[sites]
        row, col = n // 2 + 1, n % 2 + 1
        figure.add_heatmap(
            z=grid.to_numpy().tolist(), x=[str(step) for step in grid.columns], y=sites, coloraxis="coloraxis",
            hovertemplate="step %{x}, %{y}: %{z:.2f}<extra></extra>", row=row, col=col,
        )  # fmt: skip
        figure.update_yaxes(autorange="reversed", row=row, col=col)
        figure.update_xaxes(type="category", row=row, col=col)
    n_rows = (len(panels) + 1) // 2
    figure.update_layout(
        **{**base_layout(), "margin": {"l": 90, "r": 20, "t": 80, "b": 50}},
        title="Where each variable is held, by step",
        width=1000,
        height=140 + (70 + 22 * len(sites)) * n_rows,
        coloraxis={"colorscale": scale(SEQUENTIAL), "cmin": 0.5, "cmax": 1, "colorbar": {"title": "IIA"}},
    )
    return figure
