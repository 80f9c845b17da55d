"""Networks that have no circuit of their task: random ones, and some that were trained on something else."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, NamedTuple, get_args

import torch

from compo_mech.data.config import DataConfig
from compo_mech.data.stream import Batch, TrainingStream
from compo_mech.data.tasks import Copy, Counter, Parity, Polynomial, Symmetric, Task
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model, init_params
from compo_mech.training.loop import start, train_step
from compo_mech.training.optim import OptimConfig
from compo_mech.training.schedule import learning_rate

MAX_LENGTH = 6
TASKS: tuple[Task, ...] = (Parity(), Copy(), Polynomial(modulus=5), Counter(modulus=3), Symmetric(n=3))

Wrong = Literal["random answers", "noisy answers", "another task", "few steps"]
"""What a network was trained on instead: states drawn at random; states of which 4 in 5 are; another task of the same
tokens; the task itself, but for far too few steps."""

N_STEPS: dict[Wrong, int] = {"random answers": 150, "noisy answers": 150, "another task": 200, "few steps": 15}


class Untaught(NamedTuple):
    """A network, what it was trained on instead of its task, and the task that it is asked about."""

    kind: str
    model: Model
    data: DataConfig
    task: Task


def random_networks(n: int) -> Iterator[Untaught]:
    """Yield networks with random weights, of 1 to 3 layers and 1 to 4 heads, on all tasks in turn.

    >>> [network.model.config.n_layers for network in random_networks(3)]
    [1, 2, 3]
    """
    for seed in range(n):
        task = TASKS[seed % len(TASKS)]
        config = ModelConfig(d_model=32 if seed % 2 else 64, n_layers=1 + seed % 3, n_heads=(1, 2, 4)[seed // 3 % 3])
        data = DataConfig(tasks=(task,), max_length=MAX_LENGTH)
        yield Untaught("random", _network(config, data, torch.Generator().manual_seed(seed)), data, task)


def wrongly_trained(n_seeds: int) -> Iterator[Untaught]:
    """Train small networks wrongly in each way, and yield them, so many of each."""
    for kind in get_args(Wrong):
        for seed in range(n_seeds):
            yield _trained(kind, seed)


def _network(config: ModelConfig, data: DataConfig, generator: torch.Generator) -> Model:
    n_ctx = data.layout.n_tokens(data.max_length)
    return Model(init_params(config, len(data.vocabulary), n_ctx, generator), config)


def _trained(kind: Wrong, seed: int) -> Untaught:
    generator = torch.Generator().manual_seed(seed)
    task, other = (Parity(), Copy()) if seed % 2 else (Copy(), Parity())  # of the same tokens
    asked = DataConfig(tasks=(task,), max_length=MAX_LENGTH, batch_size=64)
    taught = asked.model_copy(update={"tasks": (other,)}) if kind == "another task" else asked
    config, optim, n_steps = ModelConfig(d_model=32, n_heads=1 + seed % 2), OptimConfig(), N_STEPS[kind]
    model, stream = _network(config, asked, generator), TrainingStream(taught, seed)
    for param in model.params.values():
        param.requires_grad_()
    state = start(model.params, config, optim, generator)
    for step in range(1, n_steps + 1):
        batch = stream.batch(step, generator)
        if kind in ("random answers", "noisy answers"):
            batch = _noisy(batch, asked, 1.0 if kind == "random answers" else 0.8, generator)
        train_step(state, [(batch, {})], config, optim, learning_rate(optim, step, n_steps))
    return Untaught(kind, Model({name: param.detach() for name, param in model.params.items()}, config), asked, task)


def _noisy(batch: Batch, data: DataConfig, fraction: float, generator: torch.Generator) -> Batch:
    """The batch with this fraction of the states drawn anew."""
    tokens = batch.tokens.clone()
    row, position = batch.packing.scored_row, batch.packing.scored_position + 1
    states = tokens[row, position]
    drawn = torch.randint(data.tasks[0].n_states, states.shape, generator=generator)
    new = (states < data.vocabulary.n_values) & (torch.rand(states.shape, generator=generator) < fraction)
    tokens[row, position] = torch.where(new, drawn, states)
    return replace(batch, tokens=tokens)
