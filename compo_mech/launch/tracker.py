"""Weights & Biases, if asked for."""

import contextlib
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compo_mech.evaluation.table import Row
from compo_mech.launch.settings import Launch
from compo_mech.runs.checkpoints import RunError

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


def check_tracking(mode: str) -> None:
    """Before there is a folder: whether the run can be tracked in this mode, if it is to be.

    Raises:
        RunError: the package is missing, or nobody is logged in.
    """
    if mode == "disabled":
        return
    if importlib.util.find_spec("wandb") is None:
        raise RunError(f"wandb = {mode!r}: needs the package wandb, which pip install wandb installs")
    import wandb

    if mode == "online" and not wandb.api.api_key:
        raise RunError(f"wandb = {mode!r}: must be offline, or somebody must be logged in (wandb login)")


def tracked_as(path: Path) -> str | None:
    """The id under which the run in this folder was last tracked, which its library's folder is named by."""
    folders = sorted(path.glob("wandb/*run-*-*"), key=lambda folder: folder.name.split("run-", 1)[1])
    return folders[-1].name.rsplit("-", 1)[1] if folders else None


@contextlib.contextmanager
def tracker(settings: Launch) -> Iterator[Tracker]:
    """Begins a run of Weights & Biases, or goes on with the one that a resumed run has, and ends it where training came
    to its end.

    Raises:
        RunError: it cannot be begun.
    """
    import wandb

    config = settings.config.model_dump(mode="json")
    known = tracked_as(settings.path) if settings.resume else None
    try:
        run = wandb.init(
            project="compo_mech",
            name=settings.path.name,
            dir=settings.path,
            mode=settings.wandb,
            config=config,
            id=known,
            resume="allow" if known else None,
        )
    except wandb.Error as error:
        raise RunError(f"wandb = {settings.wandb!r}: cannot begin ({error})") from None
    yield Tracker(run)
    run.finish()
