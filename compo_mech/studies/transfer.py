"""What is left of one task after training on another, as scores of a run."""

from collections.abc import Iterator

import torch

from compo_mech.evaluation.measure import measure
from compo_mech.evaluation.sets import eval_sets
from compo_mech.model.params import Model
from compo_mech.runs.run import Run
from compo_mech.settings import changed
from compo_mech.studies import measures
from compo_mech.studies.run_scores import run_scores
from compo_mech.studies.scores import RunScore

MAX_LENGTH, SHORT_LENGTH = 8, 4
N_STRINGS = 64


def transfer_scores(run: Run) -> list[RunScore]:
    """`run_scores`, and what the first and the last checkpoint make of both tasks at all lengths up to `MAX_LENGTH`.

    Both tasks and all lengths are asked, whatever the run was trained on.
    """
    return [*run_scores(run), *_both_tasks(run)]


def _both_tasks(run: Run) -> Iterator[RunScore]:
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
