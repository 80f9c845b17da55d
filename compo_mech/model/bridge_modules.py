"""Bridges of an architecture whose parameters are still to be written: around modules of transformers where one has the
architecture, else TransformerLens' own.

transformer_lens takes seconds to import, so it is imported only where a bridge is built.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from compo_mech.model import blocks
from compo_mech.model.bridge_config import NATIVE
from compo_mech.model.config import ModelConfig
from compo_mech.model.hooked import lens_options, n_ctx_to_build
from compo_mech.model.params import Model

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

_GELUS = ("gelu_new", "gelu_fast", "gelu_pytorch_tanh")
"""Three names of one function."""

_ACT_FNS = ("gelu", "relu", "silu", *_GELUS)

_EAGER: dict[str, Any] = {"attn_implementation": "eager"}
"""Attention that is computed in steps, so that there are patterns to hook."""

_PLAIN = {
    **{"attn_only": False, "parallel_attn_mlp": False, "final_rms": False, "use_qk_norm": False, "attn_scale": None},
    "attention_dir": "causal",
}
_GPT2 = _PLAIN | {"normalization": "LN", "gated_mlp": False}
_LLAMA = _PLAIN | {"normalization": "RMS", "gated_mlp": True}
_LLAMA |= {"positional_embedding": "rotary", "rotary_adjacent_pairs": False}


def empty_bridge(model: Model) -> "TransformerBridge":
    """Build a bridge of the architecture, with parameters of the device and the dtype of the model's.

    A network without position embeddings is one whose table is 0. Global randomness stays as it was.

    Raises:
        ValueError: no bridge has this architecture.
    """
    from transformer_lens.model_bridge.sources._bridge_builder import build_bridge_from_module

    embedding = model.params["embed.W_E"]
    with torch.random.fork_rng(devices=[]):
        if _is_gpt2(model.config):
            module, settings = _gpt2(model)
        elif _is_llama(model.config):
            module, settings = _llama(model)
        else:
            module, settings = _native(model)
        name = NATIVE if "tl_config" in settings else type(module).__name__
        return build_bridge_from_module(module.to(embedding.device, embedding.dtype).eval(), name, **settings)


def _has(config: ModelConfig, options: dict[str, Any]) -> bool:
    return all(getattr(config, name) == value for name, value in options.items())


def _is_gpt2(config: ModelConfig) -> bool:
    of_width = config.n_heads * config.head_width == config.d_model and config.n_sharing == 1
    return _has(config, _GPT2) and of_width and config.positional_embedding != "rotary" and config.act_fn in _ACT_FNS


def _is_llama(config: ModelConfig) -> bool:
    is_whole = config.rotary_dim in (None, config.head_width)
    return _has(config, _LLAMA) and is_whole and config.act_fn in _ACT_FNS


def _gpt2(model: Model) -> tuple[nn.Module, dict[str, Any]]:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = model.config
    settings = GPT2Config(
        vocab_size=model.d_vocab,
        n_positions=n_ctx_to_build(model),
        n_embd=config.d_model,
        n_layer=config.n_layers,
        n_head=config.n_heads,
        n_inner=config.mlp_width,
        activation_function=_act_fn(config),
        layer_norm_epsilon=config.eps,
        tie_word_embeddings=False,
        **_EAGER,
    )
    module = GPT2LMHeadModel(settings)
    module.lm_head = _unembedding(model)
    return module, {"hf_config": settings}


def _llama(model: Model) -> tuple[nn.Module, dict[str, Any]]:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = model.config
    settings = LlamaConfig(
        vocab_size=model.d_vocab,
        max_position_embeddings=n_ctx_to_build(model),
        hidden_size=config.d_model,
        intermediate_size=config.mlp_width,
        num_hidden_layers=config.n_layers,
        num_attention_heads=config.n_heads,
        num_key_value_heads=config.n_kv_heads,
        head_dim=config.head_width,
        hidden_act=_act_fn(config),
        rms_norm_eps=config.eps,
        rope_parameters={"rope_type": "default", "rope_theta": config.rotary_base},
        attention_bias=config.biases,
        mlp_bias=config.biases,
        tie_word_embeddings=False,
        pad_token_id=None,
        **_EAGER,
    )
    module = LlamaForCausalLM(settings)
    module.lm_head = _unembedding(model)
    return module, {"hf_config": settings}


def _native(model: Model) -> tuple[nn.Module, dict[str, Any]]:
    """
    Raises:
        ValueError: TransformerLens' own module has not this architecture.
    """
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge.sources.native import NativeModel

    config = model.config
    served = {
        "attention_dir": ("causal",),
        "parallel_attn_mlp": (False,),
        "use_qk_norm": (False,),
        "act_fn": _ACT_FNS,
    }
    if config.positional_embedding == "rotary":
        served["rotary_adjacent_pairs"] = (True,)
    if config.head_width > 1 and config.score_scale == 1:
        served["attn_scale"] = (None,)
    for name, values in served.items():
        if getattr(config, name) not in values:
            allowed = " or ".join(map(str, values))
            raise ValueError(
                f"{name} = {getattr(config, name)}: must be {allowed} in a TransformerBridge that can be built"
            )
    settings: Any = TransformerBridgeConfig(
        **lens_options(model),
        act_fn=_act_fn(config),
        final_rms=config.final_rms or config.normalization in ("RMS", "RMSPre"),
        n_key_value_heads=None if config.n_sharing == 1 else config.n_kv_heads,
        attn_scale=config.attn_scale or -1.0,
        positional_embedding_type="rotary" if config.positional_embedding == "rotary" else "standard",
        rotary_dim=config.rotary_dim,
    )
    settings.rotary_base = config.rotary_base  # which the settings would round
    module = NativeModel(settings)
    module.head = _unembedding(model)
    return module, {"tl_config": settings}


def _act_fn(config: ModelConfig) -> str:
    """The name of the activation in transformers and in TransformerLens' own module."""
    return "gelu_new" if config.act_fn in _GELUS else config.act_fn


def _unembedding(model: Model) -> nn.Linear:
    return nn.Linear(model.config.d_model, blocks.unembedding(model).shape[-1], bias=model.config.biases)
