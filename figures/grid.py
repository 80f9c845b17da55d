"""A study's arms as a grid of two settings: a row a measure, a panel values of further settings, a cell an arm.

python experiments/scaling.py
python figures/grid.py runs/scaling/scaling.csv accuracy iteration --x length --y d_model --out grid.png

Below each value is in how many seeds the event came, or there is a value, where some lack it. Writes an image (.png,
.svg, .pdf: pip install kaleido, which needs a Chrome) or a page (.html).
"""

import math
import textwrap
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import Field

from compo_mech.cli.command import Positional, call
from compo_mech.cli.draw import drawing, save
from compo_mech.cli.output import table_of
from compo_mech.plots import theme
from compo_mech.stats.over_seeds import SeedSummary, over_seeds
from compo_mech.studies.asked import Asked, read_all
from compo_mech.studies.scores import LABELS
from compo_mech.studies.summary import CENSORED
from compo_mech.studies.table import COLUMNS, failed_runs, trained_rows

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

CELL_WIDTH, CELL_HEIGHT = 58, 40
"""Pixels."""
GAP = 26
"""Between panels."""
LETTER = 7
"""Of the labels."""
TITLE_WIDTH, LINE = 5, 17
"""Characters of a row's title for each cell of its height, and pixels of a line of it."""
WORDS = {"lr": "learning rate", "n_steps": "steps", "n_pos_dims": "dimensions of positions"} | {
    name: word for name, (word, _) in theme.OPTIMIZERS.items()
}
"""Of settings and their values; of others underscores are left out."""


class Cell(NamedTuple):
    """An arm's runs by one measure."""

    value: float
    low: float
    high: float
    n: int
    n_missing: int
    """Censored, failed, or without this measure."""

    @property
    def text(self) -> str:
        """The value, and below it how many seeds it is of where some are missing."""
        value = self.value
        shown = (
            "" if math.isnan(value) else "–" if math.isinf(value) else f"{value:.0f}" if value >= 10 else f"{value:.2f}"
        )
        some = f"<br><span style='font-size:9px'>{self.n - self.n_missing} of {self.n}</span>" if self.n_missing else ""
        return shown + some

    @property
    def hover(self) -> str:
        """The value with its interval, and of how many seeds."""
        value, low, high = ("–" if math.isnan(v) else "never" if math.isinf(v) else f"{v:.4g}" for v in self[:3])
        return f"{value} ({low} .. {high}), {self.n - self.n_missing} of {self.n} seeds"


def drawn(table: "pd.DataFrame", names: Sequence[str], x: str, y: str, panels: Sequence[str]) -> "go.Figure":
    """Draw measures of a study's table over its factors.

    Raises:
        ValueError: the table has no such factor or measure, its arms differ in others, or it has several tasks.
    """
    from plotly.subplots import make_subplots

    asked = _read(table, names, [x, y, *panels])
    shown = _panels(table, panels)
    xs, ys = [_values(own, x) for own in shown.values()], _values(table, y)
    titles = [*shown] + [""] * (len(shown) * (len(names) - 1))
    width, height = sum(CELL_WIDTH * len(of) + GAP for of in xs), len(names) * (CELL_HEIGHT * len(ys) + GAP)
    figure = make_subplots(
        len(names), len(shown), subplot_titles=titles, shared_xaxes=True, shared_yaxes=True,
        horizontal_spacing=GAP / width, vertical_spacing=GAP / height, column_widths=[len(of) for of in xs],
    )  # fmt: skip
    n_lines = 1
    for row, one in enumerate(asked, start=1):
        own = zip(shown.values(), xs, strict=True)
        cells = [[[_cell(part[(part[x] == i) & (part[y] == j)], one) for i in of] for j in ys] for part, of in own]
        finite = [c.value for panel in cells for line in panel for c in line if math.isfinite(c.value)]
        reach = min(finite, default=0), max(finite, default=1)
        for column, (panel, of) in enumerate(zip(cells, xs, strict=True), start=1):
            _heatmap(figure, panel, of, ys, one, reach, row, column)
            if all(math.isnan(cell.value) for line in panel for cell in line):
                here = {"x": 0.5, "y": 0.5, "xref": "x domain", "yref": "y domain"}
                figure.add_annotation(text="not measured", showarrow=False, row=row, col=column, **here)
        lines = textwrap.wrap(one.title, TITLE_WIDTH * len(ys))
        n_lines = max(n_lines, len(lines))
        text = "<br>".join([*(f"<b>{line}</b>" for line in lines), _word(y)])
        figure.update_yaxes(title={"text": text, "font.size": 13}, row=row, col=1)
    figure.update_xaxes(title={"text": _word(x), "font.size": 13}, row=len(names))
    figure.update_annotations(font_size=13)
    left = 53 + LINE * n_lines + LETTER * max(len(f"{value}") for value in ys)
    figure.update_layout(
        **{**theme.base_layout(), "margin": {"l": left, "r": 20, "t": 92, "b": 44}},
        title={"text": f"{_words(table)}, {table['seed'].nunique()} seeds an arm", "x": 0.01, "font.size": 17},
        width=width + left + 20, height=height + 136,
    )  # fmt: skip
    return figure


