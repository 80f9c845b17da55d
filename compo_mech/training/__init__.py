"""Optimisers, schedules and the training loop, for one network or for many at once."""

from compo_mech.training.optim import OptimConfig, Muon, orthogonalized, is_matrix, make_optimizers
from compo_mech.training.schedule import learning_rate, is_snapshot
from compo_mech.training.loop import (
    TrainConfig,
    TrainState,
    Trainable,
    start,
    train,
    train_step,
    batch_loss,
    row_loss,
    Noise,
    draw_noise,
    optimizer_tensors,
    load_optimizer_tensors,
)
from compo_mech.training.ensemble import Ensemble, gather
from compo_mech.training.learning_coefficient import SamplerConfig, LearningCoefficient, learning_coefficient, sample

__all__ = [
    "OptimConfig",
    "Muon",
    "orthogonalized",
    "is_matrix",
    "make_optimizers",
    "learning_rate",
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
