"""What is left of one task after training on another, as scores of a run."""

import torch

from compo_mech.evaluation import measure
from compo_mech.evaluation.sets import eval_sets
from compo_mech.model.params import Model
from compo_mech.runs.run import Run
from compo_mech.settings import changed
from compo_mech.studies.measures import run_scores

MAX_LENGTH, SHORT = 8, 4
N_STRINGS = 64


def scores(run: Run) -> list[tuple[str, str, float]]:
    """`run_scores`, and what the network makes of both tasks at all lengths, whatever it was trained on last:
    accuracy at the longest, the best iteration score, and of step 0 likewise."""
    rows = run_scores(run)
    data = changed(run.config.data, {"task_weights": (1.0, 1.0), "max_length": MAX_LENGTH})
    sets = eval_sets(data, N_STRINGS)
    for when, step in (("before", 0), ("after", None)):
        with torch.no_grad():
            found = measure.measure(Model(run.params(step), run.config.model), data, sets)
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
