"""Networks that are trained on one task after another, and what is left of the first, as scores of a run."""

from collections.abc import Iterator, Mapping

import torch

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Parity, Polynomial
from compo_mech.evaluation.measure import measure
from compo_mech.evaluation.sets import eval_sets
from compo_mech.model.config import parameter_shapes
from compo_mech.model.params import Model
from compo_mech.runs.config import RunConfig
from compo_mech.runs.stacked_run import AnyRun
from compo_mech.settings import changed
from compo_mech.studies import measures
from compo_mech.studies.run_scores import run_scores
from compo_mech.studies.scores import RunScore
from compo_mech.studies.study import SHORT, Arm
from compo_mech.training.loop import TrainConfig

MAX_LENGTH, SHORT_LENGTH = 8, 4
N_STRINGS = 64

TRAINED = {
    "all": ("",),
    "last layer": ("blocks.1.", "ln_final.", "unembed."),
    "MLP 1": ("blocks.1.mlp.",),
}
"""Prefixes of what is trained on the second task."""


def transfer_arms() -> Mapping[str, Arm]:
    """Return parity after the polynomial and the other way round, and each from random weights.

    All networks know the tokens of both tasks. Each arm that trains some components and freezes the others has one
    beside it that trains the same components on top of a random network. Arms of short strings keep the long ones'
    table of positions.
    """
    data = DataConfig(tasks=(Polynomial(), Parity()), task_weights=(1.0, 0.0), max_length=MAX_LENGTH)
    both = RunConfig(data=data, train=TrainConfig(max_position_shift=2))
    polynomial = changed(both, SHORT | {"train.snapshot_every": 25})
    parity = changed(polynomial, {"data.task_weights": (0.0, 1.0)})
    short = changed(parity, {"data.max_length": SHORT_LENGTH, "model.n_ctx": parity.n_ctx})
    arms = {
        "polynomial": Arm(polynomial, factors={"trained": "all", "start": "random"}),
        "parity": Arm(parity, factors={"trained": "all", "start": "random"}),
    }
    for name, trained in TRAINED.items():
        config = only(parity, trained)
        arms[f"parity from polynomial, {name}"] = Arm(config, "polynomial", {"trained": name, "start": "polynomial"})
        if name != "all":
            arms[f"parity, {name}"] = Arm(config, None, {"trained": name, "start": "random"})
    arms["polynomial from parity, all"] = Arm(polynomial, "parity", {"trained": "all", "start": "parity"})
    arms["short parity from polynomial, all"] = Arm(short, "polynomial", {"trained": "all", "start": "polynomial"})
    arms["short parity, all"] = Arm(short, None, {"trained": "all", "start": "random"})
    return arms


def only(config: RunConfig, trained: tuple[str, ...]) -> RunConfig:
    """The same with everything else frozen."""
    names = parameter_shapes(config.model, len(config.data.vocabulary), config.n_ctx)
    frozen = [name for name in names if not name.startswith(trained)]
    return changed(config, {"model.freeze": tuple(frozen)})


def transfer_scores(run: AnyRun) -> list[RunScore]:
    """`run_scores`, and what the first and the last checkpoint make of both tasks at all lengths up to `MAX_LENGTH`.

    Both tasks and all lengths are asked, whatever the run was trained on.
    """
    return [*run_scores(run), *_both_tasks(run)]


def _both_tasks(run: AnyRun) -> Iterator[RunScore]:
    data = changed(run.config.data, {"task_weights": (1.0, 1.0), "max_length": MAX_LENGTH})
    sets = eval_sets(data, N_STRINGS)
    for checkpoint, step in (("first", 0), ("last", None)):
        with torch.no_grad():
            found = measure(Model(run.params(step), run.config.model), data, sets)
        for task in map(str, data.measured_tasks):
            own = [row for row in found if row.task == task]
            accuracy = [r.value for r in own if r.metric == "generated_accuracy" and r.length == MAX_LENGTH]
            iteration = [r.value for r in own if r.split == "mean" and r.metric == "iteration" and r.head is not None]
            yield RunScore(measures.ACCURACY_AT_8, accuracy[0], task, checkpoint=checkpoint)
            yield RunScore(measures.ITERATION_TO_8, max(iteration), task, checkpoint=checkpoint)
