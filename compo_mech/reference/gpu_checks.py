"""Whether a device computes what the CPU computes, and what runs at once is what runs one by one."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from compo_mech.circuits.scorers import SCORERS
from compo_mech.data.packing import Packing
from compo_mech.data.stream import Batch, TrainingStream
from compo_mech.data.tasks import Parity
from compo_mech.evaluation.measure import measure
from compo_mech.evaluation.sets import eval_sets
from compo_mech.evaluation.stacked import measure_each, rows_of
from compo_mech.ground_truth.build import build
from compo_mech.interventions.edges import all_edges
from compo_mech.interventions.metrics import logit_difference
from compo_mech.interventions.pairs import Switch, make_pairs
from compo_mech.interventions.patching import sweep
from compo_mech.launch.ensemble import new_members
from compo_mech.launch.run import new_state
from compo_mech.model.params import Model, Params
from compo_mech.runs.config import RunConfig
from compo_mech.training import loop
from compo_mech.training.loop import TrainState

N_STEPS = 8
"""Enough for every shape of batch to be captured and replayed."""
N_MEMBERS = 3
SMOOTH = ("loss", "iteration", "lookup", "entropy", "sparsity", "pointer_weight", "iteration_together")
"""Measures that change little where weights do."""


DECIDED_BY_THRESHOLDS = {"ACDC", "edge pruning", "pair patching", "subset patching"}
"""Scorers of edges whose result rounding may turn."""


class Check(NamedTuple):
    """A comparison: the largest difference found, and the largest that rounding explains."""

    what: str
    difference: float
    allowed: float

    @property
    def holds(self) -> bool:
        """Whether it is no larger; NaN is larger."""
        return self.difference <= self.allowed


def checks(config: RunConfig, device: str) -> Iterator[Check]:
    """Compare training, measuring and analyses on a device with their plain twins."""
    yield from _step(config, device)
    yield from _at_once(config, device)
    yield _measured(config, device)
    yield from _analyses(device)


def _step(config: RunConfig, device: str) -> Iterator[Check]:
    """One step from the same state, on the same batch."""
    stream, states = TrainingStream(config.data, 0), [new_state(config, "cpu") for _ in range(2)]
    batch = stream.batch(1, torch.Generator().manual_seed(0))
    noise = loop.draw_noise(batch.packing, config.model.d_model, config.train, torch.Generator().manual_seed(1))
    there = loop.start(
        {name: param.detach().to(device) for name, param in states[1].params.items()},
        config.model,
        config.optim,
        torch.Generator(device),
    )
    lengths = stream.lengths(1)
    on_device = replace(
        batch,
        tokens=batch.tokens.to(device),
        task=batch.task.to(device),
        weight=batch.weight.to(device),
        packing=Packing.of_lengths(config.data.layout, lengths, device),
    )
    moved = {name: value.to(device) for name, value in noise.items()}
    losses = [
        loop.train_step(state, [(of, drawn)], config.model, config.optim, config.optim.lr)
        for state, of, drawn in ((states[0], batch, noise), (there, on_device, moved))
    ]
    yield Check("loss of a step", _apart(losses[0], losses[1]), 1e-4)
    grads = [{name: p.grad for name, p in s.params.items() if p.grad is not None} for s in (states[0], there)]
    yield Check("gradients of a step", _most(grads[0], grads[1]), 1e-4)


def _at_once(config: RunConfig, device: str) -> Iterator[Check]:
    """The same steps one by one, kernel by kernel; one by one, as training runs them; and at once."""
    longer = config.train.model_copy(update={"n_steps": 10**6})
    ways: list[list[Params]] = []
    for captured in (False, True):
        ends = []
        for seed in range(N_MEMBERS):
            state = new_state(config.model_copy(update={"seed": seed}), device)
            stream = TrainingStream(config.data, seed, device)
            if captured:
                for _ in itertools.islice(loop.train(state, stream, config.model, config.optim, longer), N_STEPS):
                    pass
            else:
                _plainly(state, stream, config, longer)
            ends.append(state.params)
        ways.append(ends)
    members = new_members(config, range(N_MEMBERS), device)
    stream = TrainingStream(config.data, range(N_MEMBERS), device)
    for _ in itertools.islice(loop.train(members, stream, config.model, config.optim, longer), N_STEPS):
        pass
    together = [members.member(i).params for i in range(N_MEMBERS)]
    for what, other in (("replayed", ways[1]), ("at once", together)):
        most = float(torch.tensor([_most(one, two) for one, two in zip(ways[0], other, strict=True)]).max())
        yield Check(f"weights after {N_STEPS} steps, {what}", most, 1e-5 * N_STEPS)


def _plainly(state: TrainState, stream: TrainingStream, config: RunConfig, schedule: loop.TrainConfig) -> None:
    for step in range(1, N_STEPS + 1):
        batch: Batch = stream.batch(step, state.generator)
        noise = loop.draw_noise(batch.packing, config.model.d_model, schedule, state.generator)
        lr = loop.learning_rate(config.optim, step, schedule.n_steps)
        loop.train_step(state, [(batch, noise)], config.model, config.optim, lr)


def _measured(config: RunConfig, device: str) -> Check:
    """Measured at once there, and one by one on the CPU."""
    sets = {place: eval_sets(config.data, 16, place) for place in ("cpu", device)}
    states = [new_state(config.model_copy(update={"seed": seed}), "cpu") for seed in range(N_MEMBERS)]
    members = [{name: param.detach() for name, param in state.params.items()} for state in states]
    stacked = {name: torch.stack([params[name] for params in members]).to(device) for name in members[0]}
    found = measure_each(stacked, config.model, config.data, sets[device])
    most = 0.0
    for i, params in enumerate(members):
        alone = {row[:-1]: row.value for row in measure(Model(params, config.model), config.data, sets["cpu"])}
        here = {row[:-1]: row.value for row in rows_of(found, i)}
        # the others have a floor or a threshold, at which rounding decides
        most = max(most, *(abs(here[key] - value) for key, value in alone.items() if key[-1] in SMOOTH))
    return Check("losses and scores of heads, at once", most, 1e-4)


def _analyses(device: str) -> Iterator[Check]:
    """Edges and patches of a known circuit."""
    built = build(Parity(), max_length=4)
    drawn = make_pairs(built.data, Switch.TOKEN, 16, torch.Generator().manual_seed(0))
    there = Model({name: param.to(device) for name, param in built.model.params.items()}, built.model.config)
    both, edges = [(model, drawn.to(model.device)) for model in (built.model, there)], all_edges(built.model.config)
    for name in sorted(SCORERS.keys() - DECIDED_BY_THRESHOLDS):
        scores = [SCORERS[name](model, pairs, edges, logit_difference, None).scores for model, pairs in both]
        yield Check(f"scores of edges, {name}", _apart(*scores) / float(scores[0].abs().max()), 1e-3)
    maps = [sweep(model, pairs, "resid_post", logit_difference) for model, pairs in both]
    yield Check("patching of the residual stream", _apart(*maps) / float(maps[0].abs().max()), 1e-3)


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one.detach().cpu() - other.detach().cpu()).abs().max())


def _most(one: Params, other: Params) -> float:
    """NaN if any number is, which `max` would leave out."""
    return float(torch.tensor([_apart(tensor, other[name]) for name, tensor in one.items()]).max())
