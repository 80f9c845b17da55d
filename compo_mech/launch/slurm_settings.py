"""The resources that each run requests from a Slurm cluster, and errors of Slurm."""

import re

from pydantic import Field, model_validator

from compo_mech.runs.checkpoints import RunError
from compo_mech.settings import Settings

EARLY_S = 60
"""Seconds by which Slurm may warn a job earlier than requested."""


class SlurmError(RunError):
    """What Slurm refused or failed to do, in one line."""


class SlurmConfig(Settings):
    """The resources that each run requests."""

    partition: str | None = Field(default=None, description="where jobs run; None: the cluster's default")
    account: str | None = Field(default=None, description="who pays; None: the user's default")
    qos: str | None = Field(default=None, description="quality of service; None: the default")
    timeout_min: int = Field(
        default=60,
        gt=0,
        description="time limit of a job in minutes; a run that reaches it is queued again and goes on",
    )
    n_cpus: int = Field(default=1, gt=0, description="cores of a run, at least its n_threads")
    mem_gb: float = Field(default=4, gt=0, description="memory of a run in GB")
    n_gpus: int = Field(default=0, ge=0, description="GPUs of a run")
    n_at_once: int = Field(default=64, gt=0, description="runs at the same time, at most")
    signal_delay_s: int = Field(
        default=90, gt=0, description="seconds before the time limit at which a run is stopped and queued again"
    )

    @model_validator(mode="after")
    def _words(self) -> "SlurmConfig":
        for name in ("partition", "account", "qos"):  # of the job's script, in which anything else may be one more line
            value = getattr(self, name)
            if value is not None and re.fullmatch(r"[\w.,@+=:/-]+", value, re.ASCII) is None:
                raise ValueError(f"{name} = {value!r}: must be one word of letters, digits and .,@+=:/_-")
        return self

    @model_validator(mode="after")
    def _warned_in_time(self) -> "SlurmConfig":
        if 60 * self.timeout_min <= self.signal_delay_s + EARLY_S:
            raise ValueError(
                f"timeout_min = {self.timeout_min}: must be more than signal_delay_s = {self.signal_delay_s} and the "
                f"{EARLY_S} s by which Slurm may be early"
            )
        return self
