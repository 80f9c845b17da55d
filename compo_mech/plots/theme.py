"""Colours and layout that all figures have in common. Nothing here changes plotly's settings on import."""

import html
import itertools
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go


INK, PAPER = "#202124", "#ffffff"
GREY, QUIET, LIGHT, LINE = "#9aa0a6", "#5f6368", "#b0b4b9", "#e3e5e8"
BLUE, ORANGE, GREEN, PINK = "#4c5fd5", "#e07a1f", "#2a9d6f", "#c2418f"
BROWN, CYAN, RED, DARK_GREY = "#8a6d3b", "#1f9ac2", "#b23a3a", "#6b6b6b"

HEAD_COLOURS = (BLUE, ORANGE, GREEN, PINK, BROWN, CYAN, RED, DARK_GREY)
"""Of heads, runs and whatever else has no colour of its own, in order."""

COMPONENT_COLOURS = {
    "t in the query": BROWN,
    "lookup": ORANGE,
    "x in the attention output": CYAN,
    "textbook route": GREEN,
    "iteration": BLUE,
    "ablation cost of iteration": RED,
    "state in the MLP output": PINK,
    "probe of t": "#d0a85a",
    "probe of the state": "#e58cc2",
    "accuracy": INK,
}
"""Of what emerges in training, the same in every figure."""

OPTIMIZERS = {"muon": ("Muon", PINK), "adamw": ("AdamW", CYAN), "adam": ("Adam", GREEN), "sgd": ("SGD", BROWN)}
"""Names and colours of optimisers, by their settings."""

TASK_COLOURS = {"parity": BLUE, "copy": GREEN, "polynomial": ORANGE}

ORDERED_COLOURS = ("#8f74e8", "#4b87e0", "#1c98a8", "#4f9a3c", "#b5851c", "#e0663c", "#d8568f")
"""Along what has an order, such as lengths: each can be seen on light and on dark pages alike."""

CONTROL_COLOURS = (ORANGE, GREY, GREEN, PINK, CYAN)
"""Of controls, in the order in which they are given."""

SEQUENTIAL = ("#f7fbff", "#deebf7", "#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c", "#08306b")
DIVERGING = (
    *("#053061", "#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#f7f7f7"),
    *("#fddbc7", "#f4a582", "#d6604d", "#b2182b", "#67001f"),
)
SHADES = (PAPER, INK)

TINTS = {GREY: "#f1f3f4", ORANGE: "#fdf0e4", BLUE: "#e9ebfb", GREEN: "#e4f4ed"}
"""Of areas that belong to something of a colour."""
BAND = "#f8f9fb"
"""Of an area behind other things."""

_AXIS = {"gridcolor": LINE, "zerolinecolor": LINE, "linecolor": LINE, "automargin": True, "title": {"standoff": 12}}
LOG_AXIS: dict[str, Any] = {"type": "log", "exponentformat": "power", "dtick": 1}
"""An axis of logarithms, whose ticks are powers of ten."""

_DARK_PAPER = "#17181c"
DARK = {
    INK: "#e8eaed", PAPER: _DARK_PAPER, GREY: "#8b9197", QUIET: "#a4a9ae", LIGHT: "#6a6f75", LINE: "#34363c",
    BLUE: "#8c9bff", ORANGE: "#f0994a", GREEN: "#4fc493", PINK: "#e577b8",
    BROWN: "#c7a566", CYAN: "#54bfe3", RED: "#ee7b7b", DARK_GREY: "#a0a0a0",
    TINTS[GREY]: "#26282d", TINTS[ORANGE]: "#3a2a1b", TINTS[BLUE]: "#242843", TINTS[GREEN]: "#1b3329", BAND: "#1d1f24",
    **dict(zip(SEQUENTIAL, (
        "#19202b", "#182d42", "#17405f", "#1c567f", "#2a70a3", "#478fc1", "#74b0da", "#a5cfea", "#d8ecfb",
    ), strict=True)),
    **dict(zip(DIVERGING, (
        "#b5dcf5", "#6fb0dc", "#3b7db3", "#22507a", "#1c3144", "#1d1e22",
        "#3f2620", "#74372a", "#ae5040", "#e0846f", "#fac5b5",
    ), strict=True)),
}  # fmt: skip
"""What each colour becomes on a dark page."""


