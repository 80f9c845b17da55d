"""Tables on a terminal: as wide as that is and no wider, with words for what is no number."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import pandas as pd

MAX_WIDTH = 28
"""Longer cells are folded."""
BETWEEN = 2
"""Columns of characters between two columns: one of padding, one of the box."""


def print_table(console: Console, table: "pd.DataFrame", number: str = ".3f", empty: str = "none") -> None:
    """Print a table in as many parts as the terminal's width asks for, each with the first column.

    Args:
        console: where to.
        table: of texts and numbers; an infinite number is `never`, a missing one `–`.
        number: format of a column's numbers that are not all whole.
        empty: what is said of a table without rows.
    """
    import pandas as pd

    if table.empty:
        console.print(Text(empty))
        return
    names = [str(name) for name in table.columns]
    columns = [_texts(table.iloc[:, i].tolist(), number) for i in range(len(names))]
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


def _texts(cells: Sequence[object], number: str) -> list[str]:
    """A column's cells, its numbers all with the same decimals."""
    import pandas as pd

    numbers = [cell for cell in cells if isinstance(cell, float) and math.isfinite(cell)]
    spec = ".0f" if all(map(float.is_integer, numbers)) and max(map(abs, numbers), default=0) > 1 else number

    def text(cell: object) -> str:
        if cell is None or cell is pd.NA or cell != cell:
            return "–"
        if isinstance(cell, float):
            return "never" if cell == math.inf else format(cell, f"z{spec}")  # z: no minus before a 0
        return str(cell)

    return [text(cell) for cell in cells]


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
