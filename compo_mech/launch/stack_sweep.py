"""A sweep by stacks: runs that can be trained and measured as one share a folder."""

import contextlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from compo_mech.cli.output import warn
from compo_mech.cli.progress import counting
from compo_mech.launch.cost import check_cost
from compo_mech.launch.damage import damage, tell_damage
from compo_mech.launch.how import How
from compo_mech.launch.machine import check_runs_dir
from compo_mech.launch.stack import Tell, train_stack
from compo_mech.launch.stack_groups import stack_groups
from compo_mech.runs.config import RunConfig
from compo_mech.runs.locks import forget_failure, record_failure
from compo_mech.runs.stack import Stack, is_stack
from compo_mech.runs.vouched import RunError

if TYPE_CHECKING:
    import pandas as pd


def sweep_stacks(
    runs: Mapping[str, RunConfig], how: How, console: Console, later: Sequence[RunConfig] = ()
) -> "pd.DataFrame":
    """Train what is missing of the runs, as stacks of those that can share one.

    Args:
        runs: settings by the name of the run.
        how: where the stacks' folders go, and how they are trained.
        console: on which the bar is shown.
        later: as of `sweep`.

    Returns:
        A row a run in the order given: run, path (STACK/NAME), state (done, failed), error.

    Raises:
        ValueError: two stacks would share a folder, runs_dir can be no folder, or it takes more than an hour without
            `yes`.
    """
    import pandas as pd

    found: dict[str, tuple[Path, str]] = {}
    groups = stack_groups(runs, how.n_at_once, how.runs_dir, partial(warn, console))
    left = [group for group in groups if _is_left(how.runs_dir / group.folder)]
    if left:
        check_runs_dir(how.runs_dir)
        check_cost([*(config for group in left for config in group.members.values()), *later], how, console)
    try:
        how.runs_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"runs_dir = {how.runs_dir}: cannot be made a folder ({error.strerror})") from None
    n_steps = [next(iter(group.members.values())).train.n_steps for group in groups]
    with counting(console) as bar:
        task = bar.add_task("training steps", total=sum(n_steps))
        n_before = 0

        def trained(step: int) -> None:
            bar.update(task, completed=n_before + step)

        for group, n in zip(groups, n_steps, strict=True):
            path = how.runs_dir / group.folder
            before = damage(path)
            errors = _trained(path, group.members, how, trained)
            found |= {name: (path / own, errors.get(own, "")) for own, name in group.asked.items()}
            n_before += n
            tell_damage(before, path, console)
    rows = [
        {"run": name, "path": str(path), "state": "failed" if error else "done", "error": error}
        for name, (path, error) in ((name, found[name]) for name in runs)
    ]
    return pd.DataFrame(rows)


def _is_left(path: Path) -> bool:
    """Whether there is something to train: not where a stack came to its end, or cannot be read."""
    try:
        return not is_stack(path) or not Stack.open(path).is_done
    except RunError:
        return False


def _trained(path: Path, members: Mapping[str, RunConfig], how: How, tell: Tell) -> Mapping[str, str]:
    """Train a stack and return what went wrong, by run: a failure is recorded, and must not stop the others.

    So is what is damaged of a stack that came to its end: its last networks or anything measured.
    """
    try:
        stack = train_stack(path, members, how.device, tell, how.keep)
        stack.params()
        diverged = stack.diverged()
        forget_failure(path)
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):
            record_failure(path, message)
        return dict.fromkeys(members, message)
    return {name: f"Diverged: training diverged by step {step}" for name, step in diverged.items()}
