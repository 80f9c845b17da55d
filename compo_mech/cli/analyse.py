"""What every analysis of a run does: it asks each task, keeps tables, tells what it found, writes the run's page."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

import torch
from rich.console import Console

from compo_mech.cli.errors import one_line_errors
from compo_mech.cli.output import Output, check_page, check_writable, keep, say
from compo_mech.data.tasks import Task
from compo_mech.report.run_page import write_page
from compo_mech.runs.analysis_folder import analysis_name, place_problem
from compo_mech.runs.run import Run

if TYPE_CHECKING:
    import pandas as pd

FindingsT = TypeVar("FindingsT")


@runtime_checkable
class Analysis(Protocol[FindingsT]):
    """One way to analyse a run, task by task; its settings are its attributes."""

    @property
    def name(self) -> str:
        """Names its folders in the run."""
        ...

    @property
    def step(self) -> int | None:
        """Of the checkpoint that it asks; None: the last."""
        ...

    def check(self, run: Run) -> None:
        """Before anything is computed.

        Raises:
            ValueError: what is asked makes no sense for this run.
        """
        ...

    def ask(self, run: Run, task: Task, console: Console) -> FindingsT:
        """Computes what there is to find of one task; the console shows how far it is.

        Raises:
            RunError, ValueError: there is no such checkpoint, or the network or the task cannot be asked.
        """
        ...

    def files(self, found: FindingsT) -> dict[str, str]:
        """What is kept, tables and all else, as texts by file name."""
        ...

    def sentences(self, found: FindingsT) -> Sequence[str]:
        """What was found, for people."""
        ...

    def section(self, found: FindingsT) -> str:
        """Of the run's page."""
        ...

    def shown(self, found: FindingsT) -> "pd.DataFrame | None":
        """The table for the terminal, if there is one."""
        ...


def analyse(
    path: Path,
    analysis: Analysis[FindingsT],
    task: str | None = None,
    across: Callable[[Run, Console], Sequence[Output]] = lambda run, console: (),
    out: Path | None = None,
    further: Sequence[str] = (),
) -> None:
    """Analyse a run as `analysed`, with one thread. Exits with code 2 and one line on bad input."""
    torch.set_num_threads(1)
    with one_line_errors():
        analysed(path, analysis, Console(), task, across, out, further=further)


def analysed(
    path: Path,
    analysis: Analysis[FindingsT],
    console: Console,
    task: str | None = None,
    across: Callable[[Run, Console], Sequence[Output]] = lambda run, console: (),
    out: Path | None = None,
    command: Sequence[str] | None = None,
    further: Sequence[str] = (),
) -> list[tuple[Task, FindingsT]]:
    """Analyse a run; no result is written before all is computed.

    Args:
        path: folder of the run.
        analysis: what is asked of each task.
        console: is told what was found.
        task: one of the run's, spelled; None: all that are measured.
        across: what is asked of several tasks together.
        out: folder of the results; None: they go into the run, whose page is written anew.
        command: makes this again, as words after `python`; None: those of this process.
        further: what names the folders of what is asked across tasks.

    Returns:
        What was found of each task.

    Raises:
        RunError, ValueError: the run cannot be read or asked, or nothing can be written.
    """
    run = Run.open(path)
    analysis.check(run)
    step = max(run.steps, default=0) if analysis.step is None else analysis.step
    names = [analysis_name(analysis.name, step, asked) for asked in run.tasks(task)]
    check_place(run, out, [*names, *(f"{name}-{step:06d}" for name in further)])
    found = [(asked, analysis.ask(run, asked, console)) for asked in run.tasks(task)]
    outputs = [output_of(analysis, asked, step, findings) for asked, findings in found]
    for output in (*outputs, *across(run, console)):
        keep(run, output, console, out, sys.argv if command is None else command)
    if out is None:
        say(console, f"Look at {write_page(run)}")
    return found


def check_place(run: Run, out: Path | None, names: Sequence[str] = ()) -> None:
    """Before anything is computed.

    Args:
        run: that is to be analysed.
        out: the folder of the results; None: they go into the run.
        names: of their folders, where they are known.

    Raises:
        ValueError: nothing can be written where the results are to go, or something is there that they must not
            replace.
    """
    folders = [run.path, run.path / "analysis"] if out is None else [out]
    try:
        for folder in folders:
            if os.path.lexists(folder) or folder == out:
                check_writable(folder)
        problems = [place_problem(folders[-1] / name) for name in names]
    except OSError as error:
        if out is not None:
            raise ValueError(f"out = {out}: must be a folder that can be written ({error.strerror})") from None
        hint = "--out FOLDER writes elsewhere"
        raise ValueError(f"run = {run.path}: cannot be written ({error.strerror}); {hint}") from None
    for problem in filter(None, problems):
        raise ValueError(f"analysis = {problem}")
    if out is None:
        check_page(run.path)


def check_steps(step: int | None, all_steps: bool) -> None:
    """
    Raises:
        ValueError: one step is asked for, and all.
    """
    if all_steps and step is not None:
        raise ValueError(f"step = {step}: goes without all-steps")


def output_of(analysis: Analysis[FindingsT], task: Task, step: int, found: FindingsT) -> Output:
    """What is left of one task's findings."""
    return Output(
        folder=analysis_name(analysis.name, step, task),
        title=f"{task}, step {step}",
        files={**analysis.files(found), "section.html": analysis.section(found)},
        sentences={"": analysis.sentences(found)},
        table=analysis.shown(found),
    )
