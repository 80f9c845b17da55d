"""One page for several runs: their settings and results, their curves in one figure, their attention."""

import html
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
import plotly.graph_objects as go

from compo_mech.evaluation.attention import TEXTBOOK_SCORE
from compo_mech.evaluation.sets import eval_sets
from compo_mech.evaluation.table import CONTROL, measured, select
from compo_mech.plots import trajectories
from compo_mech.report import html_parts
from compo_mech.report.attention import N_SHOWN, attention_by_step, n_frames, shown_set
from compo_mech.report.document import document
from compo_mech.report.run_page import made_by
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.config import RunConfig
from compo_mech.runs.files import as_bytes
from compo_mech.runs.names import distinct
from compo_mech.runs.outcome import ACCURACY_LEVEL, summary_or_failure, until
from compo_mech.runs.run import COLUMNS, Run
from compo_mech.stats.intervals import on_its_side, two_decimals

MAX_BYTES = 3_900_000
"""Of the page, after which runs go without attention."""

N_OPEN = 3
"""Runs whose attention is shown at once; of more it is folded away."""
CURVES = {
    "Accuracy, generated freely: the worst length": "generated_accuracy",
    "Iteration score of the best head": "iteration",
    "Lookup score of the best head": "lookup",
}
LEGEND = (
    "<p class=quiet>Accuracy: fraction of test strings with every state and [EoS] right at the worst length, generated "
    "freely. Iteration, lookup: mean attention weight over lengths from 4 on, of the head with the highest; in "
    "brackets of the randomly initialised control. From step: from which on accuracy stays at 99%, and the iteration "
    "score at 0.9; a dash: not so at the end. Each run is shown with the first of its tasks.</p>"
)


@dataclass
class Compared:
    """A run beside others.

    Attributes:
        run: its folder and settings.
        name: that no other has.
        metrics: its rows, none where they cannot be read.
        summary: of its outcome (see `run_summary`), or why there is none.
        step: of the last checkpoint that is shown; 0: there is none.
        problems: what is missing or damaged, a line each.
    """

    run: Run
    name: str
    metrics: pd.DataFrame
    summary: Mapping[str, object]
    step: int
    problems: list[str] = field(default_factory=list)

    @property
    def task(self) -> str:
        return str(self.run.config.data.measured_tasks[0])


def compared(runs: Sequence[Run], step: int | None = None) -> list[Compared]:
    """Return the runs under distinct names, with what is wrong with each.

    Args:
        runs: to compare.
        step: as if training had ended there; None: the last of each.

    Raises:
        RunError: a run has no checkpoint of that step.
    """
    found = []
    for run in runs:
        if step is not None and step not in run.steps:
            raise RunError(f"step = {step}: must be that of a checkpoint of every run, and {run.path} has {_few(run)}")
    for run, name in zip(runs, distinct([run.path for run in runs]), strict=True):
        problems, nothing = run.problems(), pd.DataFrame(columns=list(COLUMNS))
        summary = summary_or_failure(run.path, step)
        failed = summary.get("failed") if run.steps else None
        metrics = nothing
        try:
            metrics = nothing if failed else until(run.metrics, step)
        except RunError as error:
            failed = str(error)
        if failed and failed not in problems:
            problems.append(str(failed))
        last = max(run.steps, default=0) if step is None else step
        own = [line.replace(f"{run.path}/", "") for line in problems]
        found.append(Compared(run, name, metrics, summary, last, own))
    return found


def _few(run: Run) -> str:
    """Name the steps of a run's checkpoints, of many the first and the last."""
    steps = list(map(str, run.steps)) or ["none"]
    return ", ".join(steps if len(steps) <= 6 else [*steps[:3], "…", *steps[-2:]])


def overview(runs: Sequence[Compared]) -> pd.DataFrame:
    """Tabulate one row per run: its results, and the settings in which the runs differ."""
    came = pd.DataFrame([{"run": run.name} | results(run) for run in runs])
    return came.assign(**differences([run.run.config for run in runs])).fillna("–")


def differences(configs: Sequence[RunConfig]) -> dict[str, list[str]]:
    """Return, by name, each setting in which runs differ: its value in every run."""
    flat = [dict(_flat(config.model_dump(mode="json"))) for config in configs]
    names = dict.fromkeys(name for settings in flat for name in settings)
    values = {name: [settings.get(name, "–") for settings in flat] for name in names}
    return {name: shown for name, shown in values.items() if len(set(shown)) > 1}


