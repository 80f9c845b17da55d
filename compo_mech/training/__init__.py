"""Optimisers, schedules and the training loop, for one network or for many at once."""

from compo_mech.training.optim import (
    OptimConfig,
    Muon,
    orthogonalized,
    is_matrix,
    make_optimizers,
    step_each,
    optimizer_tensors,
    load_optimizer_tensors,
)
from compo_mech.training.schedule import learning_rate, learning_rates, is_snapshot
from compo_mech.training.captured import Noise, Drawn
from compo_mech.training.loop import (
    TrainConfig,
    TrainState,
    Trainable,
    start,
    train,
    train_step,
    batch_loss,
    row_loss,
    draw_noise,
)
from compo_mech.training.ensemble import Ensemble, gather
from compo_mech.training.learning_coefficient import SamplerConfig, LearningCoefficient, learning_coefficient, sample

__all__ = [
    "OptimConfig",
    "Muon",
    "orthogonalized",
    "is_matrix",
    "make_optimizers",
    "step_each",
    "learning_rate",
    "learning_rates",
    "is_snapshot",
    "TrainConfig",
    "TrainState",
    "Trainable",
    "start",
    "train",
    "train_step",
    "batch_loss",
    "row_loss",
    "Noise",
    "Drawn",
    "draw_noise",
    "optimizer_tensors",
    "load_optimizer_tensors",
    "Ensemble",
    "gather",
    "SamplerConfig",
    "LearningCoefficient",
    "learning_coefficient",
    "sample",
]
