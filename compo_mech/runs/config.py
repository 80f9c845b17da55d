"""RunConfig: all settings that decide a run's numbers, with the configs of data, model, training and optimiser
nested."""

import math
from pathlib import Path

from pydantic import Field, model_validator

from compo_mech.data.config import DataConfig
from compo_mech.data.shifts import Shifts
from compo_mech.model.config import ModelConfig, is_frozen, parameter_shapes
from compo_mech.runs.sizes import check_settings
from compo_mech.settings import Settings
from compo_mech.training.loop import TrainConfig
from compo_mech.training.optim import OptimConfig

MAX_PARAMS = 2**28
"""A gigabyte in single precision: far beyond what these tasks ask for, and short of what fills a laptop."""
CONTROL_SEED_OFFSET = 1_000_003


class RunConfig(Settings):
    """A run. The same settings on the same machine give the same bits."""

    data: DataConfig = Field(default=DataConfig(), description="tasks, lengths and batches")
    model: ModelConfig = Field(default=ModelConfig(), description="the network")
    optim: OptimConfig = Field(default=OptimConfig(), description="the optimiser")
    train: TrainConfig = Field(default=TrainConfig(), description="the loop")
    n_test_strings: int = Field(default=256, gt=0, le=10**12, description="test strings for each task and length")
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="seed of the weights, the data and the noise")
    start_from: Path | None = Field(
        default=None, description="run whose last checkpoint the weights start from; None: random ones"
    )
    n_threads: int = Field(
        default=1, gt=0, le=1024, description="CPU threads; one is usually fastest for networks this small"
    )

    @property
    def control_seed(self) -> int:
        """Seed of the randomly initialised control."""
        return (self.seed + CONTROL_SEED_OFFSET) % 2**63

    @property
    def shifts(self) -> Shifts:
        """The shifts of position ids that training draws, and so analyses: none where ids have no embedding."""
        return Shifts(self.train.max_position_shift if self.model.positional_embedding == "standard" else 0)

    @property
    def n_ctx(self) -> int:
        """Positions of the model: as set, or as many as the longest row and its shift need."""
        return self.model.n_ctx or self._n_ctx_needed

    @property
    def n_params(self) -> int:
        """Parameters of the model."""
        return sum(map(math.prod, self._shapes.values()))

    @property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return parameter_shapes(self.model, len(self.data.vocabulary), self.n_ctx)

    @property
    def _n_ctx_needed(self) -> int:
        return self.data.layout.n_tokens(self.data.max_length) + self.train.max_position_shift

    @model_validator(mode="after")
    def _consistent(self) -> "RunConfig":
        if self.model.attention_dir != "causal":
            raise ValueError(
                f"model.attention_dir = {self.model.attention_dir}: must be causal, since rows predict the next token"
            )
        if self.n_ctx < self._n_ctx_needed:
            raise ValueError(
                f"data.max_length = {self.data.max_length}: needs model.n_ctx of at least "
                f"{self._n_ctx_needed}, which is {self.n_ctx}"
            )
        shapes = self._shapes
        n_params = sum(map(math.prod, shapes.values()))
        if n_params > MAX_PARAMS:
            raise ValueError(f"model = {n_params} parameters: must be at most {MAX_PARAMS}")
        check_settings(self.data, self.model, self.train, self.n_test_strings, n_params)
        if never := set(self.data.drawn_lengths) - self.data.lengths_within(self.train.n_steps):
            raise ValueError(
                f"data.curriculum = {' '.join(map(str, self.data.curriculum))}: must end early enough for length "
                f"{min(never)} to be drawn in train.n_steps = {self.train.n_steps}"
            )
        if all(is_frozen(self.model, name) for name in shapes):
            raise ValueError(f"model.freeze = {' '.join(self.model.freeze)}: leaves nothing to train")
        return self
