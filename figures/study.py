"""Measures of a study's arms: a panel a measure, a line an arm, a dot a seed, a diamond over seeds with its interval.

python experiments/mix.py
python figures/study.py runs/mix/mix.csv mix.png iteration 'first step at 99%'

Writes a picture (.png, .svg, .pdf: pip install kaleido, which needs a Chrome) or a page (.html).
"""

import html
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import plotly.graph_objects as go
import tyro
from plotly.subplots import make_subplots

from compo_mech.cli.errors import one_line_errors
from compo_mech.cli.output import table_of
from compo_mech.plots import theme
from compo_mech.report import html_parts
from compo_mech.stats.over_seeds import TIMES_TO_EVENT, over_seeds

COLUMNS = ("study", "arm", "seed", "task", "measure", "value")
UNBOUNDED = ("entropy", *TIMES_TO_EVENT)
"""Measures that may lie between 0 and 1 and still are no scores."""

GREY, LIGHT = "#5f6368", "#b0b5ba"
NEVER = 1.1
"""Where waits that did not end stand, as a multiple of the longest that did."""

ARM_WIDTH, TITLE_WIDTH = 42, 26
"""Characters after which names are wrapped."""


def drawn(table: pd.DataFrame, measures: Sequence[str]) -> go.Figure:
    """A panel a measure.

    Raises:
        ValueError: the table has no such measure.
    """
    rows = table[table["measure"] != "failed"]
    known = [name for name in rows["measure"].unique() if not name.endswith(", fresh")]
    if unknown := [name for name in measures if name not in known]:
        raise ValueError(f"measures = {unknown[0]}: must be of {', '.join(known)}")
    arms, tasks = list(dict.fromkeys(table["arm"])), list(dict.fromkeys(rows["task"]))
    names = [arm_name(table[table["arm"] == arm], arm) for arm in arms]
    titles = [wrapped(measure, TITLE_WIDTH) for measure in measures]
    figure = make_subplots(
        1,
        len(measures),
        subplot_titles=titles,
        shared_yaxes=True,
        horizontal_spacing=0.04 if len(measures) < 5 else 0.02,
    )
    for column, measure in enumerate(measures, start=1):
        panel(figure, rows[rows["measure"].isin([measure, f"{measure}, fresh"])], measure, arms, tasks, column)
    key(figure, rows, measures, tasks)
    lanes = rows.groupby("arm")["task"].nunique().max()
    n_lines, n_title_lines = (1 + max(name.count("<br>") for name in given) for given in (names, titles))
    left = 30 + round(6.6 * max(len(line) for name in names for line in plain(name).split("<br>")))
    tall = len(arms) * max(15 * n_lines + 9, 12 + 17 * int(lanes))
    figure.update_yaxes(
        tickmode="array", tickvals=list(range(len(arms))), ticktext=names, range=[len(arms) - 0.5, -0.5],
        showgrid=False, zeroline=False,
    )  # fmt: skip
    for place in range(1, len(arms), 2):
        figure.add_shape(
            type="rect", xref="paper", x0=0, x1=1, y0=place - 0.5, y1=place + 0.5, fillcolor="#f6f7f9", line_width=0,
            layer="below",
        )  # fmt: skip
    figure.update_annotations(font_size=13)
    most = table.groupby("arm")["seed"].nunique().max()
    title = f"{table['study'].iloc[0]}{f': {task_name(tasks[0])}' if len(tasks) == 1 else ''}, {most} seeds an arm"
    top = 60 + 18 * n_title_lines
    figure.update_layout(
        **{**theme.LAYOUT, "margin": {"l": left, "r": 20, "t": top, "b": 80}},
        title={"text": title, "y": 1 - 22 / (top + tall + 80), "x": 0.01},
        width=max(760, left + 20 + max(230, 800 // len(measures)) * len(measures)), height=top + tall + 80,
        legend={"orientation": "h", "yref": "container", "y": 0.0, "yanchor": "bottom", "x": 0},
    )  # fmt: skip
    return figure


def panel(figure: go.Figure, rows: pd.DataFrame, measure: str, arms: list, tasks: list, column: int) -> None:
    """One measure of all arms: estimates over seeds, ticks of fresh networks, and dots of seeds on top."""
    finite = [value for value in rows["value"] if math.isfinite(value)]
    top = max(finite, default=0.0)
    scores = measure not in UNBOUNDED and all(-0.5 <= value <= 1 for value in finite)
    never, waits = NEVER * (top or 1.0), bool((rows["value"] == math.inf).any())
    for place, arm in enumerate(arms):
        of_arm = rows[rows["arm"] == arm]
        own_tasks = [task for task in tasks if task in set(of_arm["task"])]
        for lane, task in enumerate(own_tasks):
            of_task = of_arm[of_arm["task"] == task].sort_values("seed")
            colour = colour_of(task, tasks)
            height = 0.8 / len(own_tasks)
            middle = place + height * (lane - (len(own_tasks) - 1) / 2)
            values = of_task[of_task["measure"] == measure]["value"].tolist()
            if values:
                estimate = over_seeds(measure, values)
                waits = waits or math.inf in estimate
                estimate = [never if value == math.inf else value for value in estimate]
                figure.add_scatter(
                    **estimated(estimate, middle, colour, f"{arm}, {task_name(task)}"), row=1, col=column
                )
            for name in (f"{measure}, fresh", measure):
                own = of_task[of_task["measure"] == name]
                if not len(own):
                    continue
                spread = [middle + 0.8 * height * ((n + 0.5) / len(own) - 0.5) for n in range(len(own))]
                fresh, came = name != measure, own["value"] < math.inf
                figure.add_scatter(
                    x=own["value"].where(came, never).tolist(), y=spread, mode="markers", showlegend=False,
                    text=[f"{arm}, {task_name(task)}, seed {seed}{', fresh' * fresh}" for seed in own["seed"]],
                    marker={"color": LIGHT, "symbol": "line-ns-open", "size": 6, "line": {"width": 1.5}} if fresh else
                    {"color": colour, "opacity": 0.55, "size": [5 if c else 9 for c in came],
                     "line": {"width": [0.0 if c else 1.5 for c in came]},
                     "symbol": ["circle" if c else "triangle-right-open" for c in came]},
                    customdata=own["value"].tolist(), hovertemplate="%{text}: %{customdata:.4g}<extra></extra>",
                    row=1, col=column,
                )  # fmt: skip
    axis(figure, scores, min([0.0, *finite]), top, never, waits, column)


def estimated(estimate: Sequence[float], y: float, colour: str, told: str) -> dict:
    """The heavy mark of an estimate with its interval; without one where it is nan."""
    mean, low, high = (value if value == value else estimate[0] for value in estimate)
    return {
        "x": [mean], "y": [y], "mode": "markers", "showlegend": False,
        "marker": {"color": "#ffffff", "symbol": "diamond", "size": 9, "line": {"color": colour, "width": 2}},
        "error_x": {
            "type": "data", "symmetric": False, "array": [high - mean], "arrayminus": [mean - low], "thickness": 2.5,
            "width": 0, "color": colour,
        },
        "hovertemplate": f"{told}: {mean:.4g} ({low:.4g} .. {high:.4g})<extra></extra>",
    }  # fmt: skip


def axis(figure: go.Figure, scores: bool, low: float, top: float, never: float, waits: bool, column: int) -> None:
    """From 0 to 1 for scores; else from 0 to the largest value, and to `never` where some waits did not end."""
    if scores:
        figure.update_xaxes(range=[min(-0.03, low - 0.03), 1.03], dtick=0.25, row=1, col=column)
        return
    figure.update_xaxes(range=[min(0, low) - 0.03 * never, 1.06 * never if waits else 1.05 * top], row=1, col=column)
    if waits:
        step = (
            1.0
            if top == 0
            else min((m * 10**e for e in range(-3, 8) for m in (1, 2, 2.5, 5)), key=lambda s: abs(top / s - 2.6))
        )
        ticks = [n * step for n in range(int(0.85 * top / step) + 1)]
        figure.update_xaxes(
            tickmode="array", tickvals=[*ticks, never], ticktext=[*(f"{tick:g}" for tick in ticks), "never"],
            tickangle=0,
            row=1, col=column,
        )  # fmt: skip


def key(figure: go.Figure, rows: pd.DataFrame, measures: Sequence[str], tasks: list) -> None:
    """What the marks stand for, those alone that are there."""
    marks = {task_name(task): {"symbol": "circle", "size": 8, "color": colour_of(task, tasks)} for task in tasks}
    marks = marks if len(tasks) > 1 else {}
    colour = GREY if len(tasks) > 1 else colour_of(tasks[0], tasks)
    marks["a seed"] = {"symbol": "circle", "size": 5, "color": colour, "opacity": 0.55}
    line = {"color": colour, "width": 2}
    marks["over seeds, with 95% interval"] = {"symbol": "diamond", "size": 9, "color": "#ffffff", "line": line}
    shown = rows[rows["measure"].isin(measures)]
    if (shown["value"] == math.inf).any():
        marks["a seed that never came there"] = {"symbol": "triangle-right-open", "size": 9, "color": colour}
    if rows["measure"].isin([f"{measure}, fresh" for measure in measures]).any():
        marks["freshly initialised"] = {"symbol": "line-ns-open", "size": 8, "color": LIGHT, "line": {"width": 1.5}}
    for name, marker in marks.items():
        figure.add_scatter(x=[None], y=[None], mode="markers", name=name, marker=marker, row=1, col=1)


def arm_name(rows: pd.DataFrame, arm: str) -> str:
    """An arm as its line is called, with how many of its runs failed."""
    failed = int((rows["measure"] == "failed").sum())
    told = f"<br><span style='color:#b23a3a;font-size:11px'>{failed} failed</span>" if failed else ""
    return wrapped(arm, ARM_WIDTH) + told


def plain(name: str) -> str:
    """A name without its colours."""
    return html.unescape(name.split("<span")[0])


def wrapped(name: str, width: int) -> str:
    """A name over several lines."""
    return "<br>".join(html.escape(line) for line in textwrap.wrap(str(name), width, break_long_words=False))


def task_name(task: str) -> str:
    """A task without its long settings."""
    return task if len(task) <= 30 else task.partition("(")[0]


def colour_of(task: str, tasks: list) -> str:
    """Of a task."""
    return theme.HEAD_COLOURS[tasks.index(task) % len(theme.HEAD_COLOURS)]


def main(
    table: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    measures: Annotated[tuple[str, ...], tyro.conf.Positional],
) -> None:
    """Draw MEASURES of TABLE, as a study writes it, into OUT."""
    with one_line_errors():
        if not measures:
            raise ValueError("measures = (): must be at least one")
        html_parts.write_figure(drawn(table_of(table, "a study in experiments/", COLUMNS), measures), out)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
