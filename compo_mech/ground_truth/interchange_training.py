"""Training a circuit into a network: on its task, and on interchanges of edges, which say where each variable is to be.

No weight is set. One row in sixteen is clean, and asks for the task alone.
"""

from collections.abc import Iterator
from dataclasses import replace
from statistics import fmean

import torch

from compo_mech.data.config import DataConfig
from compo_mech.ground_truth.causal_graph import CausalGraph
from compo_mech.ground_truth.interchange import draw_chosen, interchange_loss, interchanged
from compo_mech.ground_truth.verification import MAX_SHIFT, SWITCHES
from compo_mech.interventions.pairs import Pairs, make_pairs
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model, Params, init_params
from compo_mech.training.loop import TrainState, start
from compo_mech.training.optim import OptimConfig
from compo_mech.training.schedule import learning_rate

N_PAIRS = 96
"""In each step."""

POSITION_SCALE = 0.2
"""What position embeddings are multiplied by at first."""

NOISE = 0.01
"""Standard deviation of what is added to the embeddings."""

OPTIM = OptimConfig(lr=7e-3, weight_decay=1.0)
"""The decay keeps attention from saturating early: a head that is sure of the wrong position has no gradient."""


def train_in(
    graph: CausalGraph, data: DataConfig, config: ModelConfig, n_steps: int, seed: int
) -> Iterator[tuple[Model, float]]:
    """Train a circuit into a randomly initialised network, in rounds without end.

    Args:
        graph: the circuit.
        data: the task and lengths.
        config: of the network.
        n_steps: of a round, over which the learning rate goes up and down.
        seed: of the initialisation, the pairs, the interchanges and the noise.

    Yields:
        After each round the network and the mean loss of the round, in nats.

    Example:
        >>> from compo_mech.data import DataConfig, Parity
        >>> from compo_mech.ground_truth import textbook, train_in
        >>> from compo_mech.model import ModelConfig
        >>> data = DataConfig(tasks=(Parity(),), max_length=2)
        >>> config = ModelConfig(n_heads=2, d_model=8, biases=True)
        >>> rounds = train_in(textbook(data), data, config, n_steps=4, seed=0)
        >>> (_, first), (_, second) = next(rounds), next(rounds)
        >>> second < first
        True
    """
    generator = torch.Generator().manual_seed(seed)
    n_ctx = data.layout.n_tokens(data.max_length) + MAX_SHIFT
    state = start(first_params(config, len(data.vocabulary), n_ctx, generator), config, OPTIM, generator)
    model = Model(state.params, config)
    while True:
        losses = [_step(state, model, graph, data, step, n_steps) for step in range(1, n_steps + 1)]
        yield Model({name: param.detach().clone() for name, param in state.params.items()}, config), fmean(losses)


def first_params(config: ModelConfig, d_vocab: int, n_ctx: int, generator: torch.Generator) -> Params:
    """Draw random parameters with small position embeddings and queries that do not all depend on the stream.

    A head that looks a token up asks the same everywhere. If it begins by asking for a position instead, it becomes
    sure of it, and attention that is sure has no gradient.
    """
    params = init_params(config, d_vocab, n_ctx, generator)
    params["pos_embed.W_pos"] *= POSITION_SCALE
    for name, param in params.items():
        if name.endswith(".b_Q"):
            param += torch.randn(param.shape, generator=generator)
    return params


def _step(state: TrainState, model: Model, graph: CausalGraph, data: DataConfig, step: int, n_steps: int) -> float:
    """Update the parameters; return the loss before it."""
    pairs = make_pairs(data, SWITCHES[step % len(SWITCHES)], N_PAIRS, state.generator, MAX_SHIFT)
    pairs = swapped(pairs) if step // len(SWITCHES) % 2 else pairs
    chosen = draw_chosen(model, graph, N_PAIRS, state.generator)
    loss = interchange_loss(interchanged(model, graph, pairs, chosen, NOISE, state.generator))
    for param in state.params.values():
        param.grad = None
    loss.backward()
    for optimizer in state.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(OPTIM, step, n_steps)
        optimizer.step()
    return float(loss.detach())


def swapped(pairs: Pairs) -> Pairs:
    """Return pairs whose clean input is the corrupt one and the reverse; the scored positions stay.

    So the network learns early what follows when position ids are shifted. Without it a head may look at a position
    where [EoI] can be, instead of looking for [EoI], and is not moved from there.
    """
    return replace(
        pairs,
        clean_tokens=pairs.corrupt_tokens,
        corrupt_tokens=pairs.clean_tokens,
        clean_position_ids=pairs.corrupt_position_ids,
        corrupt_position_ids=pairs.clean_position_ids,
        target=pairs.foil,
        foil=pairs.target,
        lengths=pairs.corrupt_lengths,
        corrupt_lengths=pairs.lengths,
    )
