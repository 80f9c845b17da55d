"""What happens at which step: the learning-rate schedule, and when snapshots are taken."""

from compo_mech.training.optim import OptimConfig


def learning_rate(config: OptimConfig, step: int, n_steps: int) -> float:
    """The learning rate at this step (from 1) of `n_steps`: linear up, flat, linear down to 0."""
    factor = min(1.0, step / config.n_warmup_steps) if config.n_warmup_steps else 1.0
    n_decay = config.decay_share * n_steps
    if n_decay >= 1:
        factor *= min(1.0, (n_steps - step + 1) / n_decay)
    return config.lr * factor


def is_snapshot(step: int, n_steps: int, snapshot_every: int) -> bool:
    """Whether the network is measured and saved at this step.

    Snapshots are taken at 0, 1, 2, 4, ... below `snapshot_every`, then evenly, and at the end.
    """
    if step < snapshot_every:
        return step & (step - 1) == 0 or step == n_steps
    return step % snapshot_every == 0 or step == n_steps
