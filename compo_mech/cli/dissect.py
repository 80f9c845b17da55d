"""What `dissect` asks of a run: each task by itself, then what every two of them share; and of many runs."""

import contextlib
import importlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console

from compo_mech.analyses import dissection
from compo_mech.analyses.circuits_over_runs import CircuitOfRun, circuits_over_runs
from compo_mech.analyses.dissection import Dissection
from compo_mech.analyses.network_findings import STAGES
from compo_mech.analyses.sharing import Sharing, compare, evidence
from compo_mech.circuits.circuit import to_json
from compo_mech.cli.analyse import analyse, analysed, check_place
from compo_mech.cli.errors import one_line_errors
from compo_mech.cli.imports import IMPORTED
from compo_mech.cli.output import Output, csv_files, say, warn, write_table
from compo_mech.cli.progress import counting
from compo_mech.cli.tables import print_table
from compo_mech.data.tasks import Task
from compo_mech.ground_truth.method_card import method_card_table
from compo_mech.model.params import Model
from compo_mech.parallel import each
from compo_mech.report.method_card import card_sentence
from compo_mech.routes.summary import RouteName
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.names import distinct, once, opened
from compo_mech.runs.run import Run
from compo_mech.stats.intervals import counted

if TYPE_CHECKING:
    import pandas as pd


SHARING = "sharing"
"""Names the folder of what the tasks share."""
EDGES_OVER_RUNS = "edges_over_runs.csv"
"""In how many of several runs' circuits each edge is."""
TaskOfRun = tuple[dict[str, object], CircuitOfRun]
"""A row of what was found of a run on a task, and its circuit."""


@dataclass(frozen=True)
class DissectionOfRun:
    """What `dissect` asks of a run.

    Attributes:
        step: of the checkpoint; None: the last.
        seed: of all that is drawn.
        card: the method card, whose rows for the method used are quoted.
    """

    step: int | None
    seed: int
    card: "pd.DataFrame"
    name = "dissect"

    def check(self, run: Run) -> None:
        """Every run can be dissected."""

    def ask(self, run: Run, task: Task, console: Console) -> Dissection:
        model = Model(run.params(self.step), run.config.model)
        step = run.steps[-1] if self.step is None else self.step
        with counting(console) as bar:
            shown = bar.add_task(str(task), total=2 * sum(STAGES.values()))
            n_done = itertools.accumulate((*STAGES.values(), *STAGES.values()), initial=0)

            def tell(what: str) -> None:
                bar.update(shown, description=what, completed=next(n_done))

            return dissection.dissect(model, run.config.data, task, step, run.config.shifts, self.seed, tell=tell)

    def files(self, found: Dissection) -> dict[str, str]:
        circuit = {} if found.circuit is None else {"circuit.json": to_json(found.circuit)}
        return csv_files(found.tables()) | circuit

    def sentences(self, found: Dissection) -> list[str]:
        return [*found.sentences, card_sentence(self.card, found)]

    def section(self, found: Dissection) -> str:
        from compo_mech.report.dissection import dissection_section  # with pandas, which --help need not wait for

        return dissection_section(found, self.card)

    def shown(self, found: Dissection) -> "pd.DataFrame":
        from compo_mech.report.dissection import head_rows

        return head_rows(found.trained, found.control)

    def shared(self, run: Run, console: Console) -> list[Output]:
        """What every two measured tasks share, in one folder; nothing where there is only one."""
        data, model = run.config.data, Model(run.params(self.step), run.config.model)
        if len(data.measured_tasks) < 2:
            return []
        n_tasks = len(data.measured_tasks)
        with counting(console) as bar:
            shown = bar.add_task("what the tasks share", total=n_tasks + math.comb(n_tasks, 2))
            found = []
            for task in data.measured_tasks:
                bar.update(shown, description=f"{task}: two sets of prompts")
                found.append(evidence(model, data, task, run.config.shifts, self.seed))
                bar.advance(shown)
            pairs = []
            for one, other in itertools.combinations(found, 2):
                bar.update(shown, description=f"{one.task} and {other.task}")
                pairs.append(compare(model, data, one, other, self.seed))
                bar.advance(shown)
        return [sharing_output(pairs, run.steps[-1] if self.step is None else self.step)]


