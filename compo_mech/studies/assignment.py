"""Which trained head stands for which of the hand-built circuit's, by what it writes, as scores of a run."""

from collections.abc import Iterator

import torch

from compo_mech.analyses.head_projection import Head, head_projections
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.interventions.head_roles import carried_share
from compo_mech.model.params import Model
from compo_mech.runs.stacked_run import AnyRun
from compo_mech.studies import measures
from compo_mech.studies.run_scores import main_scores
from compo_mech.studies.scores import RunScore, beside_control


def assignment_scores(run: AnyRun) -> list[RunScore]:
    """`main_scores`, and whom the projection on the circuit's variables names, beside what interchanges say."""
    return main_scores(run) + beside_control(run, head_assignment_scores)


def head_assignment_scores(model: Model, data: DataConfig, task: Task, seed: int) -> Iterator[RunScore]:
    """How much of the assigned heads' outputs the variables explain and of any other head's; how much of x_t the
    assigned one carries, and whether any carries more. A network in which no head carries anything names none."""
    generator = torch.Generator().manual_seed(seed)
    found = head_projections(model, data, generator, task=task)
    pair = found.assignment()
    if pair is None:
        return
    for shares, head, here, elsewhere in (
        (found.x, pair.iteration, measures.X_PROJECTED, measures.X_PROJECTED_ELSEWHERE),
        (found.end, pair.lookup, measures.EOI_PROJECTED, measures.EOI_PROJECTED_ELSEWHERE),
    ):
        yield RunScore(here, float(shares[head]))
        yield RunScore(elsewhere, _most_of_others(shares, head))
    by_x, by_end = (carried_share(model, data, name, generator, task=task)[0].cpu() for name in ("x", "end"))
    yield RunScore(measures.X_CARRIED_BY_ASSIGNED, float(by_x[pair.iteration]))
    yield RunScore(measures.X_CARRIED, float(by_x.max()))
    for carried, head, agrees in (
        (by_x, pair.iteration, measures.ASSIGNED_CARRIES_X),
        (by_end, pair.lookup, measures.ASSIGNED_CARRIES_EOI),
    ):
        yield RunScore(agrees, float(carried[head] == carried.max() > 0))


def _most_of_others(shares: torch.Tensor, head: Head) -> float:
    """Of all heads of all layers but one; two layers have at least one more."""
    others = shares.clone()
    others[head] = -torch.inf
    return float(others.max())
