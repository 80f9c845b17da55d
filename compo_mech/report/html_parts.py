"""What pages are made of: figures that draw themselves offline, tables, boxes with a verdict, folds."""

import base64
import gzip
import html
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from compo_mech.plots.alternative import alternative
from compo_mech.plots.theme import DARK, subscripts
from compo_mech.runs.outcome import ACCURACY_LEVEL
from compo_mech.stats.intervals import on_its_side

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

LONG_TABLE = 12
"""Rows of the longest table that is not folded away."""

LONG_TEXT = 48
"""Characters from which on the text in a cell is wrapped."""


@dataclass(frozen=True)
class Shown:
    """HTML as a notebook shows it."""

    html: str

    def _repr_html_(self) -> str:
        return self.html


@cache
def plotly_script() -> Shown:
    """Return plotly's script, compressed, with what unpacks it, to be placed before the first figure."""
    from plotly.offline import get_plotlyjs

    packed = compressed(get_plotlyjs().encode())
    unpacking = asset("figures.js").replace('"DARK COLOURS"', json.dumps(DARK))
    return Shown(f'<script type="application/gzip">{packed}</script><script>{unpacking}</script>')


def asset(name: str) -> str:
    """Return a style sheet, script or template that pages are made of."""
    return (files("compo_mech.report") / "assets" / name).read_text(encoding="utf-8")


def compressed(content: bytes) -> str:
    """Return content as a page holds what its scripts unpack: gzip in base64, the same for the same content."""
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def offline(figure: "go.Figure") -> Shown:
    """Show a figure in a notebook that has the script: plotly's own output loads MathJax from the internet."""
    return Shown(figure_html(figure))


def figure_html(figure: "go.Figure") -> str:
    """Return a figure with its alternative in words, without plotly's script, which the page holds once."""
    import plotly.io

    config = {"displaylogo": False, "responsive": True}
    drawn = plotly.io.to_html(
        figure, include_plotlyjs=False, full_html=False, config=config, auto_play=False, default_height="450px"
    )
    return f'<div role=img aria-label="{html.escape(alternative(figure))}">{drawn}</div>'


def wide(figure: "go.Figure") -> str:
    """Return a figure that scrolls sideways in its own box where the screen is narrow."""
    return f"<figure class=wide><div class=drawn>{figure_html(figure)}</div></figure>"


def table_html(table: "pd.DataFrame", sticky: bool = False, whole: bool = False) -> str:
    """Return a table that scrolls sideways in its own box; a long one is folded away.

    Args:
        table: shown as it is; texts to the left, numbers to the right, `x_t` and the like with their index below.
        sticky: whether the first column stays in view.
        whole: whether it is shown however long it is.
    """
    if not len(table):
        return "<p class=quiet>None.</p>"
    columns = [table.iloc[:, i].tolist() for i in range(table.shape[1])]
    kinds = ["" if all(_is_number(cell) for cell in column) else "text" for column in columns]
    if sticky:
        kinds[0] = "name"
    head = "".join(f"<th{_class(k)}>{subscripts(str(n))}</th>" for k, n in zip(kinds, table.columns, strict=True))
    rows = []
    for row in zip(*columns, strict=True):
        cells = (
            f"<td{_class(kind, 'long' if len(str(cell)) > LONG_TEXT else '')}>{subscripts(str(cell))}</td>"
            for kind, cell in zip(kinds, row, strict=True)
        )
        rows.append(f"<tr>{''.join(cells)}</tr>")
    shown = f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    return shown if whole else folded_if_long(shown, len(rows))


def folded_if_long(table: str, n_rows: int) -> str:
    """Return a table as HTML, folded away if it has too many rows to be read at a glance."""
    return table if n_rows <= LONG_TABLE else fold(f"Table of {n_rows} rows", table)


def _is_number(cell: object) -> bool:
    """Return whether a cell begins as a number does, or holds none."""
    text = str(cell)
    return text in ("", "–", "never", "●") or text.lstrip("-−")[:1].isdigit()


def _class(*names: str) -> str:
    given = " ".join(name for name in names if name)
    return f' class="{given}"' if given else ""


def length_table_html(table: "pd.DataFrame") -> str:
    """Return a table by length and head: fractions in percent, those below the level of accuracy marked."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.columns)
    body = ""
    for _, row in table.iterrows():
        cells = ""
        for name, value in row.items():
            share = name in ("free", "forced", "grammar")
            low = ' class="low"' if share and value < ACCURACY_LEVEL else ""
            written = on_its_side(value, ACCURACY_LEVEL, percent=True) if share else html.escape(str(value))
            cells += f"<td{low}>{written}</td>"
        body += f"<tr>{cells}</tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def verdict(texts: Sequence[str], needed: str) -> str:
    """Return a box with what was found, and the thresholds that decided it in small below.

    Args:
        texts: a paragraph each.
        needed: the thresholds, in a sentence.
    """
    found = "".join(f"<p>{subscripts(text)}</p>" for text in texts)
    return f"<div class=verdict>{found}<p class=needed>{subscripts(needed)}</p></div>"


def fold(summary: str, body: str, kind: str = "") -> str:
    """Return HTML that is folded away under a line of text."""
    return f"<details{_class(kind)}><summary>{html.escape(summary)}</summary>{body}</details>"


def again(command: Sequence[str]) -> str:
    """Return the command that makes a section again, folded away.

    Args:
        command: its words, after `python`.
    """
    return fold("How to make this again", f"<pre>python {html.escape(shlex.join(command))}</pre>", "again")


def capitalised(text: str) -> str:
    """Return the text with a capital first letter."""
    return text[0].upper() + text[1:]
