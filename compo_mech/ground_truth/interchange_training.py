"""Training a circuit into a network: on its task, and on interchanges of edges, which say where each variable is to be.

No weight is set. One row in sixteen is clean, and asks for the task alone.
"""

from collections.abc import Iterator

import torch

from compo_mech.data.config import DataConfig
from compo_mech.ground_truth.builder import SPARE_POSITIONS
from compo_mech.ground_truth.causal_graph import CausalGraph
from compo_mech.ground_truth.interchange import draw_chosen, interchange_loss, interchanged
from compo_mech.ground_truth.verification import SWITCHES
from compo_mech.interventions.pairs import make_pairs
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model, init_params
from compo_mech.training.loop import TrainState, start
from compo_mech.training.optim import OptimConfig
from compo_mech.training.schedule import learning_rate

N_PAIRS = 128
"""In each step."""

OPTIM = OptimConfig(lr=6e-3)
NOISE = 0.05


def train_in(
    graph: CausalGraph, data: DataConfig, config: ModelConfig, n_steps: int, seed: int
) -> Iterator[tuple[float, Model]]:
    """Train a circuit into a randomly initialised network, step by step.

    Args:
        graph: the circuit.
        data: the task and lengths.
        config: of the network.
        n_steps: of training.
        seed: of the initialisation, the pairs, the interchanges and the noise.

    Yields:
        The loss of each step, in nats, and the network, whose parameters are updated in place.

    Example:
        >>> from compo_mech.data import DataConfig, Parity
        >>> from compo_mech.ground_truth import textbook, train_in
        >>> from compo_mech.model import ModelConfig
        >>> data = DataConfig(tasks=(Parity(),), max_length=2)
        >>> config = ModelConfig(n_heads=2, d_model=8, biases=True)
        >>> losses = [loss for loss, _ in train_in(textbook(data), data, config, n_steps=2, seed=0)]
        >>> len(losses)
        2
    """
    generator = torch.Generator().manual_seed(seed)
    n_ctx = data.layout.n_tokens(data.max_length) + SPARE_POSITIONS
    state = start(init_params(config, len(data.vocabulary), n_ctx, generator), config, OPTIM, generator)
    model = Model(state.params, config)
    for step in range(1, n_steps + 1):
        yield _step(state, model, graph, data, step, learning_rate(OPTIM, step, n_steps)), model


def _step(state: TrainState, model: Model, graph: CausalGraph, data: DataConfig, step: int, lr: float) -> float:
    pairs = make_pairs(data, SWITCHES[step % len(SWITCHES)], N_PAIRS, state.generator, SPARE_POSITIONS)
    chosen = draw_chosen(model, graph, N_PAIRS, state.generator)
    found = interchanged(model, graph, pairs, chosen, NOISE, state.generator)
    loss = interchange_loss(found)
    for param in state.params.values():
        param.grad = None
    loss.backward()
    for optimizer in state.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
    return float(loss.detach())
