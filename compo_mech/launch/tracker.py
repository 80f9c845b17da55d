"""Weights & Biases, if asked for."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from compo_mech.evaluation.table import Row
from compo_mech.launch.settings import Launch


@contextlib.contextmanager
def tracker(settings: Launch) -> Iterator[Any]:
    """Weights & Biases, if asked for: every row under task/length/head/metric."""
    if settings.wandb == "disabled":
        yield lambda step, rows: None
        return
    import wandb

    config = settings.config.model_dump(mode="json")
    tracked = wandb.init(
        project="compo_mech", name=settings.path.name, dir=settings.path, mode=settings.wandb, config=config
    )

    def track(step: int, rows: Sequence[Row]) -> None:
        named = {}
        for r in rows:
            head = None if r.head is None else f"L{r.layer}H{r.head}"
            length = None if r.length is None else f"length{r.length}"
            named["/".join(part for part in (r.split, r.task, length, head, r.metric) if part)] = r.value
        tracked.log(named, step=step)

    yield track
    tracked.finish()
