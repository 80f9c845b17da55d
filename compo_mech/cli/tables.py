"""Tables on a terminal: as wide as that is and no wider, with words for what is no number."""

import math
from collections.abc import Iterator, Sequence

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

MAX_WIDTH = 28
"""Longer cells are folded."""
BETWEEN = 2
"""Columns of characters between two columns: one of padding, one of the box."""


def print_table(console: Console, table: pd.DataFrame, number: str = ".3f", empty: str = "none") -> None:
    """Print a table in as many parts as the terminal's width asks for, each with the first column.

    Args:
        console: where to.
        table: of texts and numbers; an infinite number is `never`, a missing one `–`.
        number: format of those that are not whole.
        empty: what is said of a table without rows.
    """
    if table.empty:
        console.print(Text(empty))
        return
    names = [str(name) for name in table.columns]
    columns = [[_text(cell, number) for cell in table.iloc[:, i]] for i in range(len(names))]
    is_number = [pd.api.types.is_numeric_dtype(table.iloc[:, i]) for i in range(len(names))]
    widths = [_width(name, cells) for name, cells in zip(names, columns, strict=True)]
    for part in _parts(widths, console.width):
        shown = Table(box=SIMPLE_HEAD, padding=(0, BETWEEN - 1, 0, 0), pad_edge=False, show_edge=False)
        for i in part:
            justify = "right" if is_number[i] else "left"
            shown.add_column(Text(names[i]), justify=justify, overflow="fold", width=min(widths[i], console.width))
        for row in zip(*(columns[i] for i in part), strict=True):
            shown.add_row(*map(Text, row))
        console.print(shown)


def _text(cell: object, number: str) -> str:
    if cell is None or cell is pd.NA or (isinstance(cell, float) and math.isnan(cell)):
        return "–"
    if isinstance(cell, float):
        if math.isinf(cell):
            return "never" if cell > 0 else "before"
        return f"{cell:.0f}" if cell.is_integer() and abs(cell) >= 2 else format(cell + 0.0, number)
    return str(cell)


def _width(name: str, cells: Sequence[str]) -> int:
    """As wide as the longest word of its name, and as its cells up to a limit."""
    return max(max(map(len, name.split()), default=1), min(MAX_WIDTH, max(map(len, cells))))


def _parts(widths: Sequence[int], width: int) -> Iterator[list[int]]:
    """Indices of columns that fit beside the first."""
    part = [0]
    for i in range(1, len(widths)):
        if sum(widths[j] + BETWEEN for j in part) + widths[i] > width and len(part) > 1:
            yield part
            part = [0]
        part.append(i)
    yield part
