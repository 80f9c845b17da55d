"""What many tests need: seeded randomness, networks that nobody trained, and pairs of prompts."""

import pytest
import torch

from compo_mech.data.config import DataConfig
from compo_mech.interventions.pairs import Pairs, Switch, make_pairs
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model, init_params

EVERY = Switch.TOKEN | Switch.LENGTH | Switch.SHIFT

SEEDS = (0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2)))
"""Of networks that are nowhere near a threshold: CI asks more than one."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def control(config: ModelConfig, data: DataConfig, seed: int = 0, n_ctx: int = 20) -> Model:
    """A randomly initialised network."""
    return Model(init_params(config, len(data.vocabulary), n_ctx, generator(seed)), config)


def random_model(
    config: ModelConfig, data: DataConfig, seed: int = 0, dtype: torch.dtype = torch.float32, n_ctx: int = 20
) -> Model:
    """A network none of whose gains and biases is at its neutral value, so that a forgotten one shows."""
    draws = generator(seed)
    params = init_params(config, len(data.vocabulary), n_ctx, draws)
    for name, param in params.items():
        if name.split(".")[-1][0] in "bw":
            param += 0.2 * torch.randn(param.shape, generator=draws)
    return Model({name: param.to(dtype) for name, param in params.items()}, config)


def pairs_of(data: DataConfig, switch: Switch = EVERY, n_rows: int = 8, seed: int = 0, max_shift: int = 4) -> Pairs:
    return make_pairs(data, switch, n_rows, generator(seed), max_shift)
