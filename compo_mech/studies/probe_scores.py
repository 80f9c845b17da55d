"""How MLP 0 subtracts positions and how MLP 1 updates the state, as scores of a run."""

from compo_mech.analyses import position_subtraction, state_update
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.model.params import Model
from compo_mech.runs.stacked_run import AnyRun
from compo_mech.studies import measures
from compo_mech.studies.run_scores import run_scores
from compo_mech.studies.scores import RunScore, beside_control

MOST = 0.9
"""Fraction of what all neurons add to the right answers that the neurons counted add together."""


def position_scores(run: AnyRun) -> list[RunScore]:
    """`run_scores`, and how each network subtracts positions (see `subtraction_scores`)."""
    return run_scores(run) + beside_control(run, subtraction_scores)


def state_scores(run: AnyRun) -> list[RunScore]:
    """`run_scores`, and how each network updates the state (see `update_scores`)."""
    return run_scores(run) + beside_control(run, update_scores)


def subtraction_scores(model: Model, data: DataConfig, task: Task, seed: int) -> list[RunScore]:
    """Probes of t before and after MLP 0, whether answers follow it, and whether neurons are a table or a rule."""
    found = position_subtraction.examine_subtraction(model, data, task, seed, thorough=False)
    scores = [
        RunScore(measures.PROBE, float(found.probe(site)["linear"]), variable="t", site=site)
        for site in ("MLP input", "MLP output", "query")
    ]
    scores.append(RunScore(measures.SUBTRACTION, found.score.mean))
    for site, kind in (("MLP output", "mlp_out"), ("query", "q")):
        followed = float(found.best_site(kind, "independent")["iia"])
        scores.append(RunScore(measures.IIA, followed, variable="t", site=site))
    if found.kind is not None and found.kind.verdict != "cannot be told":
        scores += [
            RunScore(measures.BY_TABLE, float(found.kind.verdict == "table")),
            RunScore(measures.BY_RULE, float(found.kind.verdict == "rule")),
            RunScore(measures.NEURONS_BY_DIFFERENCE, found.kind.by_difference),
        ]
    return scores


def update_scores(model: Model, data: DataConfig, task: Task, seed: int) -> list[RunScore]:
    """Probes of s before and after MLP 1, whether answers follow its output, and what its neurons add."""
    found = state_update.examine_update(model, data, task, seed)
    scores = [
        RunScore(measures.PROBE, float(found.probe(site)["linear"]), variable="answer", site=site)
        for site in ("MLP input", "MLP output")
    ]
    neurons = found.neurons
    n_most = int((neurons["share"].cumsum() < MOST).sum()) + 1
    n_sets = float(neurons["fires on (s, x)"].head(n_most).nunique())
    scores += [
        RunScore(measures.IIA, float(found.answer["iia"]), variable="answer", site="MLP output"),
        RunScore(measures.ACCURACY_IF_ADDITIVE, found.additive.additive.mean),
        RunScore(measures.N_NEURONS, float(n_most)),
        RunScore(measures.N_FIRING_SETS, n_sets),
    ]
    return scores
