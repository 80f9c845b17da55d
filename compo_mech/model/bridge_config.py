"""The configuration of a TransformerBridge, as far as our forward pass can follow it.

A bridge's own code is that of the module in it, so what its options say is advice: an option that nobody looked at must
be neutral, and one forward pass decides over the rest.
"""

import inspect
from typing import TYPE_CHECKING, Any, get_args

from compo_mech.model.config import ActFn, ModelConfig
from compo_mech.model.params import Params

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

NATIVE = "TransformerLensNative"
"""The architecture of bridges that no module of transformers is in."""

_ADJACENT_PAIRS = (NATIVE, "GPTJForCausalLM")
"""Architectures that rotate neighbouring dimensions together, which a bridge's options do not say."""

_NORMS = {"LN": "LN", "LNPRE": "LNPre", "RMS": "RMS", "RMSPRE": "RMSPre", None: "none"}
_READ_HERE = (
    *("n_layers", "n_heads", "d_model", "d_head", "d_mlp", "n_ctx", "d_vocab", "d_vocab_out", "act_fn", "eps"),
    *("normalization_type", "uses_rms_norm", "final_rms", "positional_embedding_type", "rotary_dim", "rotary_base"),
    *("rotary_adjacent_pairs", "rope_parameters", "gated_mlp", "parallel_attn_mlp", "attn_only", "n_key_value_heads"),
    *("attn_scale", "use_attn_scale", "use_qk_norm", "architecture", "window_size", "layer_types", "num_heads"),
)
_SEEN_IN_LOGITS = (
    *("tie_word_embeddings", "intermediate_size", "hidden_act", "attention_bias", "lm_head_bias", "norm_eps"),
    *("use_parallel_residual", "parallel_attn", "multi_query", "word_embed_proj_dim", "do_layer_norm_before"),
)
"""Options whose effect, if any, is on every token, so that the forward pass tells."""

_WITHOUT_EFFECT = (
    *("device", "dtype", "seed", "init_mode", "init_weights", "initializer_range", "n_params", "n_devices"),
    *("model_name", "original_architecture", "from_checkpoint", "checkpoint_index", "checkpoint_label_type"),
    *("checkpoint_value", "tokenizer_name", "tokenizer_prepends_bos", "tokenizer_appends_eos", "default_prepend_bos"),
    *("default_padding_side", "trust_remote_code", "decoder_start_token_id", "use_attn_result", "use_split_qkv_input"),
    *("use_hook_mlp_in", "use_attn_in", "use_hook_tokens", "layer_norm_folding", "ungroup_grouped_query_attention"),
    *("split_attention_weights", "attn_implementation", "eos_token_id", "bos_token_id", "pad_token_id", "use_fast"),
    *("mask_token_id", "NTK_by_parts_low_freq_factor", "NTK_by_parts_high_freq_factor", "NTK_by_parts_factor"),
)


def bridge_config(bridge: "TransformerBridge", params: Params) -> ModelConfig:
    """Return the configuration of a bridge whose options are served.

    Args:
        bridge: the network.
        params: all that it has, by TransformerLens' names, some of which tell more than its options.
    """
    cfg = bridge.cfg
    is_rotary, positions = cfg.positional_embedding_type == "rotary", params.get("pos_embed.W_pos")
    kind = "rotary" if is_rotary else "none" if positions is None or not positions.any() else "standard"
    norm = _NORMS[cfg.normalization_type and cfg.normalization_type.upper()]
    scale = cfg.attn_scale if cfg.use_attn_scale and cfg.attn_scale > 0 else None
    n_kv_heads = len(params["blocks.0.attn.W_K"])
    embedding, unembedding = params["embed.W_E"], params["unembed.W_U"]
    return ModelConfig(
        n_layers=cfg.n_layers,
        n_heads=cfg.n_heads,
        d_model=cfg.d_model,
        d_head=cfg.d_head,
        d_mlp=None if cfg.attn_only else params["blocks.0.mlp.W_in"].shape[1],
        n_ctx=None if kind == "standard" else cfg.n_ctx,
        act_fn="silu" if cfg.act_fn == "swish" else cfg.act_fn,  # pyright: ignore[reportArgumentType]
        gated_mlp=cfg.gated_mlp and not cfg.attn_only,
        attn_only=cfg.attn_only,
        parallel_attn_mlp=cfg.parallel_attn_mlp,
        normalization=norm,  # pyright: ignore[reportArgumentType]
        final_rms=cfg.final_rms and norm in ("LN", "LNPre"),
        eps=cfg.eps,
        n_key_value_heads=None if n_kv_heads == cfg.n_heads else n_kv_heads,
        use_qk_norm="blocks.0.attn.q_norm.w" in params,
        attn_scale=scale,
        positional_embedding=kind,
        **(_rotation(cfg) if is_rotary else {}),
        tie_word_embeddings=embedding.shape == unembedding.mT.shape and bool((embedding == unembedding.mT).all()),
        biases=any(_is_bias(name) and bool(param.any()) for name, param in params.items()),
    )


