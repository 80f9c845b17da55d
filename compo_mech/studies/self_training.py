"""One round of self-training: a network goes on training on longer strings, with the states that it writes there.

Its control goes on with the states that the task's rule gives, all else being the same.
"""

from collections.abc import Callable, Mapping
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.packing import Packing
from compo_mech.data.stream import Batch, TrainingStream
from compo_mech.evaluation.measure import generated, run_set
from compo_mech.evaluation.sets import EvalSet, train_sets
from compo_mech.model.finite import likeliest
from compo_mech.model.generate import Past
from compo_mech.model.params import Model
from compo_mech.settings import changed
from compo_mech.training.loop import TrainConfig, draw_noise, start, train_step
from compo_mech.training.optim import OptimConfig
from compo_mech.training.schedule import learning_rate

N_LONGER = 2
"""By so much the strings of the round are longer than those of training."""
N_STRINGS = 256
"""Of each length."""
N_STEPS = 300
"""At most: a run of fewer has a round of as many."""


def with_lengths(data: DataConfig, shortest: int, longest: int) -> DataConfig:
    """The same data with strings of these lengths, each as often and weighted as the others."""
    per_length = {"length_weights": None, "length_loss_weights": None, "curriculum": ()}
    return changed(data, per_length | {"min_length": shortest, "max_length": longest})


@torch.no_grad()
def freely_written(model: Model, strings: EvalSet) -> Int[Tensor, "batch query"]:
    """What a network writes after [EoI], generated freely."""
    past: Past = []
    logits, _ = run_set(model, strings, past)
    return generated(model, strings, likeliest(logits), past)


def self_trained(
    model: Model, data: DataConfig, schedule: TrainConfig, optim: OptimConfig, seed: int, own_states: bool
) -> Model:
    """Return the network after one round, for which it is copied.

    Args:
        model: the network.
        data: of its training; the round has `N_LONGER` lengths more, and `N_STRINGS` training strings of each.
        schedule: of its training, for its dropout and shifts; position ids are shifted no further than the network
            knows.
        optim: of its training; the learning rate rises and falls again over the round.
        seed: of the strings, and of what is drawn at each step.
        own_states: train on what the network itself writes at the beginning, or on what is right.

    Raises:
        ValueError: there is not one task alone, or the network does not know enough positions.
    """
    longest = data.max_length + N_LONGER
    if len(data.tasks) != 1:
        raise ValueError(f"tasks = {' '.join(map(str, data.tasks))}: must be one task")
    if (n_read := data.layout.n_read(longest)) > model.n_ctx:
        raise ValueError(f"n_ctx = {model.n_ctx}: must be at least {n_read}, for strings of length {longest}")
    longer = changed(with_lengths(data, data.min_length, longest), {"n_train_strings": N_STRINGS})
    stream = TrainingStream(longer, seed, model.device)
    rows = {strings.length: _rows(strings, freely_written(model, strings) if own_states else None, longer, longest)
            for strings in train_sets(stream)}  # fmt: skip
    noisy = changed(schedule, {"max_position_shift": min(schedule.max_position_shift, model.n_ctx - n_read)})
    n_steps = min(N_STEPS, schedule.n_steps)
    generator = torch.Generator(model.device).manual_seed(seed)
    params = {name: param.detach().clone().requires_grad_() for name, param in model.params.items()}
    state = start(params, model.config, optim, generator)

    @cache
    def packed(lengths: tuple[int, ...]) -> Packing:
        return Packing.of_lengths(longer.layout, list(lengths), model.device)

    for step in range(1, n_steps + 1):
        batch = _batch(rows, stream.lengths(step), packed, generator)
        noise = draw_noise(batch.packing, model.config.d_model, noisy, generator)
        train_step(state, [(batch, noise)], model.config, optim, learning_rate(optim, step, n_steps))
    return Model({name: param.detach() for name, param in params.items()}, model.config)


def _rows(
    strings: EvalSet, states: Int[Tensor, "batch query"] | None, data: DataConfig, longest: int
) -> Int[Tensor, "batch n_tokens"]:
    """Whole rows, as long as the longest string's, with these states in place of the right ones."""
    tokens = strings.tokens.clone()
    if states is not None:
        tokens[:, -states.shape[1] :] = states
    n_tokens = data.layout.n_read(longest) + 1
    return F.pad(tokens, (0, n_tokens - tokens.shape[1]), value=data.vocabulary.end_of_states_id)


def _batch(
    rows: Mapping[int, Int[Tensor, "batch n_tokens"]],
    lengths: list[int],
    packed: Callable[[tuple[int, ...]], Packing],
    generator: torch.Generator,
) -> Batch:
    """Rows drawn from those of each length."""
    drawn = []
    for length in dict.fromkeys(lengths):
        pick = torch.randint(len(rows[length]), (lengths.count(length),), generator=generator, device=generator.device)
        drawn.append(rows[length][pick])
    tokens = torch.cat(drawn)
    task = torch.zeros(len(tokens), dtype=torch.long, device=tokens.device)
    return Batch(tokens, task, torch.ones(len(tokens), device=tokens.device), packed(tuple(lengths)))
