"""What `watch` asks of a run: every measure over its checkpoints, and when each component emerged."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from rich.console import Console

from compo_mech.analyses.emergence import AfterAccuracy, after_accuracy, component_emergence
from compo_mech.analyses.emergence_sentences import sentences
from compo_mech.analyses.watch import Advance, Watched, watch
from compo_mech.cli.output import csv_files, warn
from compo_mech.cli.progress import counting
from compo_mech.data.tasks import Task
from compo_mech.runs.run import Run
from compo_mech.stats.onset import MIN_POINTS

if TYPE_CHECKING:
    import pandas as pd


class Course(NamedTuple):
    """What was watched, when each component emerged, and what changed once accuracy was flat."""

    watched: Watched
    components: "pd.DataFrame"
    after: AfterAccuracy


@dataclass(frozen=True)
class Watching:
    """What `watch` asks of a run.

    Attributes:
        seed: of all that is drawn.
        n_workers: processes.
        every: routes are asked of each n-th checkpoint only.
    """

    seed: int
    n_workers: int
    every: int
    name = "watch"
    step = None

    def check(self, run: Run) -> None:
        if self.n_workers < 1 or self.every < 1:
            raise ValueError(f"n_workers = {self.n_workers}, every = {self.every}: must be at least 1")
        if (problem := run.sums().problem) is not None and not run.steps:
            raise ValueError(problem)
        if len(run.steps) < MIN_POINTS:
            raise ValueError(f"run = {run.path}: has {len(run.steps)} checkpoints, must have at least {MIN_POINTS}")

    def ask(self, run: Run, task: Task, console: Console) -> Course:
        with checkpoint_bars(console, str(task)) as advance:
            found = watch(run, task, advance, self.seed, self.n_workers, {"route_scores": self.every})
        components = component_emergence(found, torch.Generator().manual_seed(self.seed))
        return Course(found, components, after_accuracy(found))

    def files(self, found: Course) -> dict[str, str]:
        return csv_files({"by-step": found.watched.rows, "emergence": found.components, "rises": found.after.changes})

    def sentences(self, found: Course) -> list[str]:
        return sentences(found.components, found.after)

    def section(self, found: Course) -> str:
        from compo_mech.report.emergence import emergence_section  # with pandas, which --help need not wait for

        return emergence_section(found.watched, found.components, self.sentences(found))

    def shown(self, found: Course) -> "pd.DataFrame":
        from compo_mech.report.emergence import shown_emergence

        return shown_emergence(found.components)


@contextmanager
def checkpoint_bars(console: Console, title: str) -> Iterator[Advance]:
    """A bar for each thing that is asked of the checkpoints; a line for each checkpoint that cannot be read."""
    reported: set[int | None] = set()
    with counting(console) as bar:
        bars = {}

        def advance(name: str, step: int | None, n_steps: int, problem: str | None) -> None:
            if name not in bars:
                bars[name] = bar.add_task(f"{title}: {name}", total=n_steps)
            bar.advance(bars[name])
            if problem is not None and step not in reported:
                reported.add(step)
                warn(console, f"step {step} is left out: {problem}")

        yield advance