def _is_bias(name: str) -> bool:
    return name.split(".")[-1].startswith("b")


def _rotation(cfg: Any) -> dict[str, Any]:
    """How queries and keys are rotated; settings of transformers say more than those of TransformerLens."""
    given = getattr(cfg, "rope_parameters", None) or {}
    partial = given.get("partial_rotary_factor")
    width = cfg.rotary_dim or (int(cfg.d_head * partial) if partial is not None else None)
    return {
        "rotary_dim": None if width == cfg.d_head else width,
        "rotary_base": float(given.get("rope_theta", cfg.rotary_base)),
        "rotary_adjacent_pairs": cfg.rotary_adjacent_pairs or cfg.architecture in _ADJACENT_PAIRS,
    }


def check_options(bridge: "TransformerBridge") -> None:
    """Refuse a bridge by its options, before anything of it is read.

    Raises:
        ValueError: one has a value that our forward pass does not serve, or nobody looked at it.
    """
    cfg = bridge.cfg
    norms = (*_NORMS, *(norm for norm in _NORMS.values() if norm != "none"))
    rope_type = (getattr(cfg, "rope_parameters", None) or {}).get("rope_type", "default")
    served = {
        "act_fn": (cfg.act_fn, (*get_args(ActFn), "swish")),
        "normalization_type": (cfg.normalization_type, norms),
        "positional_embedding_type": (cfg.positional_embedding_type, ("standard", "rotary")),
        "rope_parameters.rope_type": (rope_type, ("default",)),
    }
    known = {*_READ_HERE, *_SEEN_IN_LOGITS, *_WITHOUT_EFFECT}
    for name, value in vars(cfg).items():
        if name not in known:
            served[name] = (value, (_default(type(cfg), name),))
    for name, (value, values) in served.items():
        if value not in values and value is not None and value is not False:
            allowed = " or ".join(map(repr, dict.fromkeys(values)))
            raise ValueError(f"model.cfg.{name} = {value!r}: must be {allowed}")
    blocks = getattr(bridge, "blocks", None) or ()
    if not len(blocks) == cfg.n_layers or any("attn" not in dict(block.named_children()) for block in blocks):
        raise ValueError(f"model.cfg.architecture = {cfg.architecture!r}: must be one of blocks with attention each")
    _check_window(bridge)


def _default(kind: type, name: str) -> object:
    """Return what an option is where nobody sets it; None for one that only some architectures have."""
    for one in kind.__mro__:
        found = inspect.signature(one).parameters.get(name) if one is not object else None
        if found is not None and found.default is not inspect.Parameter.empty:
            return found.default
    return None


def _check_window(bridge: "TransformerBridge") -> None:
    """
    Raises:
        ValueError: attention does not see every position before its own, which short prompts would not tell.
    """
    cfg, own = bridge.cfg, getattr(bridge.original_model, "config", None)
    windows = [cfg.window_size]
    if getattr(own, "use_sliding_window", True):
        windows.append(getattr(own, "sliding_window", None))
    for window in windows:
        if isinstance(window, int) and window < cfg.n_ctx:
            raise ValueError(f"model.cfg.window_size = {window}: must be at least n_ctx = {cfg.n_ctx}")
    for layer_type in getattr(cfg, "layer_types", None) or ():
        if layer_type not in ("full_attention", "sliding_attention"):
            raise ValueError(f"model.cfg.layer_types = {layer_type!r}: must be 'full_attention'")
