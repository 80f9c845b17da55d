"""Does what was learnt on one task transfer to another, which components of it, and does it survive short strings?

python experiments/transfer.py --n-workers 2

All networks know the tokens of both tasks. Whatever is not named stays frozen. The control of the frozen arms trains
the same parts on top of a random network.
"""

from collections.abc import Mapping

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Parity, Polynomial
from compo_mech.model.config import parameter_shapes
from compo_mech.runs.config import RunConfig
from compo_mech.settings import changed
from compo_mech.studies import measures, study
from compo_mech.studies.run import main
from compo_mech.studies.study import Arm, Study
from compo_mech.studies.transfer import MAX_LENGTH, SHORT_LENGTH, transfer_scores
from compo_mech.training.loop import TrainConfig

TRAINED = {
    "all": ("",),
    "last layer": ("blocks.1.", "ln_final.", "unembed."),
    "MLP 1": ("blocks.1.mlp.",),
}
"""Prefixes of what is trained on the second task."""
_TASKS = (Polynomial(), Parity())
_FIRST = RunConfig(
    data=DataConfig(tasks=_TASKS, task_weights=(1.0, 0.0), max_length=MAX_LENGTH),
    train=TrainConfig(max_position_shift=2),
)
_POLYNOMIAL = changed(_FIRST, study.SHORT | {"train.snapshot_every": 25})
_PARITY = changed(_POLYNOMIAL, {"data.task_weights": (0.0, 1.0)})
_SHORT = changed(_PARITY, {"data.max_length": SHORT_LENGTH, "model.n_ctx": _PARITY.n_ctx})


def _only(config: RunConfig, trained: tuple[str, ...]) -> RunConfig:
    """The same with everything else frozen."""
    names = parameter_shapes(config.model, len(config.data.vocabulary), config.n_ctx)
    frozen = [name for name in names if not name.startswith(trained)]
    return changed(config, {"model.freeze": tuple(frozen)})


def _arms() -> Mapping[str, Arm]:
    arms = {
        "polynomial": Arm(_POLYNOMIAL, factors={"trained": "all", "start": "random"}),
        "parity": Arm(_PARITY, factors={"trained": "all", "start": "random"}),
    }
    for name, trained in TRAINED.items():
        config = _only(_PARITY, trained)
        arms[f"parity from polynomial, {name}"] = Arm(config, "polynomial", {"trained": name, "start": "polynomial"})
        if name != "all":
            arms[f"parity, {name}"] = Arm(config, None, {"trained": name, "start": "random"})
    arms["polynomial from parity, all"] = Arm(_POLYNOMIAL, "parity", {"trained": "all", "start": "parity"})
    arms["short parity from polynomial, all"] = Arm(_SHORT, "polynomial", {"trained": "all", "start": "polynomial"})
    arms["short parity, all"] = Arm(_SHORT, None, {"trained": "all", "start": "random"})
    return arms


STUDY = Study(
    name="transfer",
    question="does what was learnt on one task transfer to another, which components, and does it survive short "
    "strings?",
    hypothesis="after the polynomial, parity is learnt in a few percent of the steps that it takes from random "
    "weights; with all but the last layer frozen it still is, with MLP 1 alone as well, and not on top of a random "
    "network; the iteration head survives training on short strings",
    primary=measures.FIRST_STEP_AT_99,
    arms=_arms(),
    scorer=transfer_scores,
    reference="parity",
)


if __name__ == "__main__":
    main(STUDY)
