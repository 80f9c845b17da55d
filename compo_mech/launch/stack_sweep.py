"""A sweep by stacks: the seeds of each setting are trained and measured as one, and share a folder."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress, TaskID

from compo_mech.cli.progress import counting
from compo_mech.evaluation.table import Row
from compo_mech.launch.observers import Observer
from compo_mech.launch.stack import train_stack
from compo_mech.runs.config import RunConfig
from compo_mech.runs.locks import forget_failure, record_failure
from compo_mech.runs.stack import Keep
from compo_mech.runs.vouched import RunError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Stacks:
    """How stacks are trained.

    Attributes:
        n_at_once: seeds in a stack at most.
        keep: which snapshots' networks are kept.
        device: as torch names it.
    """

    n_at_once: int
    keep: Keep
    device: str


def sweep_stacks(runs: Mapping[str, RunConfig], runs_dir: Path, how: Stacks, console: Console) -> "pd.DataFrame":
    """Train what is missing of the runs, those that differ in their seed alone as stacks.

    Args:
        runs: settings by the name of the run.
        runs_dir: the stacks' folder.
        how: they are trained.
        console: on which the bar is shown.

    Returns:
        A row a run in the order given: run, path (STACK/seedN), state (done, failed), error.

    Raises:
        ValueError: two stacks would share a folder, or runs_dir can be no folder.
    """
    import pandas as pd

    found: dict[str, tuple[Path, str]] = {}
    stacks = dict(_stacks(runs, how.n_at_once))
    try:
        runs_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"runs_dir = {runs_dir}: cannot be made a folder ({error.strerror})") from None
    with counting(console) as bar:
        task = bar.add_task("training steps", total=sum(runs[some[0]].train.n_steps for some in stacks.values()))
        n_before = 0
        for folder, names in stacks.items():
            path, config = runs_dir / folder, runs[names[0]]
            seeds = [runs[name].seed for name in names]
            errors = _trained(path, config, seeds, how, _Steps(bar, task, n_before))
            found |= {n: (path / f"seed{s}", errors.get(s, "")) for n, s in zip(names, seeds, strict=True)}
            n_before += config.train.n_steps
    rows = [
        {"run": name, "path": str(path), "state": "failed" if error else "done", "error": error}
        for name, (path, error) in ((name, found[name]) for name in runs)
    ]
    return pd.DataFrame(rows)


class _Steps:
    """Moves a bar over all stacks as one of them trains."""

    def __init__(self, bar: Progress, task: TaskID, n_before: int) -> None:
        self._bar, self._task, self._n_before = bar, task, n_before

    def seen(self, step: int, rows: Sequence[Row]) -> None:
        """Move the bar to this step."""
        self._bar.update(self._task, completed=self._n_before + step)


def _stacks(runs: Mapping[str, RunConfig], n_at_once: int) -> Iterator[tuple[str, list[str]]]:
    """The folder of each stack, and the names of its runs."""
    alike: dict[str, list[str]] = {}
    for name, config in runs.items():
        alike.setdefault(config.model_copy(update={"seed": 0}).model_dump_json(), []).append(name)
    taken = set[str]()
    for names in alike.values():
        bare = names[0].removesuffix(str(runs[names[0]].seed)).removesuffix("=").removesuffix("seed")
        folder = bare.rstrip("-,") or "runs"
        for start in range(0, len(names), n_at_once):
            some = names[start : start + n_at_once]
            first, last = runs[some[0]].seed, runs[some[-1]].seed
            whole = f"{folder}-seeds{first}-{last}"
            if whole in taken:
                raise ValueError(f"runs = {whole}: is the folder of two stacks")
            taken.add(whole)
            yield whole, some


def _trained(path: Path, config: RunConfig, seeds: Sequence[int], how: Stacks, bar: Observer) -> Mapping[int, str]:
    """Train a stack; what went wrong with each seed, for a failure is recorded and must not stop the others."""
    try:
        stack = train_stack(path, config, seeds, how.device, bar, how.keep)
        diverged = stack.diverged()
        forget_failure(path)
    except (RunError, OSError, RuntimeError) as error:  # memory that is too small, say
        message = f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):
            record_failure(path, message)
        return dict.fromkeys(seeds, message)
    return {seed: f"Diverged: training diverged by step {step}" for seed, step in diverged.items()}
