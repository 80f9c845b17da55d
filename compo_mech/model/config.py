"""ModelConfig, and the shapes of the parameters that it has."""

import math
from typing import Literal

from pydantic import Field, model_validator

from compo_mech.settings import Settings

ActFn = Literal["gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu", "relu2", "silu", "solu"]
"""TransformerLens' plain nonlinearities; those with parameters or a norm of their own are not served."""

MANY_POSITIONS = 2**20
"""That a network without a table of positions is taken to know where `n_ctx` is not set."""


class ModelConfig(Settings):
    """The network. Its vocabulary comes from the tasks; TransformerLens' names throughout.

    Biases are everywhere or nowhere. A network with biases in some parts alone is one with biases everywhere, those of
    the other parts being 0: its logits and the gradients of all that it has are the same.

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
    act_fn: ActFn = Field(default="gelu", description="activation (gelu is the exact one)")
    gated_mlp: bool = Field(default=False, description="the activation of one linear map is multiplied by another's")
    attn_only: bool = Field(default=False, description="no MLPs")
    parallel_attn_mlp: bool = Field(default=False, description="the MLP reads what attention reads")
    normalization: Literal["LN", "LNPre", "RMS", "RMSPre", "none"] = Field(
        default="LN", description="before each component; LNPre and RMSPre: without gains and biases, as when folded in"
    )
    final_rms: bool = Field(default=False, description="RMSNorm before the unembedding, LayerNorm elsewhere")
    eps: float = Field(default=1e-5, ge=0, le=1, description="added to the mean square that a norm divides by")
    n_key_value_heads: int | None = Field(
        default=None, gt=0, le=10**12, description="keys and values, each shared by as many heads; None: one a head"
    )
    use_qk_norm: bool = Field(default=False, description="RMSNorm of each head's queries and keys")
    attn_scale: float | None = Field(
        default=None, gt=0, le=1e18, description="attention scores are divided by it; None: by sqrt(d_head)"
    )
    attention_dir: Literal["causal", "bidirectional"] = Field(
        default="causal", description="a row attends to itself and earlier ones, or to all; runs are causal"
    )
    positional_embedding: Literal["standard", "rotary", "none"] = Field(
        default="standard",
        description="standard: learned, added to the token's; rotary: queries and keys are rotated; none: causal order",
    )
    rotary_dim: int | None = Field(
        default=None, gt=0, le=10**12, description="dimensions of a head that are rotated, the first; None: all"
    )
    rotary_base: float = Field(
        default=10000.0, ge=1, le=1e18, description="base of the geometric series of wavelengths"
    )
    rotary_adjacent_pairs: bool = Field(
        default=False, description="rotate neighbouring dimensions together, else each with one half of them away"
    )
    tie_word_embeddings: bool = Field(default=False, description="the unembedding is the token embedding transposed")
    biases: bool = Field(default=False, description="biases everywhere, or nowhere")
    init: Literal["reference", "transformer_lens"] = Field(
        default="reference",
        description="reference: embeddings N(0, 1), N(0, 1 / d_model) if tied, others U(-1, 1) / sqrt(fan_in); "
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

    def largest_product(self, n_rows: int) -> float:
        """How many operations the largest matrix product of a block takes for so many rows.

        Example:
            >>> from compo_mech.model import ModelConfig
            >>> ModelConfig(d_model=8).largest_product(10), ModelConfig(d_model=8, attn_only=True).largest_product(10)
            (5120.0, 1280.0)
        """
        widest = self.d_model if self.attn_only else max(self.d_model, self.mlp_width)
        return 2.0 * n_rows * self.d_model * widest

    @property
    def n_kv_heads(self) -> int:
        """How many heads of keys and values there are, each with `n_heads / n_kv_heads` heads of queries."""
        return self.n_key_value_heads or self.n_heads

    @property
    def n_sharing(self) -> int:
        """How many heads share a head of keys and values."""
        return self.n_heads // self.n_kv_heads

    @property
    def score_scale(self) -> float:
        """What attention scores are divided by."""
        return self.attn_scale or math.sqrt(self.head_width)

    @property
    def rotated_width(self) -> int:
        """How many dimensions of a head are rotated."""
        return self.rotary_dim or self.head_width

    @model_validator(mode="after")
    def _consistent(self) -> "ModelConfig":
        if self.d_head is None and self.d_model % self.n_heads:
            raise ValueError(f"d_model = {self.d_model}: must be divisible by n_heads = {self.n_heads}")
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_key_value_heads = {self.n_kv_heads}: must divide n_heads = {self.n_heads}")
        if self.n_pos_dims is not None and self.n_pos_dims > self.d_model:
            raise ValueError(f"n_pos_dims = {self.n_pos_dims}: must be at most d_model = {self.d_model}")
        self._check_positions()
        for name in ("gated_mlp", "parallel_attn_mlp"):
            if self.attn_only and getattr(self, name):
                raise ValueError(f"{name} = True: must be False with attn_only = True, where there is no MLP")
        if self.final_rms and self.normalization not in ("LN", "LNPre"):
            raise ValueError(f"final_rms = True: goes with normalization = LN or LNPre, which is {self.normalization}")
        names = parameter_shapes(self, d_vocab=1, n_ctx=1)
        for part in self.freeze:
            if not any(_is_part(name, part) for name in names):
                raise ValueError(f"freeze = {part}: must be one of {', '.join(_parts(names))}")
        return self

    def _check_positions(self) -> None:
        """Refuse settings of one kind of position embedding with another.

        Raises:
            ValueError: one is set that has no effect, or rotation that no head has room for.
        """
        if self.n_pos_dims is not None and self.positional_embedding != "standard":
            raise ValueError(f"n_pos_dims = {self.n_pos_dims}: goes with positional_embedding = standard only")
        if self.positional_embedding == "rotary":
            width = self.rotated_width
            if width % 2 or width > self.head_width:
                raise ValueError(f"rotary_dim = {width}: must be even, and at most d_head = {self.head_width}")
        elif self.rotary_dim is not None:
            raise ValueError(f"rotary_dim = {self.rotary_dim}: goes with positional_embedding = rotary only")


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
    d, h, h_kv, d_head, d_mlp = config.d_model, config.n_heads, config.n_kv_heads, config.head_width, config.mlp_width
    shapes: dict[str, tuple[int, ...]] = {"embed.W_E": (d_vocab, d)}
    if config.positional_embedding == "standard":
        shapes["pos_embed.W_pos"] = (n_ctx, d)
    for layer in range(config.n_layers):
        block = f"blocks.{layer}"
        shapes |= {f"{block}.ln1.w": (d,), f"{block}.ln1.b": (d,)}
        if not config.attn_only:
            shapes |= {f"{block}.ln2.w": (d,), f"{block}.ln2.b": (d,)}
        shapes |= {f"{block}.attn.W_Q": (h, d, d_head)} | {f"{block}.attn.W_{x}": (h_kv, d, d_head) for x in "KV"}
        shapes |= {f"{block}.attn.W_O": (h, d_head, d)}
        shapes |= {f"{block}.attn.b_Q": (h, d_head)} | {f"{block}.attn.b_{x}": (h_kv, d_head) for x in "KV"}
        shapes |= {f"{block}.attn.b_O": (d,)}
        if config.use_qk_norm:
            shapes |= {f"{block}.attn.{x}_norm.w": (d_head,) for x in "qk"}
        if not config.attn_only:
            shapes |= {f"{block}.mlp.W_gate": (d, d_mlp)} if config.gated_mlp else {}
            shapes |= {f"{block}.mlp.W_in": (d, d_mlp), f"{block}.mlp.b_in": (d_mlp,)}
            shapes |= {f"{block}.mlp.W_out": (d_mlp, d), f"{block}.mlp.b_out": (d,)}
    shapes |= {"ln_final.w": (d,), "ln_final.b": (d,)}
    shapes |= {} if config.tie_word_embeddings else {"unembed.W_U": (d, d_vocab)}
    shapes |= {"unembed.b_U": (d_vocab,)}
    return {name: shape for name, shape in shapes.items() if _exists(config, name)}


def fits(name: str, found: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Tell whether a parameter has its shape of `parameter_shapes`; there may be more or fewer logits than tokens.

    Example:
        >>> from compo_mech.model.config import fits
        >>> fits("unembed.W_U", (8, 3), (8, 6)), fits("embed.W_E", (3, 8), (6, 8))
        (True, False)
    """
    n = len(shape) - name.startswith("unembed.")
    return len(found) == len(shape) and found[:n] == shape[:n]


def _exists(config: ModelConfig, name: str) -> bool:
    """Whether a norm has this gain or bias, and a linear map its bias."""
    part, last = name.split(".")[-2:]
    if part.startswith("ln"):
        is_rms = config.normalization == "RMS" or (part == "ln_final" and config.final_rms)
        if config.normalization not in ("LN", "RMS") or (is_rms and last == "b"):
            return False
    return config.biases or not last.startswith("b")


def is_frozen(config: ModelConfig, name: str) -> bool:
    """Whether this parameter stays as it was initialised.

    Example:
        >>> from compo_mech.model import ModelConfig, is_frozen
        >>> config = ModelConfig(freeze=("blocks.0.attn",))
        >>> is_frozen(config, "blocks.0.attn.W_Q"), is_frozen(config, "blocks.0.mlp.W_in")
        (True, False)
    """
    return any(_is_part(name, part) for part in config.freeze)
