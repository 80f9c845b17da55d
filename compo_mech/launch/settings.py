"""A run's settings, and where and how it runs."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from pydantic import Field, field_validator

from compo_mech.cli.errors import fail
from compo_mech.cli.settings import read
from compo_mech.data.config import DataConfig
from compo_mech.runs.config import RunConfig
from compo_mech.runs.names import folder_problem, well_spelled


class Launch(RunConfig):
    """A run's settings, and where and how it runs."""

    name: str | None = Field(default=None, description="folder of the run; None: task-seedN")
    runs_dir: Path = Field(default=Path("runs"), description="folder of all runs")
    device: str = Field(default="cpu", description="cpu, cuda, cuda:1, mps")
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = Field(
        default=False, description="go on from the last checkpoint"
    )
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = Field(
        default=False, description="replace the run of this name"
    )
    wandb: Literal["disabled", "offline", "online"] = Field(
        default="disabled", description="also track with Weights & Biases (metrics.csv is always written)"
    )

    @field_validator("name")
    @classmethod
    def _one_folder(cls, name: str | None) -> str | None:
        if name is not None and (problem := folder_problem(name)) is not None:
            raise ValueError(f"name = {name!r}: {problem}")
        return name

    @field_validator("runs_dir")
    @classmethod
    def _can_be_written(cls, runs_dir: Path) -> Path:
        return well_spelled("runs_dir", runs_dir)

    @property
    def config(self) -> RunConfig:
        """The part that decides the run's numbers."""
        return RunConfig(**{name: getattr(self, name) for name in RunConfig.model_fields})

    @property
    def path(self) -> Path:
        tasks = "+".join(task.name for task in self.data.measured_tasks)
        return self.runs_dir / (self.name or f"{tasks}-seed{self.seed}")


def parse(
    default: RunConfig, argv: Sequence[str] | None = None, description: str | None = None, prog: str | None = None
) -> Launch:
    """The settings that the command line asks for. Exits with code 2 and one line on bad input.

    Args:
        default: settings that the command line does not name.
        argv: None: the process' arguments.
        description: what the command does, for --help; None: that it trains.
        prog: what the command is called; None: the script's name.
    """
    start = Launch(**{name: getattr(default, name) for name in RunConfig.model_fields})
    settings = _read(start, argv, description or "Train a transformer on an iterative task.", prog)
    try:
        check_device(settings.device)
    except ValueError as error:
        fail(str(error))
    if settings.resume and settings.overwrite:
        fail("resume = True: goes without overwrite")
    return settings


def _read(start: Launch, argv: Sequence[str] | None, description: str, prog: str | None) -> Launch:
    """The settings asked for. Those of the start that belong to its tasks do not outlive them; a line says which."""
    words = sys.argv[1:] if argv is None else argv
    if not any(word.partition("=")[0] == "--data.tasks" for word in words):
        return read(start, argv, description, prog)
    freed = start.model_copy(update={"data": start.data.without_tasks()})
    settings = read(freed, argv, description, prog)
    if settings.data.tasks == start.data.tasks:
        return read(start, argv, description, prog)
    if told := dropped(start.data, settings.data):
        print(told, file=sys.stderr)
    return settings


def dropped(before: DataConfig, after: DataConfig) -> str | None:
    """A line that says which settings were dropped with the tasks that they belonged to; None: none was."""
    bare = before.without_tasks()
    belonged = [name for name in DataConfig.model_fields if getattr(before, name) != getattr(bare, name)]
    lost = [name for name in belonged if getattr(after, name) == getattr(bare, name)]
    if before.tasks == after.tasks or not lost:
        return None
    tasks, own = (" ".join(map(str, data.tasks)) for data in (after, before))
    return f"data.tasks = {tasks}: drops the {' and the '.join(lost)} of {own}"


def check_device(name: str) -> None:
    """Whether this device is there.

    Raises:
        ValueError: it is not.
    """
    present = ["cpu"]
    if torch.cuda.is_available():
        present += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        present.append("mps")
    if name not in present:
        raise ValueError(f"device = {name!r}: must be one of {', '.join(present)} on this machine")
