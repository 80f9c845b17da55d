"""How far training and analyses are."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from compo_mech.evaluation import table
from compo_mech.evaluation.table import Row
from compo_mech.runs.config import RunConfig

BAR, SHORT_BAR = 16, 6
"""Characters of a bar, which leave room for the rest in a terminal of 80; and where that is much."""


class Shortened(TextColumn):
    """What is being done, in so many characters at most, so that all that stands beside it is shown whole.

    Args:
        width: how many.
    """

    def __init__(self, width: int) -> None:
        super().__init__("{task.description}", markup=False, table_column=Column(no_wrap=True))
        self._width = width

    def render(self, task: Task) -> Text:
        """Return the description, cut at its end."""
        text = super().render(task)
        text.truncate(self._width, overflow="ellipsis")
        return text


def counting(console: Console) -> Progress:
    """A bar that counts, with the time gone and left; it goes when it is done."""
    columns = (Shortened(34), BarColumn(BAR), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
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
    measured = "loss {task.fields[loss]} accuracy {task.fields[accuracy]} iteration {task.fields[iteration]}"
    columns = [
        Shortened(11),
        BarColumn(SHORT_BAR),
        MofNCompleteColumn(),
        TextColumn(measured, markup=False, table_column=Column(no_wrap=True)),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    ]
    with Progress(*columns, console=console) as bar:
        names = ", ".join(map(str, config.data.measured_tasks))
        task = bar.add_task(names, total=config.train.n_steps, loss="–", accuracy="–", iteration="–")
        yield TrainingBar(bar, task)
