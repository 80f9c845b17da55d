"""Weights & Biases, if asked for."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from compo_mech.evaluation.table import Row
from compo_mech.launch.settings import Launch

if TYPE_CHECKING:
    import wandb


class Tracker:
    """Logs every row under task/length/head/metric.

    Args:
        run: of Weights & Biases, begun.
    """

    def __init__(self, run: "wandb.Run") -> None:
        self._run = run

    def seen(self, step: int, rows: Sequence[Row]) -> None:
        """Logs the rows, if there are any."""
        named = {}
        for r in rows:
            head = None if r.head is None else f"L{r.layer}H{r.head}"
            length = None if r.length is None else f"length{r.length}"
            named["/".join(part for part in (r.split, r.task, length, head, r.metric) if part)] = r.value
        if named:
            self._run.log(named, step=step)


@contextlib.contextmanager
def tracker(settings: Launch) -> Iterator[Tracker]:
    """Begins a run of Weights & Biases, and ends it where training came to its end."""
    import wandb

    config = settings.config.model_dump(mode="json")
    run = wandb.init(
        project="compo_mech", name=settings.path.name, dir=settings.path, mode=settings.wandb, config=config
    )
    yield Tracker(run)
    run.finish()