def _read(table: "pd.DataFrame", names: Sequence[str], settings: list[str]) -> list[Asked]:
    """What is asked for, where the table can be drawn by these settings."""
    for setting in settings:
        _check_factor(table, setting)
        if len(lacking := table.loc[table[setting].isna(), "arm"]):
            raise ValueError(f"factors = {setting}: must be one of every arm, and {lacking.iloc[0]} has none")
    asked = read_all(table, names)
    if table[[*settings, "arm"]].drop_duplicates().duplicated(settings).any():
        raise ValueError(f"factors = {', '.join(settings)}: must tell all arms apart")
    tasks = sorted(set(table["task"].dropna()))
    if len(tasks) > 1:
        raise ValueError(f"table = of {', '.join(tasks)}: must be of one task")
    return asked


def _check_factor(table: "pd.DataFrame", name: str) -> None:
    factors = [str(column) for column in table if column not in (*COLUMNS, *LABELS)]
    if name not in factors:
        raise ValueError(f"factors = {name}: must be of {', '.join(factors) or 'none'}")


def _some(table: "pd.DataFrame", where: Sequence[str]) -> "pd.DataFrame":
    """Its arms with these factors, spelled as FACTOR=VALUE."""
    for one in where:
        name, _, value = one.partition("=")
        _check_factor(table, name)
        known = {f"{of:g}" if isinstance(of, float) else f"{of}": of for of in table[name].drop_duplicates()}
        if value not in known:
            raise ValueError(f"where = {one}: must be of {', '.join(f'{name}={of}' for of in known)}")
        table = table[table[name] == known[value]]
    return table


def _panels(table: "pd.DataFrame", settings: Sequence[str]) -> "dict[str, pd.DataFrame]":
    """The arms of each panel, by its title, in which words are as they are and numbers say what they are of."""
    shown = {}
    for values in product(*(_values(table, setting) for setting in settings)):
        own, named = table, list(zip(settings, values, strict=True))
        for setting, value in named:
            own = own[own[setting] == value]
        if len(own):
            shown[", ".join(_word(v) if isinstance(v, str) else f"{_word(by)} {v}" for by, v in named)] = own
    return shown


def _word(name: str) -> str:
    return WORDS.get(name, name if name.startswith("d_") else name.replace("_", " "))


def _values(table: "pd.DataFrame", setting: str) -> list:
    """Numbers in order; words as the table has them."""
    found = list(table[setting].drop_duplicates())
    return found if any(isinstance(value, str) for value in found) else sorted(found)


def _words(table: "pd.DataFrame") -> str:
    return str(table["study"].iloc[0]).replace("_", " ").capitalize()


def _cell(own: "pd.DataFrame", asked: Asked) -> Cell:
    """A run that failed counts as it does in a study's summary: as one in which the event never came, or as a 0 of a
    fraction."""
    measure, values = asked.measure, trained_rows(asked.rows(own))["value"].tolist()
    n, n_known = own["seed"].nunique(), sum(map(math.isfinite, values))
    if not math.isnan(lost := CENSORED[measure.summary]):
        values += [lost] * len(failed_runs(own))
    found = over_seeds(measure.summary, values, measure.bounds) if values else (math.nan,) * 3
    return Cell(*found, n=n, n_missing=n - n_known)


def _heatmap(
    figure: "go.Figure", cells: list[list[Cell]], xs: list, ys: list, asked: Asked, reach: tuple[float, float],
    row: int, column: int,
) -> None:  # fmt: skip
    """Darker is more, or sooner; lightest what never came. Values between 0 and 1 have the whole scale."""
    measure = asked.measure
    is_time = measure.summary is SeedSummary.TIME_TO_EVENT
    low, high = reach if is_time or not all(map(math.isfinite, measure.bounds)) else measure.bounds
    top = high + 0.3 * (high - low or 1) if is_time else high
    figure.add_heatmap(
        z=[[None if math.isnan(cell.value) else min(cell.value, top) for cell in line] for line in cells],
        x=[f"{value}" for value in xs], y=[f"{value}" for value in ys],
        text=[[cell.text for cell in line] for line in cells], texttemplate="%{text}", textfont={"size": 12},
        customdata=[[cell.hover for cell in line] for line in cells], xgap=1.5, ygap=1.5, hoverongaps=False,
        showscale=False, colorscale=theme.scale(theme.SEQUENTIAL), reversescale=is_time, zmin=low, zmax=top,
        hovertemplate=f"{asked.title}: %{{customdata}}<extra></extra>",
        row=row, col=column,
    )  # fmt: skip
    figure.update_xaxes(type="category", showgrid=False, row=row, col=column)
    figure.update_yaxes(type="category", showgrid=False, row=row, col=column)


def main(
    table: Annotated[Path, Positional],
    measures: Annotated[tuple[str, ...], Positional, Field(min_length=1)],
    out: Path,
    x: str,
    y: str,
    panels: tuple[str, ...] = (),
    where: tuple[str, ...] = (),
) -> None:
    """Draw MEASURES of TABLE, as a study writes it, into OUT.

    Args:
        table: of a study whose arms have factors.
        measures: a row each: MEASURE, or `MEASURE, LABEL=VALUE, ...` where labels tell its rows apart.
        out: an image (.png, .svg, .pdf) or a page (.html).
        x: the factor along a panel.
        y: the factor up a panel.
        panels: factors of which each combination of values has a panel; none: one panel.
        where: FACTOR=VALUE, of the arms that are drawn; none: all.
    """
    with drawing(out):
        rows = table_of(table, "a study in experiments/", COLUMNS, ("seed", "value"), COLUMNS[:-1], "error")
        save(drawn(_some(rows, where), measures, x, y, panels), out, __doc__)


if __name__ == "__main__":
    call(main, description=__doc__)
