"""Parameters as a real HookedTransformer, and back.

transformer_lens takes seconds to import, so it is imported only where a HookedTransformer is built.
"""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int
from torch import Tensor

from compo_mech.model.config import ModelConfig, parameter_shapes
from compo_mech.model.forward import forward
from compo_mech.model.params import ACTIVATIONS, Model, Params

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

MAX_DIFFERENCE = 1e-4
"""Between a logit of a HookedTransformer and ours of the same weights, beside rounding."""

MAX_LOGITS = 2**22
"""That are compared: a few seconds' work, and 16 MB each, for the largest vocabulary."""

_SIZES = ("n_layers", "n_heads", "d_model", "d_head", "d_mlp", "n_ctx", "d_vocab", "d_vocab_out", "n_params")
_WITHOUT_EFFECT = (
    *("device", "dtype", "seed", "init_mode", "init_weights", "initializer_range", "tie_word_embeddings"),
    *("model_name", "original_architecture", "from_checkpoint", "checkpoint_index", "checkpoint_label_type"),
    *("checkpoint_value", "tokenizer_name", "tokenizer_prepends_bos", "default_prepend_bos", "trust_remote_code"),
    *("decoder_start_token_id", "use_attn_result", "use_split_qkv_input", "use_hook_mlp_in", "use_attn_in"),
    *("use_hook_tokens", "layer_norm_folding", "ungroup_grouped_query_attention"),
)
"""Options that change no logit, where those that do are served."""


def to_hooked(params: Params, config: ModelConfig) -> "HookedTransformer":
    """Build the HookedTransformer with these parameters, on their device and in their dtype. Biases that are off are
    0."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    embedding = params["embed.W_E"]
    cfg = HookedTransformerConfig(
        n_layers=config.n_layers,
        n_heads=config.n_heads,
        d_model=config.d_model,
        d_head=config.head_width,
        d_mlp=config.mlp_width,
        n_ctx=params["pos_embed.W_pos"].shape[0],
        d_vocab=embedding.shape[0],
        d_vocab_out=params["unembed.W_U"].shape[-1],
        act_fn=config.act_fn,
        normalization_type="LN" if config.normalization == "LN" else None,
        init_weights=False,
        device=str(embedding.device),
        dtype=embedding.dtype,
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
    """Copy the parameters of a HookedTransformer of this configuration.

    Raises:
        ValueError: it lacks one of them, or does something else with them than our forward pass.
    """
    state = model.state_dict()
    names = parameter_shapes(config, model.cfg.d_vocab, model.cfg.n_ctx)
    if missing := [name for name in names if name not in state]:
        raise ValueError(f"model parameters = without {missing[0]}: must be those of a plain HookedTransformer")
    params = {name: state[name].detach().clone() for name in names}
    _check_logits(model, Model(params, config))
    return params


def config_of(model: "HookedTransformer") -> ModelConfig:
    """Return the configuration of any HookedTransformer that the analyses can follow.

    Options that are not known to be served are refused by name, and one pass over every token and position decides
    whether our forward is the model's.

    Raises:
        ValueError: it has an option, a hook, a dtype or a forward pass that they cannot follow.
    """
    cfg = model.cfg
    for name, known in _served(cfg).items():
        value = getattr(cfg, name)
        if value not in known:
            raise ValueError(f"model.cfg.{name} = {value!r}: must be {' or '.join(map(repr, known))}")
    dtypes = sorted({str(param.dtype) for param in model.parameters()})
    if dtypes not in (["torch.float32"], ["torch.float64"]):
        raise ValueError(f"model dtype = {' '.join(dtypes)}: must be torch.float32 or torch.float64 throughout")
    hooked = [name for name, module in model.named_modules() if module._forward_hooks or module._forward_pre_hooks]
    if hooked:
        raise ValueError(
            f"model hooks = {' '.join(hooked)}: must be none, since no analysis would run them; "
            "model.reset_hooks(including_permanent=True) removes those of TransformerLens"
        )
    config = ModelConfig(
        n_layers=cfg.n_layers,
        n_heads=cfg.n_heads,
        d_model=cfg.d_model,
        d_head=cfg.d_head,
        d_mlp=cfg.d_mlp,
        act_fn=cfg.act_fn,  # pyright: ignore[reportArgumentType]
        normalization="LN" if cfg.normalization_type == "LN" else "none",
        biases=True,
    )
    from_hooked(model, config)
    return config


def _served(cfg: Any) -> dict[str, tuple[object, ...]]:
    """Values of each option that our forward pass serves: an option that nobody looked at must be at its default."""
    free = (*_SIZES, *_WITHOUT_EFFECT)
    fields = dataclasses.fields(cfg)
    served: dict[str, tuple[object, ...]] = {field.name: (field.default,) for field in fields if field.name not in free}
    return served | {
        "normalization_type": ("LN", None),
        "act_fn": tuple(ACTIVATIONS),
        "attn_scale": (math.sqrt(cfg.d_head),),
    }


@torch.no_grad()
def _check_logits(model: "HookedTransformer", copied: Model) -> None:
    """
    Raises:
        ValueError: a logit is not that of our forward pass.
    """
    tokens = _every_token(model.cfg.d_vocab, model.cfg.n_ctx, model.cfg.d_vocab_out)
    tokens = tokens.to(model.W_E.device)
    theirs = model(tokens).flatten(0, 1)
    ours = forward(copied, tokens)
    rounding = 100 * torch.finfo(ours.dtype).eps * theirs.abs()
    difference = (ours - theirs).abs()
    is_off = ~(difference <= MAX_DIFFERENCE + rounding)  # what is not a number is off
    if is_off.any():
        worst = float(difference[is_off].max())
        raise ValueError(
            f"model logits = off by {worst:.2g}: must be those of a plain transformer of these options and weights, "
            f"to {MAX_DIFFERENCE:g}; its code or its weights do something else"
        )


def _every_token(d_vocab: int, n_ctx: int, d_vocab_out: int) -> Int[Tensor, "row pos"]:
    """Rows of all positions with every token in them; where that is too much, fewer positions, then fewer tokens."""
    n_pos = max(1, min(n_ctx, MAX_LOGITS // d_vocab_out))
    n_rows = max(1, min(math.ceil(d_vocab / n_pos), MAX_LOGITS // (d_vocab_out * n_pos)))
    order = torch.randperm(d_vocab, generator=torch.Generator().manual_seed(0))
    return order[torch.arange(n_rows * n_pos) % d_vocab].view(n_rows, n_pos)
