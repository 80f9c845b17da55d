"""One offline HTML page for a run: its outcome in a sentence, tables, curves, attention maps."""

import html
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compo_mech.analyses.headline import run_causes
from compo_mech.evaluation.sets import EvalSet, eval_sets
from compo_mech.evaluation.table import measured, of_lengths
from compo_mech.model.params import Params
from compo_mech.plots import training
from compo_mech.report import attention, thresholds
from compo_mech.report.attention import attention_by_step, shown_set
from compo_mech.report.document import document
from compo_mech.report.html_parts import capitalised, fold, folded_if_long, length_table_html, verdict, wide
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.config import RunConfig
from compo_mech.runs.outcome import length_table, run_sentence
from compo_mech.runs.run import COLUMNS, Run
from compo_mech.stats.intervals import counted

if TYPE_CHECKING:
    import pandas as pd

_LEGEND = (
    "<p class=quiet>Free, forced: fraction of test strings with every state and [EoS] right, generated freely and "
    "teacher-forced; grammar: fraction that ends in time, once; split “all”: too few strings to hold any out. Scores: "
    "mean attention weight. Sharp: fraction of rows whose strongest key has weight ≥ 0.9 and is the same key for ≥ 95% "
    "of strings. In brackets the same figure of the randomly initialised control. Attention alone does not show that a "
    "head is used.</p>"
)


def page(
    name: str,
    config: RunConfig,
    checkpoints: Mapping[int, Params],
    metrics: "pd.DataFrame",
    causes: Mapping[str, str],
    sets: Sequence[EvalSet],
    command: str,
    sections: Mapping[str, str] | None = None,
    problems: Sequence[str] = (),
) -> str:
    """Return the whole page. plotly's script is embedded once; nothing is loaded.

    Args:
        name: of the run.
        config: its settings.
        checkpoints: by step, parameters whose attention is shown; there may be none.
        metrics: its long rows, the control's among them.
        causes: by task, what its heads do, by intervention.
        sets: its test strings; the longest of each task is shown.
        command: that made it.
        sections: of analyses, as HTML by the name of their folder.
        problems: what is missing or damaged, a line each.
    """
    parts = [f"<h1>{html.escape(name)}</h1>"]
    if problems:
        lines = "".join(f"<li>{html.escape(problem)}</li>" for problem in problems)
        parts.append(f"<div class=problem>Not all of this run is whole:<ul>{lines}</ul></div>")
    parts.append(f"<p class=quiet>{html.escape(facts(config))}</p>")
    tasks = [str(task) for task in config.data.measured_tasks]
    tasks = [task for task in tasks if len(measured(metrics, task))]
    trained = of_lengths(metrics, config.data.drawn_lengths)
    if tasks:
        parts.append(
            verdict([capitalised(run_sentence(trained, task, causes[task])) for task in tasks], thresholds.ATTENTION)
        )
    how = fold("How to make this again", f"<pre>{html.escape(command)}</pre>", "again")
    for task in tasks:
        of_task = f": {task}" if len(tasks) > 1 else ""
        parts.append(f"<h2>By length and head{html.escape(of_task)}</h2>")
        table = length_table(metrics, task)
        parts.append(folded_if_long(f"<div class=wide>{length_table_html(table)}</div>", len(table)))
        parts += [_LEGEND, how]
        parts.append(f"<h2>Training{html.escape(of_task)}</h2>")
        parts += [wide(training.training_curves(metrics, task)), how]
        parts.append(f"<h2>Attention{html.escape(of_task)}</h2>")
        parts.append(wide(attention_by_step(checkpoints, config, shown_set(sets, task))) if checkpoints else _NONE)
        parts.append(how)
    parts += newest_first(sections or {})
    parts.append("<h2>How to reproduce</h2>")
    parts.append(f"<pre>{html.escape(command)}</pre>")
    settings = json.dumps(config.model_dump(mode="json"), indent=2)
    parts.append(f"<details><summary>All settings</summary><pre>{html.escape(settings)}</pre></details>")
    return document(name, "\n".join(parts))


def facts(config: RunConfig) -> str:
    """Say in a line which network was trained on what."""
    model = config.model
    mixed_in = [str(task) for task in config.data.tasks if task not in config.data.measured_tasks]
    never = [str(length) for length in config.data.lengths if length not in config.data.drawn_lengths]
    facts = [
        f"{counted(model.n_layers, 'layer')} × {counted(model.n_heads, 'head')}, d_model {model.d_model}",
        f"{', '.join(map(str, config.data.measured_tasks))}, lengths {config.data.min_length} to "
        f"{config.data.max_length}"
        + (f" (never trained: {', '.join(never)})" if never else "")
        + (f" ({', '.join(mixed_in)} mixed in)" if mixed_in else ""),
        f"{config.train.n_steps} steps of {config.data.batch_size} rows",
        f"seed {config.seed}",
    ]
    return "; ".join(facts)


FOLDER = re.compile(r"(.+?)-(\d{6,})(.*)")
"""The name of an analysis' folder: the kind, the step, the task if it is of one."""


def newest_first(sections: Mapping[str, str]) -> list[str]:
    """Return sections kind by kind and task by task, the latest step's; earlier ones are folded away after it.

    Args:
        sections: by the name of their folder, such as `dissect-002400-parity`.
    """
    steps: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for folder, section in sections.items():
        found = FOLDER.fullmatch(folder)
        kind, step, task = (found[1], int(found[2]), found[3]) if found else (folder, 0, "")
        steps.setdefault((kind, task), []).append((step, section))
    parts = []
    for of_kind in steps.values():
        (_, newest), *others = sorted(of_kind, reverse=True)
        parts.append(newest)
        parts += [fold(f"Earlier: step {step}", demoted(section), "older") for step, section in others]
    return parts


def demoted(section: str) -> str:
    """Return a section whose heading is no section of the page any more."""
    return section.replace("<h3>", "<h4>").replace("</h3>", "</h4>").replace("<h2>", "<h3>").replace("</h2>", "</h3>")


_NONE = "<p class=quiet>No checkpoint could be read.</p>"


def write_page(run: Run, causes: Mapping[str, str] | None = None) -> Path:
    """Write the run's page, with sections of analyses, and what is missing or damaged.

    Args:
        run: its folder.
        causes: by task, what its heads do, if that is known (see `run_causes`).
    """
    import pandas as pd

    config = run.config
    sets = eval_sets(config.data, config.n_test_strings)
    shown = run.readable(attention.n_frames(config))
    problems = [problem.replace(f"{run.path}/", "") for problem in run.problems()]
    try:
        metrics = run.metrics
    except RunError:  # among the problems
        metrics = pd.DataFrame(columns=list(COLUMNS))
    causes = run_causes(run) if causes is None else causes
    return run.write_report(page(run.name, config, shown, metrics, causes, sets, made_by(run), run.sections, problems))


def made_by(run: Run) -> str:
    """Return the command line that made a run."""
    try:
        return f"python {shlex.join(run.command)}"
    except RunError as error:
        return f"# {str(error).replace(f'{run.path}/', '')}"
