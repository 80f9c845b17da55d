"""Copy, then parity, and back: which components of a trained network can be kept, and which have to be trained again?

python experiments/reuse.py --on stacks --device cuda

All networks know the tokens of every task. Beside each arm that trains some components of a trained network and
freezes the others stands one that trains the same components of a random network.
"""

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Copy, Parity, Polynomial
from compo_mech.runs.config import RunConfig
from compo_mech.settings import changed
from compo_mech.studies import measures
from compo_mech.studies.run import main
from compo_mech.studies.run_scores import main_scores
from compo_mech.studies.study import SHORT, Arm, Study
from compo_mech.studies.transfer import TRAINED, only
from compo_mech.training.loop import TrainConfig

TASKS = {
    "parity": Parity(),
    "copy": Copy(),
    "polynomial": Polynomial(),
    "polynomial with zeros": Polynomial(zero_inputs=True),
}
SOURCES = {"parity": ("copy", "polynomial", "polynomial with zeros"), "copy": ("parity",)}
"""What networks were trained on before, by what they are trained on."""


def alone(task: str) -> RunConfig:
    """One task, in networks that know the tokens of all."""
    weights = tuple(float(name == task) for name in TASKS)
    data = DataConfig(tasks=tuple(TASKS.values()), task_weights=weights, max_length=8)
    return changed(RunConfig(data=data, train=TrainConfig(max_position_shift=2)), SHORT | {"train.snapshot_every": 50})


def arms() -> dict[str, Arm]:
    """Each task from random weights; then from those of another task, with everything trained or with a part alone."""
    found = {task: Arm(alone(task), None, {"trained on": task, "trained": "all", "start": "random"}) for task in TASKS}
    for task, sources in SOURCES.items():
        for trained, prefixes in TRAINED.items():
            config = only(alone(task), prefixes)
            for source in sources:
                factors: dict[str, str | int | float] = {"trained on": task, "trained": trained, "start": source}
                found[f"{task} from {source}, {trained}"] = Arm(config, source, factors)
            if trained != "all":
                found[f"{task}, {trained}"] = Arm(
                    config, None, {"trained on": task, "trained": trained, "start": "random"}
                )
    return found


STUDY = Study(
    name="reuse",
    question="which components of a network trained on one task can be kept for another?",
    hypothesis="after copy, parity is learnt with the last layer alone, and with MLP 1 alone, sooner than from random "
    "weights and not on top of a random network; after a polynomial that never has a 0 among its inputs it is not, "
    "since a frozen iteration head has never fetched a 0",
    primary=measures.FIRST_STEP_AT_99,
    arms=arms(),
    scorer=main_scores,
    n_seeds=100,
    reference="parity",
)


if __name__ == "__main__":
    main(STUDY)
