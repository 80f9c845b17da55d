"""Parameters as a real HookedTransformer, and back.

transformer_lens takes seconds to import, so it is imported only where a HookedTransformer is built.
"""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import torch

from compo_mech.model import blocks
from compo_mech.model.config import ModelConfig, parameter_shapes
from compo_mech.model.params import ACTIVATIONS, Model, check_dense, check_dtype
from compo_mech.model.same_logits import check_logits, check_padding

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

N_CTX = 2048
"""Positions of a network of TransformerLens made from one that has no table of them and sets no `n_ctx`."""

_SIZES = ("n_layers", "n_heads", "d_model", "d_head", "d_mlp", "n_ctx", "d_vocab", "d_vocab_out", "n_params")
_FOLLOWED = (
    *("eps", "attn_scale", "use_attn_scale", "use_qk_norm", "n_key_value_heads", "parallel_attn_mlp", "attn_only"),
    *("gated_mlp", "final_rms", "rotary_dim", "rotary_base", "rotary_adjacent_pairs"),
)
_WITHOUT_EFFECT = (
    *("device", "dtype", "seed", "init_mode", "init_weights", "initializer_range", "tie_word_embeddings"),
    *("model_name", "original_architecture", "from_checkpoint", "checkpoint_index", "checkpoint_label_type"),
    *("checkpoint_value", "tokenizer_name", "tokenizer_prepends_bos", "default_prepend_bos", "trust_remote_code"),
    *("decoder_start_token_id", "use_attn_result", "use_split_qkv_input", "use_hook_mlp_in", "use_attn_in"),
    *("use_hook_tokens", "layer_norm_folding", "ungroup_grouped_query_attention", "uses_rms_norm"),
    *("train_seq_length", "NTK_by_parts_low_freq_factor", "NTK_by_parts_high_freq_factor", "NTK_by_parts_factor"),
    *("NTK_original_ctx_len", "yarn_factor", "yarn_attention_factor", "yarn_beta_fast", "yarn_beta_slow"),
    *("yarn_original_max_position_embeddings", "yarn_truncate", "yarn_global_attn_only", "norm_topk_prob"),
)
"""Options that change no logit, where those that do are served."""


def to_hooked(model: Model) -> "HookedTransformer":
    """Build the HookedTransformer with these parameters, on their device and in their dtype. Biases that are off are
    0, and a network without positions is one that rotates no dimension."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    params, config = model.params, model.config
    rotary_dim = {"standard": None, "rotary": config.rotated_width, "none": 0}[config.positional_embedding]
    cfg = HookedTransformerConfig(
        **lens_options(model),
        n_key_value_heads=config.n_key_value_heads,
        act_fn=config.act_fn,
        positional_embedding_type="standard" if rotary_dim is None else "rotary",
        rotary_dim=rotary_dim,
        attention_dir=config.attention_dir,
        attn_scale=config.score_scale,
        final_rms=config.final_rms,
        use_qk_norm=config.use_qk_norm,
        parallel_attn_mlp=config.parallel_attn_mlp,
        tie_word_embeddings=config.tie_word_embeddings,
        init_weights=False,
        dtype=params["embed.W_E"].dtype,
    )
    hooked = HookedTransformer(cfg)
    params = params | {"unembed.W_U": blocks.unembedding(model)}
    named = {hooked_name(config, name): value for name, value in params.items()}
    with torch.no_grad():
        for name, parameter in hooked.named_parameters():
            if name in named:
                parameter.copy_(named[name])
            else:
                parameter.zero_()
    return hooked.eval()


def n_ctx_to_build(model: Model) -> int:
    """Return how many positions a network of TransformerLens gets, whose masks grow as their square."""
    is_bounded = model.config.positional_embedding == "standard" or model.config.n_ctx is not None
    return model.n_ctx if is_bounded else N_CTX


def lens_options(model: Model) -> dict[str, Any]:
    """Return the options that a HookedTransformer and TransformerLens' own bridge have by the same names and values."""
    config = model.config
    return {
        "n_layers": config.n_layers,
        "n_heads": config.n_heads,
        "d_model": config.d_model,
        "d_head": config.head_width,
        "d_mlp": config.mlp_width,
        "n_ctx": n_ctx_to_build(model),
        "d_vocab": model.d_vocab,
        "d_vocab_out": blocks.unembedding(model).shape[-1],
        "normalization_type": None if config.normalization == "none" else config.normalization,
        "eps": config.eps,
        "gated_mlp": config.gated_mlp,
        "attn_only": config.attn_only,
        "rotary_base": config.rotary_base,
        "rotary_adjacent_pairs": config.rotary_adjacent_pairs,
        "device": str(model.device),
    }


def hooked_name(config: ModelConfig, name: str) -> str:
    """Return HookedTransformer's name of a parameter: that of keys and values that heads share begins with `_`.

    Example:
        >>> from compo_mech.model import ModelConfig
        >>> hooked_name(ModelConfig(n_heads=4, n_key_value_heads=2), "blocks.0.attn.W_K")
        'blocks.0.attn._W_K'
    """
    layer, _, last = name.rpartition(".")
    is_shared = config.n_key_value_heads is not None and layer.endswith(".attn") and last[-1] in "KV"
    return f"{layer}._{last}" if is_shared else name


