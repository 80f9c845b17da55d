"""Does mixing another task in force the circuit? Which share is best, and which weights of lengths?

python experiments/mixtures.py --on stacks --device cuda
"""

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Copy, Parity, Polynomial, Task
from compo_mech.runs.config import RunConfig
from compo_mech.settings import changed
from compo_mech.studies import measures
from compo_mech.studies.run import main
from compo_mech.studies.run_scores import main_scores
from compo_mech.studies.study import SHORT, Arm, Study
from compo_mech.training.loop import TrainConfig

OTHERS: dict[str, tuple[Task, tuple[float, ...]]] = {
    "polynomial": (Polynomial(zero_inputs=True), (0.1, 0.25, 0.5, 0.75, 0.9)),
    "copy": (Copy(), (0.1, 0.25, 0.5, 0.75, 0.9)),
    "copy of other values": (Copy(first_value=2), (0.5,)),
}
"""Tasks mixed in, and their shares of the rows."""

LENGTH_WEIGHTS = {
    "in proportion to length": tuple(map(float, range(1, 9))),
    "in inverse proportion": tuple(1 / n for n in range(1, 9)),
    "the longest half": (1.0,) * 4 + (4.0,) * 4,
}


def _config(tasks: tuple[Task, ...], changes: dict[str, object]) -> RunConfig:
    data = DataConfig(tasks=tasks, max_length=8)
    return changed(RunConfig(data=data, train=TrainConfig(max_position_shift=2)), SHORT | changes)


def arms() -> dict[str, Arm]:
    """Parity alone, parity with a share of another task, and parity alone with other weights of lengths."""
    found = {"parity alone": Arm(_config((Parity(),), {}), factors={"mixed in": "nothing", "share": 0.0})}
    for name, (task, shares) in OTHERS.items():
        for share in shares:
            config = _config((Parity(), task), {"data.task_weights": (1 - share, share)})
            found[f"{share:.0%} {name}"] = Arm(config, factors={"mixed in": name, "share": share})
    for name, weights in LENGTH_WEIGHTS.items():
        config = _config((Parity(),), {"data.length_weights": weights})
        found[f"lengths {name}"] = Arm(config, factors={"mixed in": name, "share": 0.0})
    return found


STUDY = Study(
    name="mixtures",
    question="does mixing another task in force the circuit, and which share is best?",
    hypothesis="the polynomial raises the fraction of networks with a textbook head from a tenth on; copy does not; "
    "weights of lengths change how soon parity is learnt and not how",
    primary=measures.TEXTBOOK,
    arms=arms(),
    scorer=main_scores,
    n_seeds=100,
    reference="parity alone",
)


if __name__ == "__main__":
    main(STUDY)
