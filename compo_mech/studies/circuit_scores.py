"""How much of the circuit a run has: which heads are needed, which variables are held where, by which routes x_t comes.

Each score of the trained network stands beside that of its randomly initialised control. The analyses are imported
when a run is scored: a study's `--help` waits for none.
"""

import math
from collections.abc import Iterator

import torch

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.evaluation.sets import drawn_sets
from compo_mech.model.params import Model
from compo_mech.runs.stacked_run import AnyRun
from compo_mech.studies import measures
from compo_mech.studies.run_scores import run_scores
from compo_mech.studies.scores import RunScore, beside_control

N_STRINGS = 64
"""Test strings of each length."""


def heads_needed(run: AnyRun) -> list[RunScore]:
    """`run_scores`, and which heads carry x_t by intervention."""
    return run_scores(run) + beside_control(run, head_role_scores)


def variables_held(run: AnyRun) -> list[RunScore]:
    """`run_scores`, and IIA of t, x_t and the answer where the last layer should hold them: what is missing?"""
    return run_scores(run) + beside_control(run, _interchange_scores)


def routes_taken(run: AnyRun) -> list[RunScore]:
    """`heads_needed`, and by which routes x_t comes."""
    return heads_needed(run) + beside_control(run, _route_scores)


def head_role_scores(model: Model, data: DataConfig, task: Task, seed: int) -> list[RunScore]:
    """Which heads carry x_t, and what their ablation costs (see `name_heads`).

    `heads to remove` is infinite where no set of one layer's heads is enough.
    """
    from compo_mech.interventions.head_ablation import Ablations
    from compo_mech.interventions.head_roles import name_heads
    from compo_mech.interventions.head_swaps import CARRIES_IN_PART

    sets = drawn_sets(data, task, N_STRINGS, model.device)
    generator = torch.Generator().manual_seed(seed)
    found = name_heads(Ablations(model, sets, "mean", generator), data, generator, task=task)
    carried = [role.x for role in found.roles if role.x is not None]
    ends = [role.end for role in found.roles if role.end is not None]
    n_removed = math.inf if found.removal is None else float(len(found.removal.components))
    scores = [
        RunScore(measures.LARGEST_COST, max(role.cost for role in found.roles)),
        RunScore(measures.HEADS_TO_REMOVE, n_removed),
    ]
    if carried:
        n_carrying = float(sum(fraction >= CARRIES_IN_PART for fraction in carried))
        scores += [
            RunScore(measures.X_CARRIED, max(carried)),
            RunScore(measures.HEADS_CARRYING_X, n_carrying),
            RunScore(measures.ITERATION_HEAD_FOUND, float(found.iteration is not None)),
        ]
    if found.x_together is not None:
        scores.append(RunScore(measures.X_CARRIED_BY_LAYER, max(found.x_together)))
    if ends:
        scores.append(RunScore(measures.EOI_CARRIED, max(ends)))
    return scores


def _interchange_scores(model: Model, data: DataConfig, task: Task, seed: int) -> Iterator[RunScore]:
    from compo_mech.analyses.trajectories import interchange_scores

    for quantity, value, *_ in interchange_scores(data, task, model.config.n_layers - 1, seed, model):
        if quantity.statistic == "value":
            site = f"{quantity.site}{quantity.layer}"
            yield RunScore(measures.IIA, value, variable=str(quantity.variable), site=site)


def _route_scores(model: Model, data: DataConfig, task: Task, seed: int) -> Iterator[RunScore]:
    from compo_mech.analyses.trajectories import route_scores

    for quantity, value, *_ in route_scores(data, task, seed, model):
        yield RunScore(measures.ROUTE_SHARE, value, route=quantity.statistic)
