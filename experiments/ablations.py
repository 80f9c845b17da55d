"""What do batch size, optimiser, learning rate and fresh data change? Is attention sparser for any?

python experiments/ablations.py --n-workers 2
"""

from compo_mech.runs import recipes
from compo_mech.settings import changed
from compo_mech.studies import measures
from compo_mech.studies.run import main
from compo_mech.studies.run_scores import run_scores
from compo_mech.studies.study import SHORT, Arm, Study

# without weight decay Adam and AdamW are the same
OPTIMIZERS = {
    "muon": (1e-3, 3e-3, 1e-2),
    "adamw": (1e-3, 3e-3, 1e-2),
    "sgd": (0.03, 0.1, 0.3),
}
BATCH_SIZES = (16, 64, 256)

N_TRAIN_STRINGS = (None, 1024, 128, 32)
"""Of each length; None: new ones for ever."""
_BASE = changed(recipes.parity_alone(), SHORT)


def _arm(optimizer: str, lr: float, batch_size: int = 64, n_strings: int | None = None) -> Arm:
    settings = {
        "optim.optimizer": optimizer, "optim.lr": lr, "data.batch_size": batch_size, "data.n_train_strings": n_strings
    }  # fmt: skip
    factors = {name.split(".")[1]: value for name, value in settings.items()}
    return Arm(changed(_BASE, settings), factors=factors | {"n_train_strings": n_strings or 0})


STUDY = Study(
    name="ablations",
    question="what do batch size, optimiser, learning rate and fresh data change? Is attention sparser for any?",
    hypothesis="Muon learns soonest, SGD does not learn in these steps; larger rates give sparser attention; a small "
    "fixed set of strings is memorised",
    primary=measures.ACCURACY,
    arms={f"{name} {lr:g}": _arm(name, lr) for name, rates in OPTIMIZERS.items() for lr in rates}
    | {f"batch {size}": _arm("muon", 3e-3, size) for size in BATCH_SIZES if size != 64}
    | {f"{n} strings": _arm("muon", 3e-3, 64, n) for n in N_TRAIN_STRINGS if n is not None},
    scorer=run_scores,
    reference="muon 0.003",
)


if __name__ == "__main__":
    main(STUDY)
