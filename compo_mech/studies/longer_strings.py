"""What a network writes at lengths beyond those it was trained on, as scores of a run."""

import torch

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.evaluation.accuracy import share, strings_right
from compo_mech.evaluation.measure import generated, run_set
from compo_mech.evaluation.sets import eval_sets
from compo_mech.model.finite import likeliest
from compo_mech.model.generate import Past
from compo_mech.model.params import Model
from compo_mech.runs.stacked_run import AnyRun
from compo_mech.settings import changed
from compo_mech.studies import measures
from compo_mech.studies.run_scores import run_scores
from compo_mech.studies.scores import RunScore, beside_control

LENGTHS = (9, 10, 12, 16, 24, 32)
TWICE = 16
"""The longest length of training, doubled."""
N_STRINGS = 64
N_CTX = 66
"""Positions of the longest string: its task's token, 32 inputs, [EoI] and 32 states; one is left over."""


def longer_strings(run: AnyRun) -> list[RunScore]:
    """`run_scores`, and at each of `LENGTHS` the fraction of strings, and of states, that are written right."""
    return [*run_scores(run), *beside_control(run, _beyond)]


@torch.no_grad()
def _beyond(model: Model, data: DataConfig, task: Task, seed: int) -> list[RunScore]:
    scores = []
    for length in LENGTHS:
        longer = changed(data, {"min_length": length, "max_length": length, "length_weights": None})
        (test,) = [one for one in eval_sets(longer, N_STRINGS) if str(one.task) == str(task)]
        past: Past = []
        logits, _ = run_set(model, test, past)
        written = generated(model, test, likeliest(logits), past)
        for measure, right in (
            (measures.ACCURACY_BEYOND, strings_right(written, test.targets)),
            (measures.STATES_BEYOND, (written == test.targets).flatten()),
        ):
            scores.append(RunScore(measure, float(share(right)), position=f"length {length}"))
            if measure is measures.ACCURACY_BEYOND and length == TWICE:
                scores.append(RunScore(measures.ACCURACY_AT_TWICE, float(share(right))))
    return scores
