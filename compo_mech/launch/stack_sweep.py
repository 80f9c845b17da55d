"""A sweep by stacks: the seeds of each setting are trained and measured as one, and share a folder."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from compo_mech.cli.progress import counting
from compo_mech.launch.how import How
from compo_mech.launch.stack import Tell, train_stack
from compo_mech.runs.config import RunConfig
from compo_mech.runs.locks import forget_failure, record_failure

if TYPE_CHECKING:
    import pandas as pd


def sweep_stacks(runs: Mapping[str, RunConfig], how: How, console: Console) -> "pd.DataFrame":
    """Train what is missing of the runs, those that differ in their seed alone as stacks.

    Args:
        runs: settings by the name of the run.
        how: where the stacks' folders go, and how they are trained.
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
        how.runs_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"runs_dir = {how.runs_dir}: cannot be made a folder ({error.strerror})") from None
    with counting(console) as bar:
        task = bar.add_task("training steps", total=sum(runs[some[0]].train.n_steps for some in stacks.values()))
        n_before = 0

        def trained(step: int) -> None:
            bar.update(task, completed=n_before + step)

        for folder, names in stacks.items():
            path, config = how.runs_dir / folder, runs[names[0]]
            seeds = [runs[name].seed for name in names]
            errors = _trained(path, config, seeds, how, trained)
            found |= {n: (path / f"seed{s}", errors.get(s, "")) for n, s in zip(names, seeds, strict=True)}
            n_before += config.train.n_steps
    rows = [
        {"run": name, "path": str(path), "state": "failed" if error else "done", "error": error}
        for name, (path, error) in ((name, found[name]) for name in runs)
    ]
    return pd.DataFrame(rows)


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


def _trained(path: Path, config: RunConfig, seeds: Sequence[int], how: How, tell: Tell) -> Mapping[int, str]:
    """Train a stack and return what went wrong, by seed: a failure is recorded, and must not stop the others."""
    try:
        stack = train_stack(path, config, seeds, how.device, tell, how.keep)
        diverged = stack.diverged()
        forget_failure(path)
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):
            record_failure(path, message)
        return dict.fromkeys(seeds, message)
    return {seed: f"Diverged: training diverged by step {step}" for seed, step in diverged.items()}
