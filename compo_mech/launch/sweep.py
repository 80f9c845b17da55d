"""Many runs: by processes of this machine, several at once in this process, or on Slurm; what is missing is trained.

What there is of a sweep lies in its runs' folders, and in failures/ beside them for those that failed, so that a sweep
killed at any moment goes on when the same is asked again. A run that failed is tried again then.
"""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from compo_mech.launch import run, slurm, slurm_commands
from compo_mech.launch.cost import check_cost
from compo_mech.launch.damage import damage, tell_damage
from compo_mech.launch.ensemble import launch_together
from compo_mech.launch.group_size import group_size
from compo_mech.launch.how import How
from compo_mech.launch.machine import check_machine, check_runs_dir
from compo_mech.launch.settings import Launch, check_device
from compo_mech.launch.stack_sweep import sweep_stacks
from compo_mech.launch.sweep_progress import state_of, steps_bar
from compo_mech.parallel import each
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.config import RunConfig
from compo_mech.runs.differences import differences
from compo_mech.runs.files import shown
from compo_mech.runs.locks import forget_failure, record_failure
from compo_mech.runs.names import once
from compo_mech.runs.run import Run
from compo_mech.runs.start import starting_params
from compo_mech.runs.vouched import holds

if TYPE_CHECKING:
    import pandas as pd


def sweep(runs: Mapping[str, RunConfig], how: How, console: Console, later: Sequence[RunConfig] = ()) -> "pd.DataFrame":
    """Train what is missing of the runs, saying first how long that takes.

    Args:
        runs: settings by the name of the run's folder.
        how: where they are trained.
        console: on which that is said, and the bar is shown.
        later: runs that are to be trained after these, which are counted in what it takes.

    Returns:
        A row a run in the order given: run, path, state (done, failed, unfinished), error.

    Raises:
        RunError, ValueError: before anything is trained, where there is no such device, this machine cannot hold a run
            that is left to train, runs_dir can be no folder, a folder is that of two runs or holds a run of other
            settings, a run cannot start from what it is to start from, or it takes more than an hour without `yes`.
    """
    import pandas as pd

    if shown(how.runs_dir) != str(how.runs_dir):
        raise ValueError(f"runs_dir = {shown(how.runs_dir)}: must be UTF-8, for the table names it")
    if how.on != "slurm":
        check_device(how.device)
    if how.on == "stacks":
        return sweep_stacks(runs, how, console, later)
    launches = {name: _launch(name, config, how) for name, config in runs.items()}
    if len(once(settings.path for settings in launches.values())) < len(launches):
        raise ValueError(f"runs_dir = {how.runs_dir}: has links, by which two of the runs share a folder")
    if how.on == "slurm":
        slurm_commands.check(how.slurm)
    for settings in launches.values():
        _check(settings)
    errors: Mapping[Path, str] = {}
    missing = [settings for settings in launches.values() if state_of(settings)[0] != "done"]
    before = {settings.path: damage(settings.path) for settings in launches.values()}
    if missing:
        check_runs_dir(how.runs_dir)
    if how.on != "slurm":
        for settings in missing:
            check_machine(settings)
    if missing:
        check_cost([*(settings.config for settings in missing), *later], how, console)
        try:
            how.runs_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"runs_dir = {how.runs_dir}: cannot be made a folder ({error.strerror})") from None
        with steps_bar(list(launches.values()), console):
            match how.on:
                case "here":
                    errors = _here(list(launches.values()), missing)
                case "processes":
                    errors = _by_processes(missing, how.n_workers)
                case "slurm":
                    errors = _on_slurm(missing, how)
    states = {name: _state_or_error(settings, errors.get(settings.path)) for name, settings in launches.items()}
    for path, found in before.items():
        tell_damage(found, path, console)
    rows = [(name, str(settings.path), *states[name]) for name, settings in launches.items()]
    return pd.DataFrame(rows, columns=["run", "path", "state", "error"])


def _state_or_error(settings: Launch, error: str | None) -> tuple[str, str]:
    """As `state_of`; failed, too, where the error could not be recorded."""
    state, recorded = state_of(settings)
    return ("failed", error) if error is not None and state != "done" and not recorded else (state, recorded)


def _launch(name: str, config: RunConfig, how: How) -> Launch:
    settings: dict[str, Any] = {field: getattr(config, field) for field in RunConfig.model_fields}
    return Launch(**settings, name=name, runs_dir=how.runs_dir, device=how.device)


def _check(settings: Launch) -> None:
    try:
        run = Run.open(settings.path) if holds(settings.path, "config.json") else None
    except RunError:
        return  # damaged: a failure of that run alone
    if run is None:
        starting_params(settings.config)
        return
    for name, stored, given in differences(run.config, settings.config):
        raise RunError(f"{name} = {given!r}: the run in {settings.path} has {stored!r}")


