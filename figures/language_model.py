"""A language model that copies: what heads attend to and carry, what sets of heads carry, and what it answers.

python experiments/language_model.py --path .
python figures/language_model.py runs/language_model/language_model.csv --out figures/results/language_model.png

Writes an image (.png, .svg, .pdf: pip install kaleido, which needs a Chrome) or a page (.html).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from compo_mech.cli.command import Positional, call
from compo_mech.cli.draw import drawing, save
from compo_mech.cli.output import table_of
from compo_mech.plots import theme
from compo_mech.studies.language_summary import ALL

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

COLUMNS, NUMBERS = ("part", "measure", "form", "component", "task"), ("value", "low", "high")
WEIGHT, MOVE, CARRIED = "weight on x_t", "logits moved alone", "carried"
NAMED = 0.1
"""Heads that move more than this, or attend more to x_t, have their names above them."""


def drawn(table: "pd.DataFrame") -> "go.Figure":
    """A dot for each head, a bar for each set of heads, and bars for each task.

    Args:
        table: that `check` has nothing against.
    """
    from plotly.subplots import make_subplots

    of_all = table[table["form"] == ALL]
    titles = ["each of 270 heads, copying digits", "answers that become the other string's", "states that are right"]
    figure = make_subplots(1, 3, subplot_titles=titles, column_widths=[0.36, 0.24, 0.4], horizontal_spacing=0.17)
    heads(figure, of_all[of_all["part"] == "heads"])
    sets(figure, of_all[(of_all["part"] == "heads") & (of_all["measure"] == CARRIED)])
    tasks(figure, of_all[of_all["part"] == "accuracy"])
    layout, tall = {**theme.base_layout(), "margin": {"l": 60, "r": 20, "t": 50, "b": 150}}, 310
    legend = {**theme.legend_below(110, tall), "x": 0.6}
    figure.update_layout(**layout, barmode="group", legend=legend, width=1250, height=200 + tall)
    return figure


def check(table: "pd.DataFrame", path: Path) -> None:
    """Whether there is what the panels show, once.

    Args:
        table: of the study.
        path: where it was read.

    Raises:
        ValueError: there is not.
    """
    of_all = table[table["form"] == ALL]
    of_heads, answers = (of_all[of_all["part"] == part] for part in ("heads", "accuracy"))
    for part, rows in (("heads", of_heads), ("accuracy", answers)):
        if rows.empty:
            raise ValueError(f"table = {path}: must have the part {part}, over forms")
    for measure in (WEIGHT, MOVE, CARRIED):
        own = of_heads[of_heads["measure"] == measure]["component"]
        if own.empty:
            raise ValueError(f"table = {path}: must have the measure {measure!r} of heads, over forms")
        if own.isna().any():
            raise ValueError(f"table = {path}: must name the component of each {measure!r}")
        if (again := own.duplicated()).any():
            raise ValueError(f"table = {path}: must have one {measure!r} of {own[again].iloc[0]}, it has two")
    for name in ("component", "task"):
        if answers[name].isna().any():
            raise ValueError(f"table = {path}: must name the {name} of each accuracy")


def heads(figure: "go.Figure", table: "pd.DataFrame") -> None:
    """Weight on x_t against the fraction of the difference of logits that a head moves alone."""
    import plotly.graph_objects as go

    wide = table[table["measure"].isin([WEIGHT, MOVE])].pivot(index="component", columns="measure", values="value")
    names = [name if max(row[WEIGHT] - 0.2, row[MOVE]) > NAMED else "" for name, row in wide.iterrows()]
    dots = go.Scatter(
        x=wide[WEIGHT], y=wide[MOVE], text=names, mode="markers+text", textposition="top center", showlegend=False,
        marker={"size": 6, "color": theme.HEAD_COLOURS[0]},
    )  # fmt: skip
    figure.add_trace(dots, row=1, col=1)
    figure.update_xaxes(title="mean weight on x<sub>t</sub>", range=[-0.1, 0.8], row=1, col=1)
    figure.update_yaxes(title="fraction of the logits moved alone", row=1, col=1)


def sets(figure: "go.Figure", table: "pd.DataFrame") -> None:
    """What sets of heads carry, with intervals."""
    import plotly.graph_objects as go

    error = {"symmetric": False, "array": table["high"] - table["value"], "arrayminus": table["value"] - table["low"]}
    bars = go.Bar(
        y=table["component"], x=table["value"], error_x=error, orientation="h", showlegend=False,
        marker={"color": theme.HEAD_COLOURS[0]},
    )  # fmt: skip
    figure.add_trace(bars, row=1, col=2)
    figure.update_xaxes(range=[0, 1.02], row=1, col=2)
    figure.update_yaxes(autorange="reversed", row=1, col=2)


def tasks(figure: "go.Figure", table: "pd.DataFrame") -> None:
    """Accuracy of the model beside that of guesses, by task."""
    import plotly.graph_objects as go

    for colour, (name, rows) in zip(theme.HEAD_COLOURS, table.groupby("component", sort=False), strict=False):
        error = {"symmetric": False, "array": rows["high"] - rows["value"], "arrayminus": rows["value"] - rows["low"]}
        name = theme.subscripts(str(name))
        bars = go.Bar(x=rows["task"], y=rows["value"], error_y=error, name=name, marker={"color": colour})
        figure.add_trace(bars, row=1, col=3)
    figure.update_yaxes(range=[0, 1.02], row=1, col=3)


def main(table: Annotated[Path, Positional], out: Path) -> None:
    """Draw the study's TABLE into OUT.

    Args:
        table: as experiments/language_model.py writes it.
        out: an image (.png, .svg, .pdf) or a page (.html).
    """
    with drawing(out):
        found = table_of(table, "experiments/language_model.py", COLUMNS, NUMBERS, ("part", "measure", "value"))
        check(found, table)
        save(drawn(found), out, __doc__)


if __name__ == "__main__":
    call(main, description=__doc__)
