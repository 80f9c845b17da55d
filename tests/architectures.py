"""Random networks over every option of a `ModelConfig`, for tests that hold for all of them."""

import random
from typing import get_args

import torch

from compo_mech.interventions.pairs import Pairs
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model, init_params

D_VOCAB, N_CTX = 9, 20


HEADS = [(4, 2), (2, None), (4, 1), (1, None), (4, None), (2, 1), (4, 4), (1, 1)]
"""Of queries, and of keys and values."""


def random_config(seed: int) -> ModelConfig:
    """A small configuration, every option of which is drawn; those of many values take turns, so that few seeds do."""
    draws = random.Random(seed)

    def in_turn(values):
        return values[seed % len(values)]

    (n_heads, n_key_value_heads), normalization = in_turn(HEADS), in_turn(_choices("normalization"))
    positions = in_turn(_choices("positional_embedding"))
    is_rotary, attn_only = positions == "rotary", draws.random() < 0.2
    return ModelConfig(
        n_layers=draws.choice([1, 2, 3]),
        n_heads=n_heads,
        d_model=12,
        d_head=draws.choice([2, 4, 6] if is_rotary else [2, 3, 4]),
        d_mlp=draws.choice([None, 7]),
        n_ctx=N_CTX,
        act_fn=in_turn(_choices("act_fn")),
        gated_mlp=not attn_only and draws.random() < 0.5,
        attn_only=attn_only,
        parallel_attn_mlp=not attn_only and draws.random() < 0.5,
        normalization=normalization,
        final_rms=normalization in ("LN", "LNPre") and draws.random() < 0.3,
        eps=draws.choice([1e-5, 1e-2]),
        n_key_value_heads=n_key_value_heads,
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


def prompts_of(model: Model, n_rows: int = 5) -> Pairs:
    """Pairs of random tokens, in rows of one length."""
    clean, corrupt = (
        torch.randint(D_VOCAB, (n_rows, 6), generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)
    )
    answer = torch.randint(D_VOCAB, (n_rows, 1), generator=torch.Generator().manual_seed(3))
    spans = {"begin": range(2), "rest": range(2, 6)}
    return Pairs.of(model, clean, corrupt, answer, (answer + 1) % D_VOCAB, spans=spans)
