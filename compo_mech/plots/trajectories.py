"""Figures followed over training, and when each component came about."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from compo_mech.analyses.emergence_sentences import fate
from compo_mech.plots.panels import legend_of, stacked
from compo_mech.plots.theme import (
    BLUE,
    COMPONENT_COLOURS,
    CONTROL_COLOURS,
    DARK_GREY,
    HEAD_COLOURS,
    PAPER,
    base_layout,
    layout_of,
    legend_below,
    ordered_colours,
    plain,
)

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


def by_step(
    panels: Mapping[str, Mapping[str, tuple[Sequence[int], Sequence[tuple[float, float, float]]]]],
    control: Mapping[str, Mapping[str, float]],
    title: str,
) -> "go.Figure":
    """Draw figures over training with their intervals, a panel each group; dotted: of the randomly initialised control.

    Args:
        panels: by title, curves by name: steps, and (value, low, high) at each.
        control: by title and name, the control's value.
        title: of the whole figure.
    """
    figure = stacked({panel: list(curves) for panel, curves in panels.items()}, title)
    others = itertools.cycle((BLUE, *CONTROL_COLOURS, *HEAD_COLOURS))
    for row, (panel, curves) in enumerate(panels.items(), start=1):
        for name, (steps, values) in curves.items():
            colour = COMPONENT_COLOURS.get(name) or next(others)
            mean, low, high = (list(column) for column in zip(*values, strict=True))
            band = f"rgba({int(colour[1:3], 16)},{int(colour[3:5], 16)},{int(colour[5:], 16)},.15)"
            figure.add_scatter(
                x=[*steps, *reversed(steps)], y=[*high, *reversed(low)], fill="toself", fillcolor=band,
                line={"width": 0}, hoverinfo="skip", showlegend=False, row=row, col=1,
            )  # fmt: skip
            figure.add_scatter(
                x=list(steps), y=mean, name=name, mode="lines", line={"color": colour}, legend=legend_of(row),
                row=row, col=1, hovertemplate=f"{name}, step %{{x}}: %{{y:.2f}}<extra></extra>",
            )  # fmt: skip
            if name in control.get(panel, {}):
                level = control[panel][name]
                figure.add_scatter(
                    x=[min(steps), max(steps)], y=[level, level], mode="lines",
                    line={"color": colour, "dash": "dot", "width": 1}, hoverinfo="skip", showlegend=False,
                    row=row, col=1,
                )  # fmt: skip
        figure.update_yaxes(range=[-0.03, 1.03], dtick=0.5, row=row, col=1)
    figure.update_layout(width=900)
    return figure


def timeline(rows: "pd.DataFrame", title: str) -> "go.Figure":
    """Draw when each component came about: a line from onset to saturation with a dot half way, for each run.

    Args:
        rows: columns component, run, onset, midpoint, saturation, last_step and perhaps course; inf: later or never,
            nan: not dated. With several runs a diamond is the median of their midpoints, where more than half have
            one; why runs are not shown, and how many, stands at the right.
        title: of the figure.
    """
    import plotly.graph_objects as go

    names = [component for component in COMPONENT_COLOURS if component in set(rows["component"])]
    names += [component for component in dict.fromkeys(rows["component"]) if component not in names]
    medians = rows.groupby("component")["midpoint"].agg(_median_of_most)
    names.sort(key=lambda component: float(medians[component]))
    figure, end = go.Figure(), float(rows["last_step"].max())
    for position, component in enumerate(names):
        own = rows[rows["component"] == component].sort_values("midpoint")
        came = own[own["midpoint"].abs() < math.inf]
        colour = COMPONENT_COLOURS.get(component, DARK_GREY)
        for n, row in enumerate(came.to_dict("records")):
            y = position + 0.7 * ((n + 0.5) / len(own) - 0.5)
            ends = [max(0.0, row["onset"]), min(end, row["saturation"])]
            figure.add_scatter(
                x=ends, y=[y, y], mode="lines", line={"color": colour, "width": 3 if len(own) == 1 else 1.4},
                opacity=0.55, showlegend=False, hoverinfo="skip",
            )  # fmt: skip
            text = (
                f"{plain(str(row['run']))}, {component}: onset {row['onset']:.0f}, half way {row['midpoint']:.0f}, end "
            )
            figure.add_scatter(
                x=[row["midpoint"]], y=[y], mode="markers", marker={"color": colour, "size": 9 if len(own) == 1 else 5},
                showlegend=False, hovertemplate=f"{text}{row['saturation']:.0f}<extra></extra>",
            )  # fmt: skip
        if len(own) > 1 and float(medians[component]) < math.inf:
            figure.add_scatter(
                x=[float(medians[component])], y=[position], mode="markers", showlegend=False, hoverinfo="skip",
                marker={"color": PAPER, "symbol": "diamond", "size": 11, "line": {"color": colour, "width": 2}},
            )  # fmt: skip
        if len(own) > len(came):
            left_out = [fate(row) for row in own.drop(came.index).to_dict("records")]
            counts = {reason: left_out.count(reason) for reason in dict.fromkeys(left_out)}
            text = "<br>".join(r if len(own) == 1 else f"{n} of {len(own)} {r}" for r, n in counts.items())
            figure.add_annotation(
                x=1.01, xref="paper", y=position, text=text, showarrow=False, xanchor="left", align="left"
            )
    figure.update_layout(
        **{**base_layout(), "margin": {"l": 180, "r": 270 if layout_of(figure).annotations else 20, "t": 60, "b": 50}},
        title=title, width=1120 if layout_of(figure).annotations else 870,
        height=130 + (34 if rows["run"].nunique() == 1 else 62) * len(names),
    )  # fmt: skip
    figure.update_xaxes(title="step", range=[-0.02 * end, 1.02 * end])
    figure.update_yaxes(
        tickmode="array", tickvals=list(range(len(names))), ticktext=names, range=[len(names) - 0.4, -0.6],
        showgrid=False, zeroline=False,
    )  # fmt: skip
    return figure


def _median_of_most(midpoints: "pd.Series") -> float:
    """Return the median of those that came; inf, which is last, where they are not more than half."""
    came = midpoints[midpoints.abs() < math.inf]
    return float(came.median()) if 2 * len(came) > len(midpoints) else math.inf


def curves_of_runs(
    panels: Mapping[str, Mapping[str, tuple[Sequence[int], Sequence[float]]]], names: Sequence[str], title: str
) -> "go.Figure":
    """Draw curves of several runs over each other, a panel a measure, a colour a run.

    Args:
        panels: by title, a run's steps and values, by its name; a run without this measure is left out.
        names: of all runs, each once in the legend.
        title: of the whole figure.
    """
    from plotly.subplots import make_subplots

    colours = HEAD_COLOURS if len(names) <= len(HEAD_COLOURS) else ordered_colours(len(names))
    figure = make_subplots(len(panels), 1, subplot_titles=list(panels), shared_xaxes=True, vertical_spacing=0.08)
    shown: set[str] = set()
    for row, curves in enumerate(panels.values(), start=1):
        for name, colour in zip(names, colours, strict=False):
            if name in curves:
                steps, values = curves[name]
                figure.add_scatter(
                    x=list(steps), y=list(values), mode="lines", name=plain(name), legendgroup=name, opacity=0.8,
                    line={"color": colour}, showlegend=name not in shown, row=row, col=1,
                    hovertemplate="step %{x}: %{y:.2f}",
                )  # fmt: skip
                shown.add(name)
        figure.update_yaxes(range=[-0.03, 1.03], dtick=0.5, row=row, col=1)
    figure.update_xaxes(title="step", row=len(panels), col=1)
    layout = {**base_layout(), "margin": {"l": 50, "r": 20, "t": 80, "b": 50}}
    height = 130 + 230 * len(panels)
    figure.update_layout(**layout, title=title, height=height, showlegend=True, legend=legend_below(60, height - 130))
    return figure
