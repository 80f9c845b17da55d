"""The task and the textbook circuit, drawn: parity of four bits, and how the row that holds s2 predicts s3.

python figures/task_and_circuit.py --out figures/results/task_and_circuit.png

Writes an image (.png, .svg, .pdf: pip install kaleido, which needs a Chrome) or a page (.html). It needs no run.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from compo_mech.cli.command import call
from compo_mech.cli.draw import drawing, save
from compo_mech.data.config import DataConfig
from compo_mech.data.encode import encode
from compo_mech.data.layout import Layout
from compo_mech.data.tasks import Parity
from compo_mech.plots import theme

if TYPE_CHECKING:
    import plotly.graph_objects as go

TASK, LAYOUT, INPUTS, SHOWN = Parity(), Layout(), (1, 0, 1, 1), 3
"""The task, where its tokens sit, the inputs, and the t that is followed."""

GREY, ORANGE, BLUE, GREEN, INK = theme.GREY, theme.ORANGE, theme.BLUE, theme.GREEN, theme.INK
FILLS, BAND, STREAM, FAINT = theme.TINTS, theme.BAND, theme.LINE, 0.4

TOKENS, PREDICTED = 0.0, 7.5
"""Heights of the tokens and of what is predicted."""

BANDS = {"Layer 0": (0.9, 3.55), "Layer 1": (3.9, 6.55)}
KEYS, QUERIES, MLP = 0.3, 1.35, 2.0
"""Heights within a layer: of the keys, of the queries, of the MLP."""


class Sketch:
    """Boxes, lines, arrows and words on an empty plane."""

    def __init__(self) -> None:
        import plotly.graph_objects as go

        self.figure = go.Figure()

    def box(self, x: float, y: float, half: tuple[float, float], colour: str, fill: str, opacity: float = 1.0) -> None:
        """A box with round corners about a point."""
        (w, h), r = half, 0.09
        corners = [(x - w, y - h), (x + w, y - h), (x + w, y + h), (x - w, y + h)]
        path = ""
        for n, (cx, cy) in enumerate(corners):
            (px, py), (qx, qy) = corners[n - 1], corners[(n + 1) % 4]
            start = (cx + r * ((px > cx) - (px < cx)), cy + r * ((py > cy) - (py < cy)))
            end = (cx + r * ((qx > cx) - (qx < cx)), cy + r * ((qy > cy) - (qy < cy)))
            path += f"{'L' if n else 'M'} {start[0]},{start[1]} Q {cx},{cy} {end[0]},{end[1]} "
        self.figure.add_shape(
            type="path", path=path + "Z", fillcolor=fill, line={"color": colour, "width": 1.5}, opacity=opacity
        )

    def words(self, x: float, y: float, text: str, size: int = 13, colour: str = INK, **more) -> None:
        """Text about a point."""
        self.figure.add_annotation(x=x, y=y, text=text, showarrow=False, font={"size": size, "color": colour}, **more)

    def line(self, start: tuple[float, float], end: tuple[float, float], colour: str, width: float) -> None:
        """A line, under everything."""
        (x0, y0), (x1, y1) = start, end
        self.figure.add_shape(
            type="line", x0=x0, y0=y0, x1=x1, y1=y1, line={"color": colour, "width": width}, layer="below"
        )

    def arrow(self, start: tuple[float, float], end: tuple[float, float], colour: str, faint: bool = False) -> None:
        """An arrow; a faint one is thin."""
        self.figure.add_annotation(
            x=end[0], y=end[1], ax=start[0], ay=start[1], xref="x", yref="y", axref="x", ayref="y", text="",
            arrowhead=2, arrowsize=0.9, arrowwidth=1.4 if faint else 3, arrowcolor=colour,
            opacity=FAINT if faint else 1,
        )  # fmt: skip


def row() -> tuple[list[str], list[int]]:
    """Symbols of the whole row, [EoS] included, and the states."""
    data, inputs = DataConfig(tasks=(TASK,)), torch.tensor([INPUTS])
    ids = encode(data, TASK, inputs).tokens
    return data.vocabulary.decode(ids[0].tolist()), TASK.states(inputs)[0].tolist()


def drawn() -> "go.Figure":
    """Tokens below, what is predicted above, two layers between them."""
    sketch, length = Sketch(), len(INPUTS)
    symbols, states = row()
    n_read = LAYOUT.n_read(length)
    named = [name[0] + f"<sub>{name[1:]}</sub>" if name[1:].isdigit() else "" for name in LAYOUT.labels(length)]
    named += [""] * (len(symbols) - n_read)
    for name, (bottom, top) in BANDS.items():
        sketch.figure.add_shape(
            type="rect", x0=-0.55, x1=len(symbols) - 0.45, y0=bottom, y1=top, fillcolor=BAND, line_width=0,
            layer="below",
        )  # fmt: skip
        sketch.words(-0.45, top - 0.2, f"<b>{name}</b>", colour=GREY, xanchor="left", bgcolor=BAND)
    for position, symbol in enumerate(symbols):
        token(sketch, position, symbol, named[position], TOKENS, faint=position >= n_read)
        sketch.words(position, TOKENS - 0.75, str(position), size=12, colour=GREY)
        if position < n_read:
            sketch.line((position, TOKENS + 0.45), (position, BANDS["Layer 1"][1]), STREAM, 1.2)
    sketch.words(-0.62, TOKENS - 0.75, "position", size=12, colour=GREY, xanchor="right")
    sketch.words(-0.62, TOKENS, "reads", xanchor="right")
    sketch.words(-0.62, PREDICTED, "predicts", xanchor="right")
    for position in LAYOUT.scored(length):
        shown = LAYOUT.predicted(position, length) == SHOWN
        sketch.line((position, BANDS["Layer 1"][1]), (position, PREDICTED - 0.45), STREAM, 1.2)
        token(sketch, position, symbols[position + 1], named[position + 1], PREDICTED, faint=not shown)
        for (bottom, _), number in zip(BANDS.values(), "01", strict=True):
            sketch.box(position, bottom + MLP, (0.36, 0.26), INK if shown else GREY, theme.PAPER, 1 if shown else 0.5)
            sketch.words(
                position, bottom + MLP, f"MLP {number}", colour=INK if shown else GREY, opacity=1 if shown else 0.6
            )
    attention_arrows(sketch, length)
    annotations(sketch, symbols, states, length)
    sketch.figure.update_layout(
        **{**theme.base_layout(), "margin": {"l": 5, "r": 5, "t": 56, "b": 5}},
        title={"text": f"{TASK.name.capitalize()} with a chain of thought, and the textbook's circuit for it: how "
               f"the row that holds s<sub>{SHOWN - 1}</sub> predicts s<sub>{SHOWN}</sub>", "x": 0.5, "font.size": 17},
        width=1150, height=640, showlegend=False, plot_bgcolor=theme.PAPER,
    )  # fmt: skip
    sketch.figure.update_xaxes(visible=False, range=[-1.35, len(symbols) - 0.4], fixedrange=True)
    sketch.figure.update_yaxes(visible=False, range=[TOKENS - 1.05, PREDICTED + 0.6], fixedrange=True)
    return sketch.figure


def token(sketch: Sketch, position: int, symbol: str, name: str, y: float, faint: bool = False) -> None:
    """A box with a token's symbol and, where it has one, its name."""
    colour = {"x": BLUE, "s": GREEN}.get(name[:1], ORANGE if symbol == "[EoI]" else GREY)
    opacity = FAINT if faint else 1.0
    sketch.box(position, y, (0.42, 0.42), colour, FILLS[colour], opacity)
    if not name:
        sketch.words(position, y, symbol, opacity=opacity)
        return
    sketch.words(position, y + 0.1, f"<b>{symbol}</b>", size=17, opacity=opacity)
    sketch.words(position, y - 0.23, name, size=12, colour=colour, opacity=opacity)


