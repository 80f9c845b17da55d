"""What a figure shows, in words: for those who do not see it."""

import html
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from compo_mech.plots.theme import layout_of

if TYPE_CHECKING:
    import plotly.graph_objects as go

N_NAMED = 12
"""Curves, or panels, that are named."""


def alternative(figure: "go.Figure") -> str:
    """Describe a figure: kind, title, panels, axes, where its curves end, where its maps are largest.

    Example:
        >>> import plotly.graph_objects as go
        >>> from compo_mech.plots.alternative import alternative
        >>> curve = go.Scatter(x=[0, 100], y=[0.5, 1.0], name="accuracy", mode="lines")
        >>> alternative(go.Figure(curve).update_layout(title="Training").update_xaxes(title="step"))
        'Chart. Training. Across: step, 0 to 100. Curves and dots: accuracy, ends at 1.'
    """
    layout, traces = layout_of(figure), list[Any](figure.data)
    maps = [trace for trace in traces if trace.type == "heatmap"]
    others = [trace for trace in traces if trace.type in ("scatter", "bar")]
    kind = "Chart" if not maps else "Heat map" if len(maps) == 1 else f"{len(maps)} heat maps"
    said = [kind, words(layout.title.text)]
    said.append(_listed("Panels", [words(note.text) for note in layout.annotations if _is_title(note)]))
    said.append(_axes("Across", figure.select_xaxes(), [trace.x for trace in others]))
    said.append(_axes("Up", figure.select_yaxes(), []))
    said.append(_listed("Curves and dots", [_curve(trace) for trace in others if trace.name and _is_named(trace)]))
    said.append(_listed("Largest", [_largest(trace) for trace in maps]))
    return " ".join(f"{text}." for text in said if text)


def words(text: str | None) -> str:
    """Return a text of plotly's without its tags."""
    return html.unescape(re.sub("<.*?>", "", (text or "").replace("<br>", " ").replace("<sub>", "_"))).rstrip(". ")


def _is_title(note: Any) -> bool:
    """Return whether a note is the title of a panel, as plotly's subplots have it."""
    return note.xref == "paper" and note.yref == "paper" and note.yanchor == "bottom" and not note.showarrow


def _is_named(trace: Any) -> bool:
    return trace.showlegend is not False and any(
        value is not None for value in (trace.x if trace.x is not None else ())
    )


def _listed(what: str, names: Iterable[str]) -> str:
    found = [name for name in dict.fromkeys(names) if name]
    more = f" and {len(found) - N_NAMED} more" if len(found) > N_NAMED else ""
    return f"{what}: {'; '.join(found[:N_NAMED])}{more}" if found else ""


def _axes(what: str, axes: Iterable[Any], values: Iterable[Any]) -> str:
    """Name the axes of one direction, and the range of numbers along them."""
    named = _listed(what, [words(axis.title.text) for axis in axes])
    numbers = [v for own in values if own is not None for v in own if isinstance(v, int | float | np.number) and v == v]
    return f"{named}, {_short(min(numbers))} to {_short(max(numbers))}" if named and numbers else named


def _curve(trace: Any) -> str:
    """Name a curve, and say where it ends."""
    values = [] if trace.y is None else [v for v in trace.y if isinstance(v, int | float | np.number) and v == v]
    is_line = trace.type == "scatter" and "lines" in (trace.mode or "lines")
    return words(trace.name) + (f", ends at {_short(values[-1])}" if is_line and values else "")


def _largest(trace: Any) -> str:
    """Say how large the largest number of a map is, and where."""
    grid = np.array([[np.nan if v is None else v for v in row] for row in trace.z], dtype=float)
    if not np.isfinite(grid).any():
        return ""
    row, column = np.unravel_index(int(np.nanargmax(np.abs(grid))), grid.shape)
    where = [words(str(names[i])) for names, i in ((trace.y, row), (trace.x, column)) if names is not None]
    return _short(grid[row, column]) + (f" at {', '.join(where)}" if where else "")


def _short(value: Any) -> str:
    return f"{float(value):.3g}" if abs(value) < 1e4 else f"{float(value):.0f}"
