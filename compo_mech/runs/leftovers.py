"""Checkpoints that no list holds, though training wrote them: what a killed process left, or what was gone back from.

Whatever else is not in the list is not known to be the project's, whatever its name.
"""

from pathlib import Path

from compo_mech.runs.stored import stored_config
from compo_mech.runs.sums import Sums
from compo_mech.runs.vouched import CHECKPOINT, RunError, Vouched, steps_of
from compo_mech.training.schedule import is_snapshot

N_RESUMABLE = 2
"""How many checkpoints, the newest, training can be resumed from."""


def is_resume(name: str) -> bool:
    """Tell whether this is the name of what training resumes from."""
    match = CHECKPOINT.fullmatch(name)
    return match is not None and match[2] is not None


def step_of(name: str) -> int:
    """Return the step that a file of a checkpoint is of."""
    return int(name.split(".")[0])


def was_dropped(name: str, sums: Sums) -> bool:
    """Tell whether `save` dropped this file from the list and was killed before it removed it: what training would
    have resumed from at the checkpoint before the oldest of those from which it does."""
    resumes = sorted(map(step_of, filter(is_resume, sums.known)))
    if not is_resume(name) or name in sums.known or len(resumes) < N_RESUMABLE:
        return False
    return step_of(name) == max((step for step in steps_of(sums) if step < resumes[-N_RESUMABLE]), default=None)


def is_of_training(name: str, folder: Path, sums: Sums) -> bool:
    """Tell whether training wrote this file among the checkpoints of the run in a folder.

    Either the list holds it, or it was dropped from there, or it is of a step of the schedule to which the list has not
    come: training, when it goes on, replaces those.
    """
    if CHECKPOINT.fullmatch(name) is None or not sums.is_there or sums.problem is not None:
        return False
    if name in sums.known or was_dropped(name, sums):
        return True
    if step_of(name) <= max(steps_of(sums), default=-1):
        return False
    try:
        train = stored_config(Vouched(folder)).train
    except RunError:
        return False
    return step_of(name) <= train.n_steps and is_snapshot(step_of(name), train.n_steps, train.snapshot_every)