@lru_cache
def base_layout() -> Mapping[str, Any]:
    """Return what the layouts of all figures have in common.

    The template is plotly's own with ours on top. Merging the two entry by entry took most of the time of a figure.
    """
    import plotly.graph_objects as go

    ours = {
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "colorway": HEAD_COLOURS,
        "hovermode": "closest",
        "hoverlabel": {"align": "left"},
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "coloraxis": {"colorbar": {"outlinewidth": 0}},
    }
    merged = go.Figure(layout={"template": "plotly"}).update_layout(template={"layout": ours})
    template = layout_of(merged).template
    font = {"family": "system-ui, sans-serif", "size": 13, "color": INK}
    return {"template": template, "font": font, "margin": {"l": 60, "r": 20, "t": 50, "b": 50}}


def task_colours(tasks: Iterable[str]) -> dict[str, str]:
    """Return a colour for each task, and none twice while there are any left.

    The first task of a family, whatever its settings, has the family's own colour, if it has one.

    Example:
        >>> from compo_mech.plots import theme
        >>> theme.task_colours(["polynomial(modulus=3)"]) == {"polynomial(modulus=3)": theme.ORANGE}
        True
    """
    left = itertools.cycle(colour for colour in HEAD_COLOURS if colour not in TASK_COLOURS.values())
    found: dict[str, str] = {}
    for task in tasks:
        own = TASK_COLOURS.get(task.partition("(")[0])
        found[task] = own if own and own not in found.values() else next(left)
    return found


def ordered_colours(n: int) -> list[str]:
    """Return n colours along a scale, for things that have an order."""
    found, last = list[str](), len(ORDERED_COLOURS) - 1
    for i in range(n):
        below, fraction = divmod(i / max(1, n - 1) * last, 1)
        ends = (ORDERED_COLOURS[int(below)], ORDERED_COLOURS[min(int(below) + 1, last)])
        pairs = [[int(colour[at : at + 2], 16) for colour in ends] for at in (1, 3, 5)]
        found.append("#" + "".join(f"{round(low + fraction * (high - low)):02x}" for low, high in pairs))
    return found


def scale(colours: tuple[str, ...]) -> list[tuple[float, str]]:
    """Return colours at equal distances, as plotly takes a colour scale."""
    return [(i / (len(colours) - 1), colour) for i, colour in enumerate(colours)]


def layout_of(figure: "go.Figure") -> Any:  # plotly tells no type, and what checkers make of that differs
    """Return a figure's layout, to be read."""
    return figure["layout"]


def legend_below(gap: int, height: int | float) -> dict[str, object]:
    """Return the layout of a legend that stands in lines below the axes of a figure.

    Args:
        gap: pixels that ticks and titles of axes take.
        height: of what is drawn between the axes, in pixels.
    """
    return {"orientation": "h", "x": 0, "y": -gap / height, "yanchor": "top", "itemsizing": "constant"}


def indexed(labels: Iterable[str]) -> list[str]:
    """Return names of positions with their index below the line.

    Example:
        >>> from compo_mech.plots.theme import indexed
        >>> indexed(["task", "x1", "x12", "EoI", "s2"])
        ['task', 'x₁', 'x₁₂', 'EoI', 's₂']
    """
    return [label[0] + label[1:].translate(_BELOW) if label[1:].isdigit() else label for label in labels]


_BELOW = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def subscripts(text: str) -> str:
    """Return a text as HTML, in which the index of `x_t`, `s_t` and `s_t-1` stands below the line.

    Example:
        >>> from compo_mech.plots.theme import subscripts
        >>> subscripts("x_t < s_{t-1}, d_model")
        'x<sub>t</sub> &lt; s<sub>t-1</sub>, d_model'
    """
    return _INDEXED.sub(lambda m: f"{m[1]}<sub>{m[2] or m[3]}</sub>", html.escape(text))


_INDEXED = re.compile(r"\b([sx])_(?:\{(t-1|t|\d+)\}|(t-1|t|\d+)\b)")
"""A state or an input with its index."""


def plain(text: str) -> str:
    """Return text that plotly shows letter by letter: names of runs, tasks and tokens, tags in which mean nothing."""
    return html.escape(text, quote=False)