def attention_arrows(sketch: Sketch, length: int) -> None:
    """Arrows from each row to the key that either head attends to, those of the shown row last."""
    edges = [("Layer 0", ORANGE, LAYOUT.lookup_edges(length)), ("Layer 1", BLUE, LAYOUT.iteration_edges(length))]
    for band, colour, pairs in edges:
        bottom = BANDS[band][0]
        for query, key in sorted(zip(*pairs, strict=True), key=lambda p: LAYOUT.predicted(p[0], length) == SHOWN):
            faint = LAYOUT.predicted(query, length) != SHOWN
            sketch.arrow((query, bottom + QUERIES), (key, bottom + KEYS), colour, faint)


def annotations(sketch: Sketch, symbols: list[str], states: list[int], length: int) -> None:
    """What each component does at the shown row, in words and in numbers, and what the row holds at each height."""
    (query,) = (p for p in LAYOUT.scored(length) if LAYOUT.predicted(p, length) == SHOWN)
    end, key = LAYOUT.end_of_input(length), LAYOUT.input_position(SHOWN)
    x, s, predicted = int(symbols[key]), states[SHOWN - 2], states[SHOWN - 1]
    x_t, before, after = f"x<sub>{SHOWN}</sub>", f"s<sub>{SHOWN - 1}</sub>", f"s<sub>{SHOWN}</sub>"
    t = LAYOUT.predicted(query, length)
    (first, between), (second, last) = BANDS.values()
    sketch.line((end, TOKENS + 0.42), (end, first + KEYS), ORANGE, 3)
    sketch.line((key, TOKENS + 0.42), (key, second + KEYS), BLUE, 3)
    sketch.line((query, TOKENS + 0.42), (query, PREDICTED - 0.42), INK, 2.5)
    for y, text, colour in (
        (first + 0.8, f"<b>Lookup</b>: where is [EoI]? At j = {end}", ORANGE),
        (first + MLP, f"<b>MLP 0</b>: t = i − j + 1 = {query} − {end} + 1 = {t}", INK),
        (second + 1.43, f"<b>Iteration head</b>: what is {x_t}, at position t = {t}?", BLUE),
        (second + MLP, f"<b>MLP 1</b>: {after} = F({before}, {x_t}) = {s} + {x} mod 2 = {predicted}", INK),
        (PREDICTED, "What a row predicts is written at the next position.", GREY),
    ):
        sketch.words(-0.45, y, text, 15, colour, xanchor="left", bgcolor=BAND if colour != GREY else theme.PAPER)
    for y, text, colour in (
        (TOKENS + 0.66, f"{before} = {s}, i = {query}", INK),
        (first + QUERIES + 0.2, f"j = {end}", ORANGE),
        (between + 0.17, f"t = {t}", INK),
        (second + QUERIES + 0.2, f"{x_t} = {x}", BLUE),
        (last + 0.17, f"{after} = {predicted}", GREEN),
    ):
        sketch.words(query + 0.06, y, text, 13, colour, xanchor="left")


def main(out: Path) -> None:
    """Draw it into OUT.

    Args:
        out: an image (.png, .svg, .pdf) or a page (.html).
    """
    with drawing(out):
        save(drawn(), out, __doc__)


if __name__ == "__main__":
    call(main, description=__doc__)
