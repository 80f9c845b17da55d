"""Parameters as a real HookedTransformer, and back.

transformer_lens takes seconds to import, so it is imported only where a HookedTransformer is built.
"""

import math
from typing import TYPE_CHECKING

import torch

from compo_mech.model.config import ModelConfig, parameter_shapes
from compo_mech.model.params import Params

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer


def to_hooked(params: Params, config: ModelConfig) -> "HookedTransformer":
    """Build the HookedTransformer with these parameters, on their device. Biases that are off are 0."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    d_vocab, n_ctx = params["embed.W_E"].shape[0], params["pos_embed.W_pos"].shape[0]
    device = params["embed.W_E"].device
    cfg = HookedTransformerConfig(
        n_layers=config.n_layers,
        n_heads=config.n_heads,
        d_model=config.d_model,
        d_head=config.head_width,
        d_mlp=config.mlp_width,
        n_ctx=n_ctx,
        d_vocab=d_vocab,
        act_fn=config.act_fn,
        normalization_type="LN" if config.normalization == "LN" else None,
        init_weights=False,
        device=str(device),
    )
    model = HookedTransformer(cfg)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in params:
                parameter.copy_(params[name])
            else:
                parameter.zero_()
    return model.eval()


def from_hooked(model: "HookedTransformer", config: ModelConfig) -> Params:
    """Copy the parameters of a HookedTransformer of this configuration."""
    state = model.state_dict()
    names = parameter_shapes(config, model.cfg.d_vocab, model.cfg.n_ctx)
    return {name: state[name].detach().clone() for name in names}


def config_of(model: "HookedTransformer") -> ModelConfig:
    """Return the configuration of any HookedTransformer that the analyses can follow.

    Raises:
        ValueError: it has an option that they cannot.
    """
    cfg = model.cfg
    plain = {
        "positional_embedding_type": ("standard",),
        "attention_dir": ("causal",),
        "normalization_type": ("LN", None),
        "act_fn": ("gelu", "relu", "silu"),
        "attn_only": (False,),
        "parallel_attn_mlp": (False,),
        "gated_mlp": (False,),
        "use_local_attn": (False,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "post_embedding_ln": (False,),
        "use_normalization_before_and_after": (False,),
        "use_qk_norm": (False,),
        "num_experts": (None,),
        "final_rms": (False,),
        "n_key_value_heads": (None, cfg.n_heads),
        "use_attn_scale": (True,),
        "attn_scale": (math.sqrt(cfg.d_head),),
        "attn_scores_soft_cap": (-1.0,),
        "output_logits_soft_cap": (-1.0,),
        "eps": (1e-5,),
    }
    for name, known in plain.items():
        value = getattr(cfg, name, known[0])
        if value not in known:
            raise ValueError(f"model.cfg.{name} = {value!r}: must be {' or '.join(map(repr, known))}")
    return ModelConfig(
        n_layers=cfg.n_layers,
        n_heads=cfg.n_heads,
        d_model=cfg.d_model,
        d_head=cfg.d_head,
        d_mlp=cfg.d_mlp,
        act_fn=cfg.act_fn,  # pyright: ignore[reportArgumentType]
        normalization="LN" if cfg.normalization_type == "LN" else "none",
        biases=True,
    )
