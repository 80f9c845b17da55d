"""Measures of a study's arms: a panel a measure, a line an arm, a dot a seed, a diamond over seeds with its interval.

python experiments/mix.py
python figures/study.py runs/mix/mix.csv iteration 'task-token patching, component=mlp1' --out mix.png

Writes an image (.png, .svg, .pdf: pip install kaleido, which needs a Chrome) or a page (.html).
"""

import html
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from compo_mech.cli.command import Positional, call
from compo_mech.cli.draw import drawing, save
from compo_mech.cli.output import table_of
from compo_mech.plots import theme
from compo_mech.stats.over_seeds import over_seeds
from compo_mech.studies.asked import read_all
from compo_mech.studies.measures import Measure
from compo_mech.studies.table import COLUMNS, failed_runs, trained_rows

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

GREY, LIGHT = theme.QUIET, theme.LIGHT
CENSORED_AT = 1.1
"""Where censored times stand, as a multiple of the longest that is not."""

ARM_WIDTH, TITLE_WIDTH = 42, 26
"""Characters after which names are wrapped."""


def drawn(table: "pd.DataFrame", shown: Sequence[str]) -> "go.Figure":
    """A panel for each thing that is shown.

    Raises:
        ValueError: the table has no such measure, or not with such labels.
    """
    import pandas as pd
    from plotly.subplots import make_subplots

    panels = read_all(table, shown)
    selected = [panel.rows(table) for panel in panels]
    arms, tasks = list(dict.fromkeys(table["arm"])), list(dict.fromkeys(table["task"].dropna()))
    names = [arm_name(table[table["arm"] == arm], arm) for arm in arms]
    titles = [wrapped(panel.title, TITLE_WIDTH) for panel in panels]
    figure = make_subplots(
        1,
        len(panels),
        subplot_titles=titles,
        shared_yaxes=True,
        horizontal_spacing=0.04 if len(panels) < 5 else 0.02,
    )
    for column, (panel, rows) in enumerate(zip(panels, selected, strict=True), start=1):
        draw_panel(figure, rows, panel.measure, arms, tasks, column)
    key(figure, pd.concat(selected), tasks)
    lanes = table.dropna(subset="task").groupby("arm")["task"].nunique().max()
    n_lines, n_title_lines = (1 + max(name.count("<br>") for name in given) for given in (names, titles))
    left = 30 + round(6.6 * max(len(line) for name in names for line in without_colour(name).split("<br>")))
    tall = len(arms) * max(15 * n_lines + 9, 12 + 17 * int(lanes))
    figure.update_yaxes(
        tickmode="array", tickvals=list(range(len(arms))), ticktext=names, range=[len(arms) - 0.5, -0.5],
        showgrid=False, zeroline=False,
    )  # fmt: skip
    for place in range(1, len(arms), 2):
        figure.add_shape(
            type="rect", xref="paper", x0=0, x1=1, y0=place - 0.5, y1=place + 0.5, fillcolor=theme.BAND, line_width=0,
            layer="below",
        )  # fmt: skip
    figure.update_annotations(font_size=13)
    n_seeds = sorted(set(table.groupby("arm")["seed"].nunique()))
    of_arms = f"{n_seeds[0]} to {n_seeds[-1]}" if len(n_seeds) > 1 else f"{n_seeds[0]}"
    study = str(table["study"].iloc[0]).replace("_", " ").capitalize()
    title = f"{study}{f': {task_name(tasks[0])}' if len(tasks) == 1 else ''}, {of_arms} seeds an arm"
    top = 60 + 18 * n_title_lines
    figure.update_layout(
        **{**theme.base_layout(), "margin": {"l": left, "r": 20, "t": top, "b": 80}},
        title={"text": title, "y": 1 - 22 / (top + tall + 80), "x": 0.01},
        width=max(760, left + 20 + max(230, 800 // len(panels)) * len(panels)), height=top + tall + 80,
        legend={"orientation": "h", "yref": "container", "y": 0.0, "yanchor": "bottom", "x": 0},
    )  # fmt: skip
    return figure


def draw_panel(
    figure: "go.Figure", rows: "pd.DataFrame", measure: Measure, arms: list, tasks: list, column: int
) -> None:
    """One measure of all arms: estimates over seeds, ticks of controls, and dots of seeds on top."""
    finite = [value for value in rows["value"] if math.isfinite(value)]
    top = max(finite, default=0.0)
    at_censored, censored = CENSORED_AT * (top or 1.0), bool((rows["value"] == math.inf).any())
    by_optimizer = optimizers(rows)
    for place, arm in enumerate(arms):
        of_arm = rows[rows["arm"] == arm]
        own_tasks = [task for task in tasks if task in set(of_arm["task"])]
        for lane, task in enumerate(own_tasks):
            of_task = of_arm[of_arm["task"] == task].sort_values("seed")
            colour = by_optimizer.get(arm, ("", colour_of(task, tasks)))[1]
            name = f"{arm}, {task_name(task)}"
            height = 0.8 / len(own_tasks)
            middle = place + height * (lane - (len(own_tasks) - 1) / 2)
            values = trained_rows(of_task)["value"].tolist()
            if values:
                estimate = over_seeds(measure.summary, values, measure.bounds)
                censored = censored or math.inf in estimate
                marks = estimated(
                    [at_censored if value == math.inf else value for value in estimate], middle, colour, name
                )
                figure.add_scatter(**marks, row=1, col=column)
            for network in ("control", "trained"):
                own = of_task[of_task["network"] == network]
                if len(own):
                    dots = seeds(own, network, middle, height, at_censored, colour, name)
                    figure.add_scatter(**dots, row=1, col=column)
    axis(figure, measure.bounds[1] == 1, min([0.0, *finite]), top, at_censored, censored, column)


def seeds(
    own: "pd.DataFrame", network: str, middle: float, height: float, at_censored: float, colour: str, name: str
) -> dict:
    """A dot a seed of trained networks, an open triangle where it is censored; a tick a seed of controls."""
    spread = [middle + 0.8 * height * ((n + 0.5) / len(own) - 0.5) for n in range(len(own))]
    control, came = network == "control", own["value"] < math.inf
    return {
        "x": own["value"].where(came, at_censored).tolist(), "y": spread, "mode": "markers", "showlegend": False,
        "text": [f"{name}, seed {seed}{', control' * control}" for seed in own["seed"]],
        "marker": {"color": LIGHT, "symbol": "line-ns-open", "size": 6, "line": {"width": 1.5}} if control else
        {"color": colour, "opacity": 0.55, "size": [5 if c else 9 for c in came],
         "line": {"width": [0.0 if c else 1.5 for c in came]},
         "symbol": ["circle" if c else "triangle-right-open" for c in came]},
        "customdata": own["value"].tolist(), "hovertemplate": "%{text}: %{customdata:.4g}<extra></extra>",
    }  # fmt: skip


def estimated(estimate: Sequence[float], y: float, colour: str, name: str) -> dict:
    """The heavy mark of an estimate with its interval; without one where it is nan."""
    mean, low, high = (value if value == value else estimate[0] for value in estimate)
    return {
        "x": [mean], "y": [y], "mode": "markers", "showlegend": False,
        "marker": {"color": theme.PAPER, "symbol": "diamond", "size": 9, "line": {"color": colour, "width": 2}},
        "error_x": {
            "type": "data", "symmetric": False, "array": [high - mean], "arrayminus": [mean - low], "thickness": 2.5,
            "width": 0, "color": colour,
        },
        "hovertemplate": f"{name}: {mean:.4g} ({low:.4g} .. {high:.4g})<extra></extra>",
    }  # fmt: skip


def axis(
    figure: "go.Figure", scores: bool, low: float, top: float, at_censored: float, censored: bool, column: int
) -> None:
    """From 0 to 1 for scores; else from 0 to the largest value, and to `at_censored` where some times are censored."""
    if scores:
        figure.update_xaxes(range=[min(-0.03, low - 0.03), 1.03], dtick=0.25, row=1, col=column)
        return
    figure.update_xaxes(
        range=[min(0, low) - 0.03 * at_censored, 1.06 * at_censored if censored else 1.05 * top], row=1, col=column
    )
    if censored:
        step = (
            1.0
            if top == 0
            else min((m * 10**e for e in range(-3, 8) for m in (1, 2, 2.5, 5)), key=lambda s: abs(top / s - 2.6))
        )
        ticks = [n * step for n in range(int(0.8 * top / step) + 1)]
        figure.update_xaxes(
            tickmode="array", tickvals=[*ticks, at_censored], ticktext=[*(f"{tick:g}" for tick in ticks), "censored"],
            tickangle=0,
            row=1, col=column,
        )  # fmt: skip


def key(figure: "go.Figure", rows: "pd.DataFrame", tasks: list) -> None:
    """What the marks stand for, those alone that are there."""
    there = [task for task in tasks if task in set(rows["task"])]
    marks = {task_name(task): {"symbol": "circle", "size": 8, "color": colour_of(task, tasks)} for task in there}
    marks = marks if len(tasks) > 1 and told_apart(tasks) else {}
    marks |= {name: {"symbol": "circle", "size": 8, "color": own} for name, own in optimizers(rows).values()}
    colour = GREY if marks else colour_of(tasks[0], tasks)
    marks["a seed"] = {"symbol": "circle", "size": 5, "color": colour, "opacity": 0.55}
    line = {"color": colour, "width": 2}
    marks["over seeds, with 95% interval"] = {"symbol": "diamond", "size": 9, "color": theme.PAPER, "line": line}
    if (trained_rows(rows)["value"] == math.inf).any():
        marks["a seed, censored"] = {"symbol": "triangle-right-open", "size": 9, "color": colour}
    if (rows["network"] == "control").any():
        marks["randomly initialised control"] = {
            "symbol": "line-ns-open",
            "size": 8,
            "color": LIGHT,
            "line": {"width": 1.5},
        }
    for name, marker in marks.items():
        figure.add_scatter(x=[None], y=[None], mode="markers", name=name, marker=marker, row=1, col=1)


def arm_name(rows: "pd.DataFrame", arm: str) -> str:
    """An arm as its line is called, with how many of its runs failed."""
    n_failed = len(failed_runs(rows))
    note = f"<br><span style='color:{theme.RED};font-size:11px'>{n_failed} failed</span>" if n_failed else ""
    return wrapped(arm, ARM_WIDTH) + note


def without_colour(name: str) -> str:
    """Return a name without the coloured note behind it."""
    return html.unescape(name.split("<span")[0])


def wrapped(name: str, width: int) -> str:
    """A name over several lines."""
    return "<br>".join(theme.subscripts(line) for line in textwrap.wrap(str(name), width, break_long_words=False))


def task_name(task: str) -> str:
    """A task without its long settings."""
    return task if len(task) <= 30 else task.partition("(")[0]


def optimizers(rows: "pd.DataFrame") -> dict[str, tuple[str, str]]:
    """The name and the colour of each arm's optimiser, where arms of one task differ in it."""
    if "optimizer" not in rows or rows["optimizer"].nunique() < 2 or rows["task"].nunique() > 1:
        return {}
    known = dict(rows[["arm", "optimizer"]].drop_duplicates().itertuples(index=False, name=None))
    return {arm: theme.OPTIMIZERS[name] for arm, name in known.items() if name in theme.OPTIMIZERS}


def colour_of(task: str, tasks: list) -> str:
    """Of a task; the same for all where they are more than there are colours."""
    return theme.task_colours(tasks)[task] if told_apart(tasks) else theme.BLUE


def told_apart(tasks: list) -> bool:
    """Whether tasks have colours of their own."""
    return len(set(theme.task_colours(tasks).values())) == len(tasks)


def main(
    table: Annotated[Path, Positional],
    measures: Annotated[tuple[str, ...], Positional, Field(min_length=1)],
    out: Path,
) -> None:
    """Draw MEASURES of TABLE, as a study writes it, into OUT.

    Args:
        table: of a study.
        measures: a panel each: MEASURE, or `MEASURE, LABEL=VALUE, ...` where labels tell its rows apart.
        out: an image (.png, .svg, .pdf) or a page (.html).
    """
    with drawing(out):
        rows = table_of(table, "a study in experiments/", COLUMNS, ("seed", "value"), COLUMNS[:-1], "error")
        save(drawn(rows, measures), out, __doc__)


if __name__ == "__main__":
    call(main, description=__doc__)
