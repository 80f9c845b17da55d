"""How far the runs of a sweep are, read from their folders while they are trained elsewhere."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from compo_mech.cli.progress import SHORT_BAR
from compo_mech.launch.settings import Launch
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.locks import recorded_failure
from compo_mech.runs.run import Run

POLL_SECONDS = 1.0
"""Seconds between looks at the run folders, for the bar."""


def state_of(settings: Launch) -> tuple[str, str]:
    """done, failed or unfinished; and the error of a run that failed, or that is damaged though it came to its end."""
    error = recorded_failure(settings.path)
    if error is not None:
        return "failed", error
    try:
        run = Run.open(settings.path)
    except RunError:
        return "unfinished", ""
    if not run.is_done:
        return "unfinished", ""
    try:
        run.params()
        _ = run.metrics
    except RunError as error:
        return "failed", f"RunError: {error}"
    return "done", ""


@contextmanager
def steps_bar(launches: Sequence[Launch], console: Console) -> Iterator[None]:
    """A bar over the steps of all runs, read from their folders while they are trained elsewhere."""
    columns = (
        TextColumn("{task.fields[done]} of {task.fields[n]} runs done, {task.fields[failed]} failed", markup=False),
        BarColumn(SHORT_BAR),
        TextColumn("{task.completed} of {task.total} steps", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    ended = threading.Event()
    with Progress(*columns, console=console, transient=True) as bar:
        total = sum(settings.train.n_steps for settings in launches)
        shown = bar.add_task("", total=total, done=0, failed=0, n=len(launches))

        def look() -> None:
            while not ended.wait(max(POLL_SECONDS, len(launches) / 50)):
                found = [_progress_of(settings) for settings in launches]
                states = [state for state, _ in found]
                n_steps = sum(steps for _, steps in found)
                bar.update(shown, completed=n_steps, done=states.count("done"), failed=states.count("failed"))

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


def _progress_of(settings: Launch) -> tuple[str, int]:
    """State of a run, whole or not, and its steps so far."""
    try:
        run = Run.open(settings.path)
        state, n_steps = ("done" if run.is_done else "unfinished"), max(run.steps, default=0)
    except RunError:
        state, n_steps = "unfinished", 0
    return ("failed" if recorded_failure(settings.path) is not None else state), n_steps
