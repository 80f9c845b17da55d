"""Faithfulness of circuits by their size, in networks of a few or of many thousand edges."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from compo_mech.circuits.faithfulness import Curve, RandomCurves
from compo_mech.plots.theme import BLUE, GREEN, GREY, INK, LOG_AXIS, ORANGE, base_layout, legend_below


def faithfulness_by_size(own: Curve, random: Sequence[Curve], circuit: int | None) -> go.Figure:
    """Draw faithfulness against the number of edges, in score order and in random ones.

    Args:
        own: in score order.
        random: in random orders.
        circuit: edges of the circuit, which is marked; None: there is none.
    """
    figure = go.Figure()
    for k, curve in enumerate(random):
        figure.add_scatter(
            x=curve.n_edges[1:], y=curve.faithfulness.tolist()[1:], name="random order", legendgroup="random",
            showlegend=k == 0, line={"color": GREY, "width": 1.5},
        )  # fmt: skip
    values = own.faithfulness.tolist()
    figure.add_scatter(
        x=own.n_edges[1:], y=values[1:], name="in score order", mode="lines+markers",
        line={"color": BLUE}, marker={"size": 5},
    )  # fmt: skip
    figure.add_hline(y=1, line={"color": INK, "width": 1, "dash": "dash"})
    if circuit is not None:
        figure.add_vline(x=circuit, line={"color": GREEN, "width": 1.5, "dash": "dot"})
        figure.add_annotation(  # which on an axis of logarithms lies at a logarithm, unlike lines
            x=math.log10(circuit), y=1, yref="paper", yanchor="bottom", text="circuit", showarrow=False
        )
    figure.update_layout(
        **base_layout(), title="Faithfulness of circuits", width=820, height=420, legend=legend_below(60, 320)
    )
    figure.update_xaxes(title="edges in the circuit", **LOG_AXIS, range=[0, math.log10(own.n_edges[-1]) + 0.05])
    figure.update_yaxes(title="faithfulness", range=_shown_range(values))
    return figure


def faithfulness_curves(own: Curve, random: RandomCurves | None, control: Curve) -> go.Figure:
    """Faithfulness against the share of edges: in score order, in random order, and of a control."""
    figure = go.Figure()
    shares = [n / own.n_edges[-1] for n in own.n_edges]
    if random is not None:
        low, high = random.low.tolist(), random.high.tolist()
        figure.add_scatter(
            x=[*shares, *reversed(shares)], y=[*high, *reversed(low)], fill="toself", fillcolor="rgba(154,160,166,.25)",
            line={"width": 0}, name="random order, 95%", hoverinfo="skip",
        )  # fmt: skip
        figure.add_scatter(x=shares, y=random.mean.tolist(), name="random order", line={"color": GREY})
    if control.cpr is not None:
        figure.add_scatter(
            x=shares, y=control.faithfulness.tolist(), name="control", line={"color": ORANGE, "dash": "dot"}
        )
    figure.add_scatter(
        x=shares, y=own.faithfulness.tolist(), name="in score order", mode="lines+markers",
        line={"color": BLUE}, marker={"size": 5},
    )  # fmt: skip
    figure.add_hline(y=1, line={"color": INK, "width": 1, "dash": "dash"})
    figure.update_layout(
        **base_layout(), title="Faithfulness of circuits", width=820, height=420, legend=legend_below(60, 320)
    )
    figure.update_xaxes(title="fraction of edges", tickformat=".0%")
    values = [*own.faithfulness.tolist(), *control.faithfulness.tolist()]
    figure.update_yaxes(title="faithfulness", range=_shown_range(values))
    return figure


def _shown_range(values: Sequence[float]) -> list[float]:
    """Return the range of an axis that shows 0, 1 and all values from -1 to 2."""
    # a NaN, which is not drawn, is neither less nor greater than the number that comes first
    return [max(-1.0, min([0.0, *values])) - 0.05, min(2.0, max([1.0, *values])) + 0.08]