def from_hooked(model: "HookedTransformer", config: ModelConfig | None = None) -> Model:
    """Copy any HookedTransformer that the analyses can follow.

    Options that are not known to be served are refused by name, and `check_logits` decides whether our forward pass is
    the model's.

    Args:
        model: the HookedTransformer.
        config: that of the network that it was made from; None: what its options tell.

    Raises:
        ValueError: it has an option, a parameter, a hook, a dtype or a forward pass that they cannot follow, or its
            parameters have no values.
    """
    told = _config_of(model)
    config = config or told
    state = model.state_dict()
    shapes = parameter_shapes(config, model.cfg.d_vocab, model.cfg.n_ctx)
    names = {name: hooked_name(config, name) for name in shapes}
    if missing := [theirs for theirs in names.values() if theirs not in state]:
        raise ValueError(f"model parameters = without {missing[0]}: must be those of a plain HookedTransformer")
    params = {name: state[theirs].detach().clone() for name, theirs in names.items()}
    n_known = len(params["pos_embed.W_pos"]) if config.positional_embedding == "standard" else model.cfg.n_ctx
    if n_known < model.cfg.n_ctx:
        raise ValueError(f"model.cfg.n_ctx = {model.cfg.n_ctx}: must be at most {n_known}, the positions of its table")
    tokenizer: Any = model.tokenizer  # whose `decode` gives text for ids, and lists for lists of them
    copied = Model(params, config, tokenizer)
    check_padding(model, copied)
    check_logits(model, copied)
    return copied


def _config_of(model: "HookedTransformer") -> ModelConfig:
    """
    Raises:
        ValueError: it has an option, a parameter, a hook or a dtype that is not served.
    """
    cfg = model.cfg
    for name, known in _served(cfg).items():
        value = getattr(cfg, name)
        if value not in known:
            raise ValueError(f"model.cfg.{name} = {value!r}: must be {' or '.join(map(repr, known))}")
    check_dtype("model", model.parameters())
    check_dense("model", dict(model.named_parameters()))
    hooked = [name for name, module in model.named_modules() if module._forward_hooks or module._forward_pre_hooks]
    if hooked:
        raise ValueError(
            f"model hooks = {' '.join(hooked)}: must be none, since no analysis would run them; "
            "model.reset_hooks(including_permanent=True) removes those of TransformerLens"
        )
    config = _options(model)
    names = {hooked_name(config, name) for name in parameter_shapes(config, cfg.d_vocab, cfg.n_ctx)}
    own = {name for name, _ in model.named_parameters()} - ({"unembed.W_U"} if config.tie_word_embeddings else set())
    if unknown := sorted(own - names):
        raise ValueError(f"model parameters = with {unknown[0]}: must be those of a plain HookedTransformer")
    return config


def _options(model: "HookedTransformer") -> ModelConfig:
    """What the options of a HookedTransformer are called here, all of them being served."""
    cfg = model.cfg
    is_rotary = cfg.positional_embedding_type == "rotary"
    rotary_dim = cfg.rotary_dim if is_rotary else None
    shape = model.W_E.shape == model.W_U.mT.shape
    return ModelConfig(
        n_layers=cfg.n_layers,
        n_heads=cfg.n_heads,
        n_key_value_heads=cfg.n_key_value_heads,
        d_model=cfg.d_model,
        d_head=cfg.d_head,
        d_mlp=cfg.d_mlp,
        n_ctx=cfg.n_ctx if is_rotary else None,
        act_fn="gelu" if cfg.attn_only else cfg.act_fn,  # pyright: ignore[reportArgumentType]
        normalization=cfg.normalization_type or "none",  # pyright: ignore[reportArgumentType]
        final_rms=cfg.final_rms and cfg.normalization_type in ("LN", "LNPre"),
        eps=cfg.eps,
        gated_mlp=cfg.gated_mlp and not cfg.attn_only,
        attn_only=cfg.attn_only,
        parallel_attn_mlp=cfg.parallel_attn_mlp,
        use_qk_norm=cfg.use_qk_norm,
        attn_scale=_attn_scale(cfg),
        positional_embedding="none" if rotary_dim == 0 else "rotary" if is_rotary else "standard",
        rotary_dim=rotary_dim if rotary_dim not in (0, cfg.d_head) else None,
        rotary_base=cfg.rotary_base if is_rotary else 10000.0,
        rotary_adjacent_pairs=cfg.rotary_adjacent_pairs and is_rotary,
        tie_word_embeddings=shape and torch.equal(model.W_E, model.W_U.mT),
        biases=True,
    )


def _attn_scale(cfg: Any) -> float | None:
    """What scores are divided by; None: by sqrt(d_head)."""
    scale = float(cfg.attn_scale) if cfg.use_attn_scale else 1.0
    return None if math.isclose(scale, math.sqrt(cfg.d_head), rel_tol=1e-12) else scale


def _served(cfg: Any) -> dict[str, tuple[object, ...]]:
    """Values of each option that our forward pass serves: an option that nobody looked at must be at its default."""
    free = (*_SIZES, *_FOLLOWED, *_WITHOUT_EFFECT)
    fields = dataclasses.fields(cfg)
    served: dict[str, tuple[object, ...]] = {field.name: (field.default,) for field in fields if field.name not in free}
    return served | {
        "normalization_type": ("LN", "LNPre", "RMS", "RMSPre", None),
        "act_fn": (cfg.act_fn,) if cfg.attn_only else tuple(ACTIVATIONS),
        "positional_embedding_type": ("standard", "rotary"),
    }
