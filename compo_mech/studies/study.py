"""What every study declares before it runs: its arms, what it expects, its primary measure and how many seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import Field, field_validator

from compo_mech.cli.command import Count
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.launch.how import How
from compo_mech.runs.config import RunConfig
from compo_mech.runs.names import well_spelled
from compo_mech.settings import changed
from compo_mech.studies.measures import Measure
from compo_mech.studies.scores import RunScorer
from compo_mech.training.loop import TrainConfig

MEASURING = {"n_test_strings": 64, "train.snapshot_every": 100}
"""How the runs of most studies are measured: a quarter of the test strings of a run by hand, twice as often."""

SHORT = MEASURING | {"data.max_length": 8, "train.n_steps": 1600}
"""Lengths 1 to 8, which parity is learnt at in about a thousand steps."""
QUICK = {"train.n_steps": 4, "train.snapshot_every": 4, "n_test_strings": 16}
N_QUICK_SEEDS = 2


def short_config(tasks: Sequence[Task], changes: Mapping[str, object] | None = None) -> RunConfig:
    """Return what most studies train: tasks at lengths 1 to 8, with position ids that start at 0, 1 or 2.

    Args:
        tasks: of the data.
        changes: other settings, by dotted name.
    """
    start = RunConfig(data=DataConfig(tasks=tuple(tasks)), train=TrainConfig(max_position_shift=2))
    return changed(start, SHORT | dict(changes or {}))


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        config: its settings; the study sets the seed.
        start: the arm whose run of the same seed its weights start from; None: random ones.
        factors: columns of the table that tell arms apart, where arms are a grid.
    """

    config: RunConfig
    start: str | None = None
    factors: Mapping[str, str | int | float] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """A question and how it is put.

    Attributes:
        name: of its folder of runs and of its table.
        question: that it answers.
        hypothesis: what is expected.
        primary: the measure that decides, which is among those that the scorer gives.
        arms: by name.
        scorer: asks each run for its scores when it is trained.
        n_seeds: 0 .. n - 1 of each arm.
        reference: the arm that the others are compared with, seed by seed, where they have the same task; None: none.
        pairs: instead of it, by arm which other one it is compared with, each of one task, which may be another's.
    """

    name: str
    question: str
    hypothesis: str
    primary: Measure
    arms: Mapping[str, Arm]
    scorer: RunScorer
    n_seeds: int = 5
    reference: str | None = None
    pairs: Mapping[str, str] = field(default_factory=dict)

    def quick(self) -> "Study":
        """The same in a minute: arms of `QUICK` steps, a step a stage, two seeds. Its figures mean nothing."""

        def short(config: RunConfig) -> RunConfig:
            stages = tuple(stage.model_copy(update={"n_steps": 1}) for stage in config.data.curriculum)
            return changed(config, QUICK | {"data.curriculum": stages})

        arms = {name: replace(arm, config=short(arm.config)) for name, arm in self.arms.items()}
        return replace(self, arms=arms, n_seeds=N_QUICK_SEEDS)


class Options(How):
    """How a study is run."""

    n_seeds: Count | None = Field(default=None, description="seeds of each arm; None: the study's number")
    out: Path | None = Field(default=None, description="the table; None: NAME.csv in runs_dir")
    quick: bool = Field(
        default=False, description="four steps and two seeds, in a folder quick of runs_dir, to see that it runs"
    )

    @field_validator("out")
    @classmethod
    def _is_well_spelled(cls, out: Path | None) -> Path | None:
        return None if out is None else well_spelled("out", out)
