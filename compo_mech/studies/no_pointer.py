"""Which tokens answers depend on, and where earlier inputs are added up, as scores of a run."""

from collections.abc import Iterator

import torch

from compo_mech.data.config import DataConfig
from compo_mech.data.encode import encode
from compo_mech.data.tasks import Task
from compo_mech.model.params import Model
from compo_mech.runs.stacked_run import AnyRun
from compo_mech.studies import measures
from compo_mech.studies.run_scores import main_scores
from compo_mech.studies.scores import RunScore, beside_control

N_STRINGS = 512
"""Strings whose prefixes are probed for."""
N_FOLDS = 4
SHORTEST_PREFIX = 4
"""Of shorter ones there are too few to hold some out: 8 prefixes of three bits."""


def reliance_scores(run: AnyRun) -> list[RunScore]:
    """`main_scores`, what answers depend on, and how well the state after x_1 .. x_k can be read where x_k stands."""
    return main_scores(run) + beside_control(run, network_scores)


def network_scores(model: Model, data: DataConfig, task: Task, seed: int) -> Iterator[RunScore]:
    """The same of one network, but for what its training measured."""
    yield from _reliance(model, data, task, seed)
    yield from _prefixes(model, data, task, seed)


def _reliance(model: Model, data: DataConfig, task: Task, seed: int) -> Iterator[RunScore]:
    """At the longest length."""
    from compo_mech.interventions.token_reliance import reliance

    generator = torch.Generator().manual_seed(seed)
    found = reliance(model, data, task, max(data.drawn_lengths), generator)
    for kind, fraction in found.changed.items():
        if kind == "earlier inputs":
            yield RunScore(measures.BY_EARLIER_INPUTS, fraction)
        else:
            yield RunScore(measures.BY_TOKEN, fraction, position=kind)
    for place, fraction in found.carried.items():
        yield RunScore(measures.EARLIER_INPUTS_CARRIED, fraction, position=place)


@torch.no_grad()
def _prefixes(model: Model, data: DataConfig, task: Task, seed: int) -> Iterator[RunScore]:
    """Accuracy of linear probes of the state after x_1 .. x_k at x_k, in front of the last layer, on prefixes that they
    were not fitted on; the mean over k from `SHORTEST_PREFIX` to the longest length."""
    from compo_mech.interventions.traces import trace
    from compo_mech.probing.controls import accuracy
    from compo_mech.probing.probes import linear_probe
    from compo_mech.probing.split import Split

    length, generator = max(data.drawn_lengths), torch.Generator().manual_seed(seed)
    if model.config.n_layers < 2 or length < SHORTEST_PREFIX:
        return
    inputs = torch.randint(task.first_input, task.n_inputs, (N_STRINGS, length), generator=generator)
    tokens = encode(data, task, inputs).read.to(model.device)
    position_ids = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape)
    stream = trace(model, tokens, position_ids).resid_post[-2]
    states, found = task.states(inputs), []
    for k in range(SHORTEST_PREFIX, length + 1):
        prefix = inputs[:, :k].unique(dim=0, return_inverse=True)[1]
        split = Split.draw(states[:, k - 1], prefix, N_FOLDS, generator)
        at_input = stream[:, data.layout.inputs(length)[k - 1]]
        found.append(float(accuracy(linear_probe(at_input, split), split, generator, n_boot=2).mean))
    value = sum(found) / len(found)
    yield RunScore(measures.PROBE, value, variable="prefix", site="x_k")
