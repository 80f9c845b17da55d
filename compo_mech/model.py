"""ModelConfig -> parameters -> a real HookedTransformer.

Parameters are a plain dictionary under HookedTransformer's own names and shapes, without the
ones that the configuration does not have (biases where they are off). transformer_lens takes
seconds to import, so it is imported only where a HookedTransformer is built.
"""

import math
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from compo_mech.settings import Settings

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Params = dict[str, Tensor]
"""Parameters by HookedTransformer's names: `embed.W_E`, `blocks.0.attn.W_Q`, ..."""


class ModelConfig(Settings):
    """The network. Its vocabulary comes from the tasks; TransformerLens' names throughout."""

    n_layers: int = Field(default=2, gt=0, le=1000, description="transformer blocks")
    n_heads: int = Field(default=1, gt=0, description="attention heads a layer")
    d_model: int = Field(default=64, gt=0, description="width of the residual stream")
    d_head: int | None = Field(default=None, gt=0, description="width of a head; None: d_model / n_heads")
    d_mlp: int | None = Field(default=None, gt=0, description="neurons of each MLP; None: 4 d_model")
    n_ctx: int | None = Field(default=None, gt=0, description="positions; None: as many as the data needs")
    act_fn: Literal["gelu", "relu", "silu"] = Field(default="gelu", description="activation (gelu is the exact one)")
    normalization: Literal["LN", "none"] = Field(default="LN", description="LayerNorm before each part, or none")
    biases: bool = Field(default=False, description="biases everywhere, or nowhere")
    init: Literal["reference", "transformer_lens"] = Field(
        default="reference",
        description="reference: embeddings N(0, 1), other matrices U(-1, 1) / sqrt(fan_in); "
        "transformer_lens: every matrix N(0, 0.64 / d_model)",
    )
    n_pos_dims: int | None = Field(
        default=None, gt=0, description="position embeddings live in the first n dimensions; None: in all"
    )
    freeze: tuple[str, ...] = Field(
        default=(), description="parts that stay as initialised, by name or prefix: pos_embed blocks.0.attn ..."
    )

    @property
    def head_width(self) -> int:
        return self.d_head or self.d_model // self.n_heads

    @property
    def mlp_width(self) -> int:
        return self.d_mlp or 4 * self.d_model

    @model_validator(mode="after")
    def _consistent(self) -> "ModelConfig":
        if self.d_head is None and self.d_model % self.n_heads:
            raise ValueError(f"d_model = {self.d_model}: must be divisible by n_heads = {self.n_heads}")
        if self.n_pos_dims is not None and self.n_pos_dims > self.d_model:
            raise ValueError(f"n_pos_dims = {self.n_pos_dims}: must be at most d_model = {self.d_model}")
        names = parameter_shapes(self, d_vocab=1, n_ctx=1)
        for part in self.freeze:
            if not any(_is_part(name, part) for name in names):
                raise ValueError(f"freeze = {part}: must be one of {', '.join(_parts(names))}")
        return self


def _is_part(name: str, part: str) -> bool:
    return name == part or name.startswith(part + ".")


def _parts(names: dict[str, tuple[int, ...]]) -> list[str]:
    """Parts as people freeze them: embeddings, blocks, their attention and MLP, the rest."""
    parts: list[str] = []
    for name in names:
        words = name.split(".")
        for depth in range(1, len(words)):
            part = ".".join(words[:depth])
            if part not in parts and part != "blocks":
                parts.append(part)
    return parts


def parameter_shapes(config: ModelConfig, d_vocab: int, n_ctx: int) -> dict[str, tuple[int, ...]]:
    """Shape of every parameter, in the order of HookedTransformer's state dict."""
    d, h, d_head, d_mlp = config.d_model, config.n_heads, config.head_width, config.mlp_width
    shapes: dict[str, tuple[int, ...]] = {"embed.W_E": (d_vocab, d), "pos_embed.W_pos": (n_ctx, d)}
    for layer in range(config.n_layers):
        block = f"blocks.{layer}"
        shapes |= {f"{block}.ln1.w": (d,), f"{block}.ln1.b": (d,), f"{block}.ln2.w": (d,), f"{block}.ln2.b": (d,)}
        shapes |= {f"{block}.attn.W_{x}": (h, d, d_head) for x in "QKV"}
        shapes |= {f"{block}.attn.W_O": (h, d_head, d)}
        shapes |= {f"{block}.attn.b_{x}": (h, d_head) for x in "QKV"}
        shapes |= {f"{block}.attn.b_O": (d,)}
        shapes |= {f"{block}.mlp.W_in": (d, d_mlp), f"{block}.mlp.b_in": (d_mlp,)}
        shapes |= {f"{block}.mlp.W_out": (d_mlp, d), f"{block}.mlp.b_out": (d,)}
    shapes |= {"ln_final.w": (d,), "ln_final.b": (d,), "unembed.W_U": (d, d_vocab), "unembed.b_U": (d_vocab,)}

    def exists(name: str) -> bool:
        part, last = name.split(".")[-2:]
        if part.startswith("ln") and config.normalization == "none":
            return False
        return config.biases or not last.startswith("b")

    return {name: shape for name, shape in shapes.items() if exists(name)}


def init_params(config: ModelConfig, d_vocab: int, n_ctx: int, generator: torch.Generator) -> Params:
    """Random parameters. Biases start at 0 and gains at 1.

    Source of the reference's initialisation: torch's defaults for nn.Embedding and nn.Linear,
    which the public code of Cabannes et al. 2024 uses unchanged.
    """
    params: Params = {}
    device = generator.device
    for name, shape in parameter_shapes(config, d_vocab, n_ctx).items():
        last = name.split(".")[-1]
        if last.startswith("b"):
            params[name] = torch.zeros(shape, device=device)
        elif last == "w":
            params[name] = torch.ones(shape, device=device)
        elif config.init == "transformer_lens":
            params[name] = torch.randn(shape, generator=generator, device=device) * 0.8 / math.sqrt(config.d_model)
        elif last in ("W_E", "W_pos"):
            params[name] = torch.randn(shape, generator=generator, device=device)
        else:
            # of the whole linear map: a head's W_O is a slice of one with n_heads * d_head inputs
            fan_in = shape[0] * shape[1] if last == "W_O" else shape[-2]
            params[name] = (2 * torch.rand(shape, generator=generator, device=device) - 1) / math.sqrt(fan_in)
    if config.n_pos_dims is not None:
        params["pos_embed.W_pos"][:, config.n_pos_dims :] = 0
    return params


def is_frozen(config: ModelConfig, name: str) -> bool:
    """Whether this parameter stays as it was initialised."""
    return any(_is_part(name, part) for part in config.freeze)


def gradient_masks(config: ModelConfig, params: Params) -> dict[str, Float[Tensor, "..."]]:
    """For parameters that may move only in part: 1 where they may."""
    if config.n_pos_dims is None:
        return {}
    mask = torch.zeros_like(params["pos_embed.W_pos"])
    mask[..., : config.n_pos_dims] = 1
    return {"pos_embed.W_pos": mask}


def to_hooked(params: Params, config: ModelConfig) -> "HookedTransformer":
    """The HookedTransformer with these parameters, on their device. Biases that are off are 0."""
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
    """The parameters of a HookedTransformer of this configuration, copied."""
    state = model.state_dict()
    names = parameter_shapes(config, model.cfg.d_vocab, model.cfg.n_ctx)
    return {name: state[name].detach().clone() for name in names}


def config_of(model: "HookedTransformer") -> ModelConfig:
    """The configuration of any HookedTransformer that the analyses can follow.

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
