"""At which positions a network writes the right state, and whether it looks at their inputs, as scores of a run."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.evaluation.attention import edge_weights
from compo_mech.evaluation.head_scores import edges_of_roles
from compo_mech.evaluation.measure import run_set
from compo_mech.evaluation.sets import drawn_sets
from compo_mech.model.finite import likeliest
from compo_mech.model.params import Model
from compo_mech.runs.stacked_run import AnyRun
from compo_mech.studies import measures
from compo_mech.studies.run_scores import main_scores
from compo_mech.studies.scores import RunScore, beside_control

N_STRINGS = 256
MOSTLY_RIGHT, MOSTLY_WRONG = 0.9, 0.5
"""Fractions of strings from which on a network is right about a position, and below which it is wrong."""
LOOKED_AT = 0.5
"""Weight of a head on x_t from which on it looks at it."""
THIRDS = ("first third", "second third", "last third")
"""Of the states between the first and the last."""


class ByPosition(NamedTuple):
    """Of the states of strings of one length, with right states before them."""

    right: Float[Tensor, "t"]
    """Fraction of strings in which s_t is right."""
    weight: Float[Tensor, "t"]
    """On x_t, of the head that has most there."""


def right_positions(run: AnyRun) -> list[RunScore]:
    """`main_scores`, accuracy at the longest length, at how many positions states are right, at how many inputs a head
    looks, and both of the first and the last."""
    return main_scores(run, [measures.ACCURACY_AT_LONGEST]) + beside_control(run, right_positions_of)


def right_positions_of(model: Model, data: DataConfig, task: Task, seed: int) -> Iterator[RunScore]:
    """The same of one network, but for what its training measured; nothing without a chain of thought."""
    if not data.chain_of_thought:
        return
    found = by_position(model, data, task)
    right, wrong, looked = found.right >= MOSTLY_RIGHT, found.right < MOSTLY_WRONG, found.weight >= LOOKED_AT
    yield RunScore(measures.POSITIONS_RIGHT, float(right.double().mean()))
    yield RunScore(measures.POSITIONS_WRONG, float(wrong.double().mean()))
    yield RunScore(measures.POSITIONS_LOOKED_AT, float(looked.double().mean()))
    parts = {"looked at": found.right[looked], "not looked at": found.right[~looked]}
    parts |= zip(THIRDS, found.right[1:-1].tensor_split(3), strict=True)
    for position, some in parts.items():
        if len(some):
            yield RunScore(measures.ROW_ACCURACY, float(some.mean()), position=position)
    for position, row in (("first", 0), ("last", -1)):
        yield RunScore(measures.ROW_ACCURACY, float(found.right[row]), position=position)
        yield RunScore(measures.WEIGHT_ON_X, float(found.weight[row]), position=position)
    yield RunScore(measures.SOME_POSITIONS, float(bool(right.any()) and bool(wrong.any())))
    if right.any():
        yield RunScore(measures.WEIGHT_ON_X, float(found.weight[right].mean()), position="states right")
    if wrong.any():
        yield RunScore(measures.WEIGHT_ON_X, float(found.weight[wrong].mean()), position="states wrong")


@torch.no_grad()
def by_position(model: Model, data: DataConfig, task: Task, n_strings: int = N_STRINGS) -> ByPosition:
    """Ask for every state of test strings of the longest length that training asks about.

    >>> from compo_mech import Parity, build
    >>> built = build(Parity(), max_length=3)
    >>> by_position(built.model, built.data, Parity()).right.tolist()
    [1.0, 1.0, 1.0]
    """
    test = drawn_sets(data, task, n_strings, model.device)[-1]
    logits, patterns = run_set(model, test)
    right = (likeliest(logits) == test.targets)[:, : test.length]
    rows, keys = edges_of_roles(test.layout, test.length)["iteration"]
    weights = torch.cat([edge_weights(pattern, rows, keys).mean(0) for pattern in patterns])
    return ByPosition(right.double().mean(0), weights.amax(0))
