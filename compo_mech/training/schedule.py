"""What happens at which step: the learning-rate schedule, and when snapshots are taken."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.training.optim import OptimConfig


def learning_rate(config: OptimConfig, step: int, n_steps: int) -> float:
    """The learning rate at this step (from 1) of `n_steps`: linear up, flat, linear down to 0."""
    factor = min(1.0, step / config.n_warmup_steps) if config.n_warmup_steps else 1.0
    n_decay = config.decay_share * n_steps
    if n_decay >= 1:
        factor *= min(1.0, (n_steps - step + 1) / n_decay)
    return config.lr * factor


def learning_rates(configs: Sequence[OptimConfig], step: int, n_steps: int) -> Float[Tensor, "config"]:
    """The learning rates of several at this step."""
    return torch.tensor([learning_rate(config, step, n_steps) for config in configs])


def is_snapshot(step: int, n_steps: int, snapshot_every: int) -> bool:
    """Whether the network is measured and saved at this step.

    Snapshots are taken at 0, 1, 2, 4, ... below `snapshot_every`, then evenly, and at the end.
    """
    if step < snapshot_every:
        return step & (step - 1) == 0 or step == n_steps
    return step % snapshot_every == 0 or step == n_steps
