"""How far training and analyses are."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from compo_mech.evaluation import table
from compo_mech.evaluation.table import Row
from compo_mech.runs.config import RunConfig


def counting(console: Console) -> Progress:
    """A bar that counts, with the time gone and left; it goes when it is done."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True)


def spinner(console: Console) -> Progress:
    """What is being done, and for how long."""
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)


class TrainingBar:
    """A bar with the (lowest) training loss, the lowest accuracy over lengths and the best iteration score.

    Args:
        bar: that is shown.
        task: of it.
    """

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def seen(self, step: int, rows: Sequence[Row]) -> None:
        """Moves the bar to this step and shows what the rows say."""
        measured = [row for row in rows if row.split != table.CONTROL]
        fields = {}
        for name, split, metric, best in (
            ("loss", "train", "loss", min),
            ("accuracy", None, "generated_accuracy", min),
            ("iteration", "mean", "iteration", max),
        ):
            values = [r.value for r in measured if r.metric == metric and split in (None, r.split)]
            if values:
                fields[name] = f"{best(values):.3f}"
        self._bar.update(self._task, completed=step, **fields)


@contextmanager
def training_bar(console: Console, config: RunConfig) -> Iterator[TrainingBar]:
    """The bar of a run, or of runs that differ in their seed alone."""
    columns = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(
            "loss {task.fields[loss]}  accuracy {task.fields[accuracy]}  iteration {task.fields[iteration]}",
            markup=False,
        ),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=console) as bar:
        names = ", ".join(map(str, config.data.measured_tasks))
        task = bar.add_task(names, total=config.train.n_steps, loss="–", accuracy="–", iteration="–")
        yield TrainingBar(bar, task)
