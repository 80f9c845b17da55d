"""Panels below each other on one time axis, the legend of each below it."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from compo_mech.plots.theme import base_layout

if TYPE_CHECKING:
    import plotly.graph_objects as go

LETTER, MARK, LINE = 7.5, 46, 20
"""Pixels that a letter of a legend takes, the line before a name, and a line of names."""


def stacked(names: Mapping[str, Sequence[str]], title: str, height: int = 150, width: int = 840) -> "go.Figure":
    """Lay out panels below each other; traces of a row go to `legend_of(row)`.

    Args:
        names: by the title of a panel, what its legend names.
        title: of the whole figure.
        height: of a panel, in pixels.
        width: of all of them, at which legends are broken into lines.
    """
    from plotly.subplots import make_subplots

    n_lines = [math.ceil(sum(LETTER * len(name) + MARK for name in own) / width) for own in names.values()]
    gap, n = 45 + LINE * max(n_lines, default=0), len(names)
    total = n * height + (n - 1) * gap
    figure = make_subplots(
        n, 1, subplot_titles=list(names), shared_xaxes=True, vertical_spacing=gap / total if n > 1 else 0
    )
    for row in range(1, n + 1):
        bottom = 1 - (row * height + (row - 1) * gap) / total
        below = 50 if row == n else 8
        legend = {"orientation": "h", "x": 0, "y": bottom - below / total, "yanchor": "top"}
        figure.update_layout({legend_of(row): legend})
    last = LINE * (n_lines[-1] if n_lines else 0)
    top = 80 if title else 40
    layout = {**base_layout(), "margin": {"l": 60, "r": 20, "t": top, "b": 60 + last}}
    figure.update_layout(**layout, title=title or None, height=total + top + 60 + last)
    figure.update_xaxes(title="step", row=n, col=1)
    return figure


def legend_of(row: int) -> str:
    """Return plotly's name of the legend of a row, from 1 on."""
    return "legend" if row == 1 else f"legend{row}"
