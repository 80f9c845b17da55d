"""One job of an array of runs on Slurm."""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import compo_mech
from compo_mech.launch.settings import Launch
from compo_mech.launch.slurm_settings import EARLY_S, SlurmConfig, SlurmError
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.run import Run

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission


class Job:
    """What a job calls. Pickled when it is submitted, and again whenever it is stopped to be queued again."""

    def __init__(self, train: Callable[[Launch], object], code: Path, config: SlurmConfig) -> None:
        self.train, self.code, self.config = train, code, config
        self.command = list(sys.argv)
        self.begun, self.step = math.inf, -1

    def __call__(self, launch: Launch) -> None:
        loaded = Path(compo_mech.__file__)
        if not loaded.is_relative_to(self.code):
            raise SlurmError(f"code = {loaded.parent}: must be that of the submission, in {self.code}")
        sys.argv[:] = self.command  # what the user typed, which the run's folder tells
        self.begun, self.step = time.monotonic(), _last_step(launch)
        self.train(launch)

    def checkpoint(self, launch: Launch) -> "DelayedSubmission":
        """What submitit is to queue again when the job is warned of its time limit, or has to make room.

        The run's folder is its state, so nothing is saved here.

        Raises:
            RunError: a whole time limit brought no checkpoint, so another would not either.
        """
        from submitit.helpers import DelayedSubmission

        limit = 60 * self.config.timeout_min
        warned = time.monotonic() - self.begun > limit - self.config.signal_delay_s - 2 * EARLY_S
        if warned and _last_step(launch) == self.step:
            raise RunError(
                f"timeout_min = {self.config.timeout_min}: {launch.path} has no checkpoint after step {self.step} by "
                "then; give it more time, or more snapshots"
            )
        return DelayedSubmission(self, launch)


def _last_step(launch: Launch) -> int:
    try:
        return max(Run.open(launch.path).steps, default=-1)
    except RunError:  # not begun
        return -1
