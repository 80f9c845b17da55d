"""Question 2: does what was learnt on one task serve another, which parts of it, and does it survive short strings?

All networks know the tokens of both tasks. Whatever is not named stays frozen. `from fresh` is the control of the
frozen arms: the same parts trained on top of a random network.
"""

from collections.abc import Mapping

import torch

from compo_mech import evaluate
from compo_mech.config import RunConfig
from compo_mech.data import DataConfig
from compo_mech.model import parameter_shapes
from compo_mech.runs import Run
from compo_mech.settings import changed
from compo_mech.studies import study
from compo_mech.studies.measures import outcome
from compo_mech.studies.study import Arm, Study
from compo_mech.tasks import Parity, Polynomial
from compo_mech.train import TrainConfig

MAX_LENGTH, SHORT = 8, 4
N_STRINGS = 64
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
_SHORT = changed(_PARITY, {"data.max_length": SHORT, "model.n_ctx": _PARITY.n_ctx})


def _only(config: RunConfig, trained: tuple[str, ...]) -> RunConfig:
    """The same with everything else frozen."""
    names = parameter_shapes(config.model, len(config.data.vocabulary), config.n_ctx)
    frozen = [name for name in names if not name.startswith(trained)]
    return changed(config, {"model.freeze": tuple(frozen)})


def _arms() -> Mapping[str, Arm]:
    arms = {
        "polynomial": Arm(_POLYNOMIAL, factors={"trained": "all", "start": "fresh"}),
        "parity": Arm(_PARITY, factors={"trained": "all", "start": "fresh"}),
    }
    for name, trained in TRAINED.items():
        config = _only(_PARITY, trained)
        arms[f"parity from polynomial, {name}"] = Arm(config, "polynomial", {"trained": name, "start": "polynomial"})
        if name != "all":
            arms[f"parity, {name}"] = Arm(config, None, {"trained": name, "start": "fresh"})
    arms["polynomial from parity, all"] = Arm(_POLYNOMIAL, "parity", {"trained": "all", "start": "parity"})
    arms["short parity from polynomial, all"] = Arm(_SHORT, "polynomial", {"trained": "all", "start": "polynomial"})
    arms["short parity, all"] = Arm(_SHORT, None, {"trained": "all", "start": "fresh"})
    return arms


def scores(run: Run) -> list[tuple[str, str, float]]:
    """`outcome`, and what the network makes of both tasks at all lengths, whatever it was trained on last: accuracy at
    the longest, the best iteration score, and of step 0 likewise."""
    rows = outcome(run)
    data = changed(run.config.data, {"task_weights": (1.0, 1.0), "max_length": MAX_LENGTH})
    sets = evaluate.eval_sets(data, N_STRINGS)
    for when, step in (("before", 0), ("after", None)):
        with torch.no_grad():
            found = evaluate.measure(run.params(step), run.config.model, data, sets)
        for task in map(str, data.measured_tasks):
            accuracy = [
                r.value for r in found
                if r.task == task and r.metric == "generated_accuracy" and r.length == MAX_LENGTH
            ]  # fmt: skip
            iteration = [
                r.value for r in found
                if r.task == task and r.split == "mean" and r.metric == "iteration" and r.head is not None
            ]  # fmt: skip
            rows += [
                (task, f"accuracy at length {MAX_LENGTH}, {when}", accuracy[0]),
                (task, f"iteration to length {MAX_LENGTH}, {when}", max(iteration)),
            ]
    return rows


STUDY = Study(
    name="transfer",
    question="does what was learnt on one task serve another, which parts of it, and does it survive short strings?",
    hypothesis="after the polynomial, parity is learnt in a few percent of the steps that it takes from fresh weights; "
    "with all but the last layer frozen it still is, with MLP 1 alone as well, and not on top of a random network; the "
    "iteration head survives training on short strings",
    primary="first step at 99%",
    arms=_arms(),
    measure=scores,
    reference="parity",
)
