"""What a person sees while a network is trained."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from compo_mech import evaluate
from compo_mech.config import RunConfig
from compo_mech.evaluate import Row


@contextlib.contextmanager
def progress(console: Console, config: RunConfig) -> Iterator[Any]:
    """A bar with the (lowest) training loss, the lowest accuracy over lengths and the best iteration score."""
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}  accuracy {task.fields[accuracy]}  iteration {task.fields[iteration]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=console) as bar:
        names = ", ".join(map(str, config.data.measured_tasks))
        task = bar.add_task(names, total=config.train.n_steps, loss="–", accuracy="–", iteration="–")

        def show(step: int, rows: Sequence[Row]) -> None:
            measured = [row for row in rows if row.split != evaluate.CONTROL]
            fields = {}
            for name, split, metric, best in (
                ("loss", "train", "loss", min),
                ("accuracy", None, "generated_accuracy", min),
                ("iteration", "mean", "iteration", max),
            ):
                values = [r.value for r in measured if r.metric == metric and split in (None, r.split)]
                if values:
                    fields[name] = f"{best(values):.3f}"
            bar.update(task, completed=step, **fields)

        yield show
