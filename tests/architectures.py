"""Random networks over every option of a `ModelConfig`, for tests that hold for all of them."""

import random
from typing import get_args

import torch

from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model, init_params

D_VOCAB, N_CTX = 9, 20


def random_config(seed: int) -> ModelConfig:
    """A small configuration, every option of which is drawn."""
    draws = random.Random(seed)
    n_heads, d_head = draws.choice([1, 2, 4]), draws.choice([2, 3, 4, 6])
    shared = [n for n in (1, 2, 4) if n_heads % n == 0]
    normalization = draws.choice(_choices("normalization"))
    positions = draws.choice(_choices("positional_embedding") if d_head != 3 else ["standard", "none"])
    attn_only = draws.random() < 0.2
    is_rotary = positions == "rotary"
    return ModelConfig(
        n_layers=draws.choice([1, 2, 3]),
        n_heads=n_heads,
        d_model=12,
        d_head=d_head,
        d_mlp=draws.choice([None, 7]),
        n_ctx=N_CTX,
        act_fn=draws.choice(_choices("act_fn")),
        gated_mlp=not attn_only and draws.random() < 0.5,
        attn_only=attn_only,
        parallel_attn_mlp=not attn_only and draws.random() < 0.5,
        normalization=normalization,
        final_rms=normalization in ("LN", "LNPre") and draws.random() < 0.3,
        eps=draws.choice([1e-5, 1e-2]),
        n_key_value_heads=draws.choice([None, *shared]),
        use_qk_norm=draws.random() < 0.3,
        attn_scale=draws.choice([None, 1.0, 0.7]),
        positional_embedding=positions,
        rotary_dim=draws.choice([None, 2]) if is_rotary else None,
        rotary_base=draws.choice([10000.0, 50.0]),
        rotary_adjacent_pairs=draws.random() < 0.5,
        tie_word_embeddings=draws.random() < 0.3,
        biases=draws.random() < 0.5,
        init=draws.choice(_choices("init")),
    )


def _choices(name: str) -> list[str]:
    return list(get_args(ModelConfig.model_fields[name].annotation))


def random_network(config: ModelConfig, seed: int, dtype: torch.dtype = torch.float32) -> Model:
    """A network none of whose gains and biases is at its neutral value, so that a forgotten one shows."""
    draws = torch.Generator().manual_seed(seed)
    params = init_params(config, D_VOCAB, N_CTX, draws)
    for name, param in params.items():
        if name.split(".")[-1][0] in "bw":
            param += 0.3 * torch.randn(param.shape, generator=draws)
    return Model({name: param.to(dtype) for name, param in params.items()}, config)