def _flat(settings: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            plain = " ".join(map(str, value)) if isinstance(value, list) else value
            yield f"{prefix}{name}", plain if isinstance(plain, str) else json.dumps(plain)


def results(run: Compared) -> dict[str, str]:
    """Results of a run, formatted; scores are left out where it has no head that could have them."""
    row = {"steps": f"{run.step} of {run.run.config.train.n_steps}"}
    accuracy = curve(run, "generated_accuracy")
    if not len(accuracy):
        return row
    row["accuracy"] = on_its_side(accuracy.iloc[-1], ACCURACY_LEVEL, percent=True)
    if not len(curve(run, "iteration")) or not len(curve(run, "lookup")):
        return row
    came = run.summary
    row |= {"head": str(came["head"])}
    for measure in ("iteration", "lookup"):
        control = select(run.metrics, task=run.task, split=CONTROL, metric=measure)
        control = control[control["length"].isna()]["value"].max()
        score = curve(run, measure).iloc[-1]
        written = on_its_side(score, TEXTBOOK_SCORE) if measure == "iteration" else two_decimals(score)
        row[measure] = f"{written} [{'–' if pd.isna(control) else two_decimals(control)}]"
    row["verdict"] = str(came["verdict"])
    for name in ("accuracy from step", "head from step"):
        row[name] = "–" if came[name] is None else str(came[name])
    return row


def curve(run: Compared, metric: str) -> pd.Series:
    """By step: accuracy at the worst length, or the score of the best head; empty where it was not measured."""
    rows = select(measured(run.metrics, run.task), metric=metric).dropna(subset="value")
    if metric == "generated_accuracy":
        return rows.groupby("step")["value"].min()
    return select(rows, split="mean").dropna(subset="head").groupby("step")["value"].max()


def curves(runs: Sequence[Compared]) -> go.Figure | None:
    """Draw accuracy, iteration and lookup of all runs in one figure; None where nothing was measured."""
    panels = {title: {run.name: curve(run, metric) for run in runs} for title, metric in CURVES.items()}
    found = {
        title: {name: (c.index.tolist(), c.round(4).tolist()) for name, c in own.items() if len(c)}
        for title, own in panels.items()
    }
    found = {title: own for title, own in found.items() if own}
    return trajectories.curves_of_runs(found, [run.name for run in runs], "Over training") if found else None


def attention(run: Compared, n_runs: int) -> str:
    """Draw a run's attention with a slider over its steps, as HTML; empty where no checkpoint can be read."""
    config = run.run.config
    shown = run.run.readable(n_frames(config, n_runs), run.step)
    if not shown:
        return ""
    test = shown_set(eval_sets(config.data, min(config.n_test_strings, N_SHOWN)), run.task)
    return html_parts.wide(attention_by_step(shown, config, test))


def page(runs: Sequence[Compared], command: Sequence[str], unread: Sequence[str] = ()) -> str:
    """Return the whole page, which loads nothing from elsewhere.

    Args:
        runs: to compare.
        command: that makes the page.
        unread: what is wrong with runs that cannot be opened, a line each.
    """
    names = ", ".join(run.name for run in runs)
    parts = [f"<h1>{len(runs)} runs</h1><p class=quiet>{html.escape(names)}</p>"]
    problems = [*unread, *(f"{run.name}: {problem}" for run in runs for problem in run.problems)]
    if problems:
        lines = "".join(f"<li>{html.escape(problem)}</li>" for problem in problems)
        parts.append(f"<div class=problem>Not all of these runs are whole:<ul>{lines}</ul></div>")
    parts += [html_parts.table_html(overview(runs), sticky=True, whole=True), LEGEND]
    if not differences([run.run.config for run in runs]):
        parts.append("<p class=quiet>The runs do not differ in any setting.</p>")
    parts.append("<h2>Training</h2>")
    drawn = curves(runs)
    parts.append("<p class=quiet>Nothing was measured.</p>" if drawn is None else html_parts.wide(drawn))
    parts.append("<h2>Attention</h2>")
    left = MAX_BYTES - len(html_parts.plotly_script().html) - sum(len(as_bytes(part)) for part in parts)
    for n, run in enumerate(runs):
        maps = attention(run, len(runs))
        size = len(as_bytes(maps))
        body = maps if 0 < size <= left else f"<p class=quiet>{_FULL if maps else _NONE}</p>"
        left -= size if size <= left else 0
        is_open = " open" if n < N_OPEN else ""
        parts.append(f"<details{is_open}><summary>{html.escape(run.name)}</summary>{body}</details>")
    parts.append("<h2>How to reproduce</h2>")
    commands: dict[str, list[str]] = {}
    for run in runs:
        commands.setdefault(made_by(run.run), []).append(run.name)
    lines = [f"{how}  # {', '.join(made)}" for how, made in commands.items()]
    lines.append(f"python {shlex.join(command)}")
    shown = html.escape("\n".join(lines))
    parts.append(f"<pre>{shown}</pre>")
    return document(names, "\n".join(parts), body_class="full")


_NONE = "No checkpoint could be read."
_FULL = "Left out, or the page would be too large: compare fewer runs."
