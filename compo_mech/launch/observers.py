"""Observers of a run as it trains: the progress bar and, if asked for, Weights & Biases."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from rich.console import Console

from compo_mech.cli.progress import training_bar
from compo_mech.evaluation.table import Row
from compo_mech.launch.settings import Launch
from compo_mech.launch.tracker import tracker


@runtime_checkable
class Observer(Protocol):
    """Receives the rows of a run as it trains."""

    def seen(self, step: int, rows: Sequence[Row]) -> None:
        """Called where training starts, with no rows, and then at every step that has some."""
        ...


@contextlib.contextmanager
def observers(settings: Launch, console: Console) -> Iterator[list[Observer]]:
    """The observers of a run that is about to train."""
    with training_bar(console, settings.config) as bar:
        if settings.wandb == "disabled":
            yield [bar]
            return
        with tracker(settings) as tracked:
            yield [bar, tracked]


def tell(observers: Sequence[Observer], step: int, rows: Sequence[Row]) -> None:
    """Tells all of them."""
    for observer in observers:
        observer.seen(step, rows)
