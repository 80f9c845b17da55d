"""What a network writes at lengths beyond those it was trained on, before and after a round of self-training."""

from collections.abc import Iterator

import torch

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.evaluation.accuracy import share, strings_right
from compo_mech.evaluation.sets import eval_sets
from compo_mech.model.params import Model
from compo_mech.runs.stacked_run import AnyRun
from compo_mech.studies import measures
from compo_mech.studies.run_scores import main_scores
from compo_mech.studies.scores import RunScore, beside_control
from compo_mech.studies.self_training import freely_written, self_trained, with_lengths

LENGTHS = (9, 10, 12, 16, 24, 32)
NEXT = 9
"""The first that training lacks."""
N_STRINGS = 64
N_CTX = 67
"""Positions of the longest string, its task's token, 32 inputs, [EoI] and 32 states; one is left over."""
AFTER, RIGHT_STATES = "after a round on its own states", "after a round on the right states"
"""What the network did before it was asked."""


def longer_strings(run: AnyRun) -> list[RunScore]:
    """`main_scores`, and at each of `LENGTHS` the fraction of strings, and of states, that are written right, at the
    end of training and after a round of self-training.

    Raises:
        ValueError: there is not one task alone (see `self_trained`).
    """
    scores = main_scores(run) + beside_control(run, beyond)
    config, model = run.config, Model(run.params(), run.config.model)
    for own, checkpoint in ((True, AFTER), (False, RIGHT_STATES)):
        later = self_trained(model, config.data, config.train, config.optim, config.seed, own)
        (task,) = config.data.measured_tasks
        found = beyond(later, config.data, task, config.seed)
        scores += [score._replace(task=str(task), checkpoint=checkpoint) for score in found]
    return scores


@torch.no_grad()
def beyond(model: Model, data: DataConfig, task: Task, seed: int) -> Iterator[RunScore]:
    """The same of one network as it is."""
    for length in LENGTHS:
        longer = with_lengths(data, length, length)
        (test,) = [one for one in eval_sets(longer, N_STRINGS) if str(one.task) == str(task)]
        states = freely_written(model, test)
        strings = float(share(strings_right(states, test.targets)))
        if length == NEXT:
            yield RunScore(measures.ACCURACY_AT_NEXT, strings)
        yield RunScore(measures.ACCURACY_BEYOND, strings, position=f"length {length}")
        right = float(share((states == test.targets).flatten()))
        yield RunScore(measures.STATES_BEYOND, right, position=f"length {length}")