def train_one(settings: Launch) -> str | None:
    """Start the run, go on with it, or leave it alone if it is done; what goes wrong is recorded beside it, and
    returned, for on a full disk nothing can be recorded."""
    try:
        ready = _ready(settings)
        if not (ready.resume and Run.open(ready.path).is_done):
            run.launch(ready, Console(quiet=True))
        _forgotten(settings.path)
    except Exception as error:  # must not stop the others; it is recorded and reported
        return _recorded(settings.path, f"{type(error).__name__}: {error}")
    return None


def _recorded(path: Path, error: str) -> str:
    """The error, recorded if that is possible."""
    with contextlib.suppress(OSError):
        record_failure(path, error)
    return error


def _forgotten(path: Path) -> None:
    """Forget an earlier failure; where that cannot be, there can be no record of one either."""
    with contextlib.suppress(OSError):
        forget_failure(path)


def _ready(settings: Launch) -> Launch:
    """To go on with a run that has a checkpoint, and to start anew where there is nothing, or a mere beginning.

    Raises:
        RunError: what is there is no run, is damaged, or lacks the checkpoints that it had.
    """
    if not settings.path.exists():
        return settings.model_copy(update={"resume": False, "overwrite": True})
    run = Run.open(settings.path)
    begun = bool(run.steps)
    if not begun and (run.has_unlisted_work() or holds(run.path, "analysis")):
        raise RunError((run.damage() or [f"run = {run.path}: has no checkpoint that counts, but work in it"])[0])
    return settings.model_copy(update={"resume": begun, "overwrite": not begun})


def _here(launches: Sequence[Launch], missing: Sequence[Launch]) -> dict[Path, str]:
    """Train in this process; runs that differ in their seed alone at once, as many as measuring said is fastest.

    Groups are of all the runs, not of the missing ones, so that each is trained with the same others when it is asked
    again. Where a kill left some of a group done, these go along for the last steps, to the same bits.
    """
    alike: dict[str, list[Launch]] = {}
    for settings in launches:
        alike.setdefault(settings.config.model_copy(update={"seed": 0}).model_dump_json(), []).append(settings)
    errors: dict[Path, str] = {}
    for group in alike.values():
        if not any(settings in missing for settings in group):
            continue
        n = group_size(group)
        for start in range(0, len(group), n):
            some = group[start : start + n]
            left = [settings for settings in some if settings in missing]
            together = some if any(map(_is_begun, left)) else left
            errors |= _train_together(together) if n > 1 and len(together) > 1 else _one_by_one(left)
    return errors


def _is_begun(settings: Launch) -> bool:
    """Whether there is a checkpoint to go on from."""
    try:
        return bool(Run.open(settings.path).steps)
    except RunError:
        return False


def _one_by_one(some: Sequence[Launch]) -> dict[Path, str]:
    errors = {settings.path: train_one(settings) for settings in some}
    return {path: error for path, error in errors.items() if error is not None}


def _train_together(group: Sequence[Launch]) -> dict[Path, str]:
    """As `train_one`, all at once; one by one where that fails as a whole."""
    errors: dict[Path, str] = {}
    ready = []
    for settings in group:
        try:
            ready.append(_ready(settings))
        except RunError as error:
            errors[settings.path] = _recorded(settings.path, f"{type(error).__name__}: {error}")
    try:
        results = launch_together(ready, Console(quiet=True))
    except Exception:  # memory that is too small for all at once, say
        results = None
    if results is None:  # and not above, where the error still holds on to that memory
        return errors | _one_by_one(ready)
    for settings, came in zip(ready, results, strict=True):
        if isinstance(came, Exception):
            errors[settings.path] = _recorded(settings.path, f"{type(came).__name__}: {came}")
        else:
            _forgotten(settings.path)
    return errors


def _on_slurm(missing: Sequence[Launch], how: How) -> dict[Path, str]:
    """Train as jobs of an array, and wait for them, those submitted earlier included."""
    for path in slurm.submit(missing, train_one, how.runs_dir, how.slurm):
        _forgotten(path)  # tried again; what a job submitted earlier recorded is its own
    for _ in slurm.waiting(missing, how.runs_dir):
        pass
    errors: dict[Path, str] = {}
    for settings in missing:
        if state_of(settings)[0] == "unfinished":
            log = slurm.log(settings, how.runs_dir)
            what = f"its job ended before it did; {f'see {log}' if log else 'it left no log'}"
            errors[settings.path] = _recorded(settings.path, what)
    return errors


def _by_processes(missing: Sequence[Launch], n_workers: int) -> dict[Path, str]:
    """Train by a pool of processes."""
    errors: dict[Path, str] = {}
    for index, came in each(train_one, missing, n_workers):
        if isinstance(came, Exception):
            errors[missing[index].path] = _recorded(missing[index].path, str(came))
        elif came is not None:
            errors[missing[index].path] = came
    return errors
