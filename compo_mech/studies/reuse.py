"""Networks trained on one task and then on another, with everything trained or a part alone, as arms of a study."""

from collections.abc import Mapping

from compo_mech.data.tasks import Copy, Parity, Polynomial
from compo_mech.runs.config import RunConfig
from compo_mech.studies.study import Arm, short_config
from compo_mech.studies.transfer import TRAINED, only

TASKS = {
    "parity": Parity(),
    "copy": Copy(),
    "polynomial": Polynomial(),
    "polynomial with zeros": Polynomial(zero_inputs=True),
}
SOURCES = {"parity": ("copy", "polynomial", "polynomial with zeros"), "copy": ("parity",)}
"""What networks were trained on before, by what they are trained on."""


def reuse_arms() -> Mapping[str, Arm]:
    """Return each task from random weights, then from those of another task, with everything trained or a part alone.

    All networks know the tokens of every task. Each arm that trains a part of a trained network has one beside it that
    trains the same part of a random network.
    """
    arms = {task: Arm(_alone(task), None, _factors(task, "all", "random")) for task in TASKS}
    for task, sources in SOURCES.items():
        for trained, prefixes in TRAINED.items():
            config = only(_alone(task), prefixes)
            for source in sources:
                arms[f"{task} from {source}, {trained}"] = Arm(config, source, _factors(task, trained, source))
            if trained != "all":
                arms[f"{task}, {trained}"] = Arm(config, None, _factors(task, trained, "random"))
    return arms


def _alone(task: str) -> RunConfig:
    weights = tuple(float(name == task) for name in TASKS)
    return short_config(list(TASKS.values()), {"data.task_weights": weights, "train.snapshot_every": 50})


def _factors(task: str, trained: str, start: str) -> dict[str, str | int | float]:
    return {"trained on": task, "trained": trained, "start": start}
