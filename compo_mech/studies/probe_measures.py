"""What the probes say of a run, as scores of a study: how MLP 0 subtracts positions, how MLP 1 updates the state.

Each score stands beside that of a freshly initialised network, as `NAME, fresh`.
"""

from collections.abc import Callable, Mapping
from functools import partial

from compo_mech.analyses import position_subtraction, state_update
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.model.params import Model
from compo_mech.runs.run import Run
from compo_mech.studies.measures import Score, run_scores

SHARE = 0.9
"""Neurons are counted that together add this share of what all of them add to the right answers."""


def positions(run: Run) -> list[Score]:
    """`run_scores`, and of MLP 0: t told by a linear probe before and after it, how far the layer-1 query is a
    function of i - j, whether answers follow the t of either, and whether its neurons are a table (1) by their
    weights, or a rule."""
    return run_scores(run) + _beside_fresh(run, _subtraction)


def update(run: Run) -> list[Score]:
    """`run_scores`, and of MLP 1: s_t told by a linear probe before and after it, whether answers follow its output's,
    states that are right with its output made a sum of functions of s and of x, and its neurons: how many add most
    of the right answers, and for how many different sets of pairs (s, x) they fire."""
    return run_scores(run) + _beside_fresh(run, _update)


def _beside_fresh(run: Run, ask: Callable[[Model, DataConfig, Task, int], Mapping[str, float]]) -> list[Score]:
    """Of every task, or what went wrong: a network that cannot be asked, as one layer cannot, is told as failed."""
    rows: list[Score] = []
    config = run.config
    for name, params in (("", run.params()), (", fresh", run.control())):
        asked = partial(ask, Model(params, config.model), config.data)
        for task in config.data.measured_tasks:
            rows += [(str(task), f"{measure}{name}", value) for measure, value in asked(task, config.seed).items()]
    return rows


def _subtraction(model: Model, data: DataConfig, task: Task, seed: int) -> Mapping[str, float]:
    found = position_subtraction.examine_subtraction(model, data, task, seed, thorough=False)
    told = {f"t told from {site}": float(found.probe(site)["linear"]) for site in ("MLP input", "MLP output", "query")}
    told["subtraction score"] = found.score.mean
    for name, kind in (("MLP output", "mlp_out"), ("query", "q")):
        told[f"answers follow the t of {name}"] = float(found.best_site(kind, "independent")["iia"])
    if found.kind is not None:
        told |= {verdict: float(found.kind.verdict == verdict) for verdict in ("table", "rule")}
        told["neurons by i - j"] = found.kind.by_difference
    return told


def _update(model: Model, data: DataConfig, task: Task, seed: int) -> Mapping[str, float]:
    found = state_update.examine_update(model, data, task, seed)
    told = {f"s told from {site}": float(found.probe(site)["linear"]) for site in ("MLP input", "MLP output")}
    told["answers follow MLP output"] = float(found.answer["iia"])
    told["right if additive"] = found.additive.additive.mean
    neurons = found.neurons
    n_most = int((neurons["share"].cumsum() < SHARE).sum()) + 1
    told["neurons that add most"] = float(n_most)
    told["sets of pairs they fire for"] = float(neurons["fires on (s, x)"].head(n_most).nunique())
    return told
