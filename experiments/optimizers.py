"""Optimiser, learning rate and batch size as a grid, and label noise: what is learnt, and how sparse is it?

python experiments/optimizers.py --n-workers 2

All runs see as many strings, so that small batches have more steps, of which times to an event are counted; warm-up and
snapshots are at the same fractions of training.
"""

from compo_mech.data.tasks import Parity
from compo_mech.studies import measures
from compo_mech.studies.run import main
from compo_mech.studies.sparsity import effects, sparsity_scores
from compo_mech.studies.study import Arm, Study, short_config

# without weight decay Adam and AdamW are the same
RATES = {"muon": (1e-3, 3e-3, 1e-2), "adamw": (3e-4, 1e-3, 3e-3), "sgd": (0.01, 0.03, 0.1)}
BATCH_SIZES = (16, 64, 256)
NOISES = (0.05, 0.2)
"""Shares of scored tokens whose label is drawn at random."""
NOISY = {"muon": 3e-3, "adamw": 1e-3, "sgd": 0.03}
"""Optimisers that are tried with noise, and their rates; batches of 64."""
N_STRINGS, N_SNAPSHOTS = 1600 * 64, 16


def _arm(optimizer: str, lr: float, batch_size: int, noise: float = 0.0) -> Arm:
    n_steps = N_STRINGS // batch_size
    settings = {
        "optim.optimizer": optimizer, "optim.lr": lr, "data.batch_size": batch_size, "train.label_noise": noise,
        "train.n_steps": n_steps, "train.snapshot_every": n_steps // N_SNAPSHOTS, "optim.n_warmup_steps": n_steps // 32,
    }  # fmt: skip
    factors = {"optimizer": optimizer, "lr": lr, "batch_size": batch_size, "label_noise": noise}
    return Arm(short_config([Parity()], settings), factors=factors)


STUDY = Study(
    name="optimizers",
    question="optimiser, learning rate, batch size and label noise: what is learnt, and how sparse is it?",
    hypothesis="at equal loss SGD with larger steps, smaller batches or noise has sparser attention and fewer neurons, "
    "but its heads are no cleaner; Muon's heads are the cleanest at its best rate, whatever the batch",
    primary=measures.ITERATION,
    arms={
        f"{name} {lr:g}, batch {size}": _arm(name, lr, size)
        for name, rates in RATES.items()
        for lr in rates
        for size in BATCH_SIZES
    }
    | {f"{name} {lr:g}, noise {noise:g}": _arm(name, lr, 64, noise) for name, lr in NOISY.items() for noise in NOISES},
    scorer=sparsity_scores,
    n_seeds=20,
    reference="muon 0.003, batch 64",
)


if __name__ == "__main__":
    main(STUDY, {"What larger rates, smaller batches and label noise change": effects})