def sharing_output(pairs: list[Sharing], step: int) -> Output:
    """What is left of the comparison of tasks, whose folder stands after those of the tasks."""
    import pandas as pd

    from compo_mech.report.sharing import sharing_section, sharing_sentences

    tables: dict[str, list[pd.DataFrame]] = {}
    for pair in pairs:
        for name, table in pair.tables().items():
            tables.setdefault(name, []).append(table.assign(tasks=" and ".join(pair.names)))
    files = csv_files({name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()})
    return Output(
        folder=f"{SHARING}-{step:06d}",
        title=f"What the tasks share, step {step}",
        files=files | {"section.html": sharing_section(pairs, step)},
        sentences={" and ".join(pair.names): sharing_sentences(pair) for pair in pairs},
    )


def dissect_runs(runs: Sequence[Path], step: int | None, seed: int, n_workers: int, out: Path | None) -> None:
    """Dissect runs; all as `dissect_command` in `cli.commands` has it."""
    paths = once(runs)
    if len(paths) == 1:
        asked = DissectionOfRun(step, seed, method_card_table())
        analyse(paths[0], asked, across=asked.shared, out=out, further=[SHARING])
        return
    import pandas as pd

    console = Console()
    with one_line_errors():
        read, problems = opened(paths)
        for problem in problems:
            warn(console, f"left out: {problem}")
        if not read:
            raise RunError(f"runs = {len(paths)}: must hold one that can be read, and none can")
        is_new = out is not None and not out.exists()
        if out is not None and not is_new:
            check_place(read[0], out)
        names = distinct([run.path for run in read])
        places = [(run.path, name, None if out is None else out / name) for run, name in zip(read, names, strict=True)]
        found: dict[int, list[TaskOfRun]] = {}
        with counting(console) as bar:
            shown = bar.add_task("runs", total=len(places))
            for i, rows in each(partial(_dissected, step, seed, tuple(IMPORTED)), places, n_workers):
                bar.advance(shown)
                if isinstance(rows, Exception):
                    warn(console, f"{names[i]}: {rows}")
                    _remove_empty(places[i][2], out)
                else:
                    found[i] = rows
        if not found:
            if out is not None and is_new:
                _remove_empty(out, out.parent)
            raise RunError(f"runs = {len(paths)}: must hold one that can be dissected, and none can")
        of_tasks = [of_task for i in sorted(found) for of_task in found[i]]
        print_table(console, pd.DataFrame([row for row, _ in of_tasks]))
        _say_how_alike(console, [circuit for _, circuit in of_tasks], seed, out)
        where = "look at report.html in each" if out is None else f"tables: {out}"
        say(console, f"{len(found)} of {counted(len(paths), 'run')} dissected; {where}")


def _say_how_alike(console: Console, circuits: Sequence[CircuitOfRun], seed: int, out: Path | None) -> None:
    """Say how alike circuits are, task by task, and write in how many each edge is."""
    import pandas as pd

    groups = circuits_over_runs(circuits, torch.Generator().manual_seed(seed))
    for group in groups:
        for sentence in group.sentences:
            say(console, sentence)
    if out is not None:
        write_table(out / EDGES_OVER_RUNS, pd.concat([group.table() for group in groups]))


def _dissected(
    step: int | None, seed: int, modules: Sequence[str], place: tuple[Path, str, Path | None]
) -> list[TaskOfRun]:
    """Dissect a run, and return a row a task of what was found, and its circuit.

    Args:
        step, seed: as of `DissectionOfRun`.
        modules: with tasks of one's own.
        place: the run's folder, its name, and a folder for the results (None: the run's).
    """
    for module in modules:
        importlib.import_module(module)
    path, name, out = place
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    asked = DissectionOfRun(step, seed, method_card_table())
    words = {"--step": step, "--seed": seed, "--out": out}
    flags = [word for flag, value in words.items() if value is not None for word in (flag, str(value))]
    command = ["-m", "compo_mech", "dissect", str(path), *flags]
    found = analysed(path, asked, Console(quiet=True), across=asked.shared, out=out, command=command, further=[SHARING])
    return [({"run": name, "task": str(task)} | _row(findings), CircuitOfRun.of(findings)) for task, findings in found]


def _remove_empty(folder: Path | None, around: Path | None) -> None:
    """Remove a folder in which nothing was written, and empty ones above it, but not `around`."""
    with contextlib.suppress(OSError):  # something is in it
        while folder is not None and folder != around:
            folder.rmdir()
            folder = folder.parent


def _row(found: Dissection) -> dict[str, object]:
    """What a table of several runs says of one."""
    own = found.trained
    head = own.heads.iteration
    routes = None if own.routes is None else own.routes.summary()
    return {
        "circuit": own.discovery.verdict,
        "edges": len(own.discovery.kept) or None,
        "iteration head": None if head is None else str(head.writer),
        "textbook routes": None if routes is None or not routes.n_cells else routes.shares.get(RouteName.TEXTBOOK, 0.0),
    }
