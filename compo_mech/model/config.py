"""ModelConfig, and the shapes of the parameters that it has."""

from typing import Literal

from pydantic import Field, model_validator

from compo_mech.settings import Settings


class ModelConfig(Settings):
    """The network. Its vocabulary comes from the tasks; TransformerLens' names throughout.

    Example:
        >>> from compo_mech.model import ModelConfig
        >>> config = ModelConfig(d_model=32, n_heads=2)
        >>> config.head_width, config.mlp_width
        (16, 128)
    """

    n_layers: int = Field(default=2, gt=0, le=1000, description="transformer blocks")
    n_heads: int = Field(default=1, gt=0, le=10**12, description="attention heads a layer")
    d_model: int = Field(default=64, gt=0, le=10**12, description="width of the residual stream")
    d_head: int | None = Field(default=None, gt=0, le=10**12, description="width of a head; None: d_model / n_heads")
    d_mlp: int | None = Field(default=None, gt=0, le=10**12, description="neurons of each MLP; None: 4 d_model")
    n_ctx: int | None = Field(default=None, gt=0, le=10**12, description="positions; None: as many as the data needs")
    act_fn: Literal["gelu", "relu", "silu"] = Field(default="gelu", description="activation (gelu is the exact one)")
    normalization: Literal["LN", "none"] = Field(default="LN", description="LayerNorm before each component, or none")
    biases: bool = Field(default=False, description="biases everywhere, or nowhere")
    init: Literal["reference", "transformer_lens"] = Field(
        default="reference",
        description="reference: embeddings N(0, 1), other matrices U(-1, 1) / sqrt(fan_in); "
        "transformer_lens: every matrix N(0, 0.64 / d_model)",
    )
    n_pos_dims: int | None = Field(
        default=None, gt=0, le=10**12, description="position embeddings live in the first n dimensions; None: in all"
    )
    freeze: tuple[str, ...] = Field(
        default=(), description="components that stay as initialised, by name or prefix: pos_embed blocks.0.attn ..."
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
    """Names that `freeze` takes: embeddings, blocks, their attention and MLP, the rest."""
    parts: list[str] = []
    for name in names:
        words = name.split(".")
        for depth in range(1, len(words)):
            part = ".".join(words[:depth])
            if part not in parts and part != "blocks":
                parts.append(part)
    return parts


def parameter_shapes(config: ModelConfig, d_vocab: int, n_ctx: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter, in the order of HookedTransformer's state dict.

    Example:
        >>> from compo_mech.model import ModelConfig, parameter_shapes
        >>> parameter_shapes(ModelConfig(d_model=32, n_heads=2), d_vocab=6, n_ctx=9)["blocks.0.attn.W_Q"]
        (2, 32, 16)
    """
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


def is_frozen(config: ModelConfig, name: str) -> bool:
    """Whether this parameter stays as it was initialised.

    Example:
        >>> from compo_mech.model import ModelConfig, is_frozen
        >>> config = ModelConfig(freeze=("blocks.0.attn",))
        >>> is_frozen(config, "blocks.0.attn.W_Q"), is_frozen(config, "blocks.0.mlp.W_in")
        (True, False)
    """
    return any(_is_part(name, part) for part in config.freeze)
