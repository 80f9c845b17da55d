"""Where the runs of a sweep are trained, and how many at a time."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from compo_mech.cli.command import Flag
from compo_mech.launch.slurm_settings import SlurmConfig
from compo_mech.runs.names import well_spelled
from compo_mech.runs.stack import Keep
from compo_mech.settings import Settings


class How(Settings):
    """Where the runs of a sweep are trained."""

    on: Literal["here", "processes", "slurm", "stacks"] = Field(
        default="processes",
        description="in this process, many seeds at once where that is faster (rounded otherwise than one by one, so "
        "environment.json says trained_at_once); by n_workers processes of this machine; as an array of jobs; or in "
        "this process as stacks, one folder for all runs whose networks have the same shapes, for hundreds of runs and "
        "for GPUs",
    )
    runs_dir: Path = Field(default=Path("runs"), description="folder of the sweep's runs")
    n_workers: int = Field(default=2, gt=0, le=256, description="processes at a time")
    n_at_once: int = Field(default=256, gt=0, le=100_000, description="runs in a stack at most")
    keep: Keep = Field(default="every", description="of a stack: the networks of every snapshot, or the last alone")
    device: str = Field(default="cpu", description="cpu, cuda, cuda:1, mps")
    yes: Annotated[bool, Flag] = Field(
        default=False, description="go on where it takes more than an hour, which is timed and said first"
    )
    slurm: SlurmConfig = Field(default=SlurmConfig(), description="what each run asks of the cluster")

    @field_validator("runs_dir")
    @classmethod
    def _can_be_written(cls, runs_dir: Path) -> Path:
        return well_spelled("runs_dir", runs_dir)
