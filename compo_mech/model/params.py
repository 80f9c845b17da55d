"""Parameters, their initialisation, and `Model`: parameters with the configuration that they belong to.

Parameters are a plain dictionary under HookedTransformer's own names and shapes, without the
ones that the configuration does not have (biases where they are off). Keys and values that heads
share are `W_K`, `W_V`, `b_K` and `b_V` like any others, which HookedTransformer then calls `_W_K`.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from compo_mech.data.tokenizer import Tokenizer
from compo_mech.model.config import MANY_POSITIONS, ModelConfig, parameter_shapes
from compo_mech.model.relevance import Backward

Params = dict[str, Tensor]
"""Parameters by HookedTransformer's names: `embed.W_E`, `blocks.0.attn.W_Q`, ..."""


def _gelu_tanh(x: Float[Tensor, "*row neuron"]) -> Float[Tensor, "*row neuron"]:
    return F.gelu(x, approximate="tanh")


def _solu(x: Float[Tensor, "*row neuron"]) -> Float[Tensor, "*row neuron"]:
    return x * x.softmax(-1)


ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_new": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "relu": F.relu,
    "relu2": lambda x: F.relu(x).square(),
    "silu": F.silu,
    "solu": _solu,
}
"""Nonlinearities of MLPs by TransformerLens' names, three of which are one function written in three ways."""


_OPTIONS = {
    name: get_args(ModelConfig.model_fields[name].annotation)
    for name in ("act_fn", "normalization", "positional_embedding")
}


def init_params(config: ModelConfig, d_vocab: int, n_ctx: int, generator: torch.Generator) -> Params:
    """Draw random parameters. Biases start at 0 and gains at 1.

    Source of the reference's initialisation: torch's defaults for nn.Embedding and nn.Linear,
    which the public code of Cabannes et al. 2024 uses unchanged.

    Example:
        >>> from compo_mech.model import ModelConfig, init_params
        >>> params = init_params(ModelConfig(d_model=8), 6, 9, torch.Generator().manual_seed(0))
        >>> params["embed.W_E"].shape, params["ln_final.w"].tolist()
        (torch.Size([6, 8]), [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
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
            if config.tie_word_embeddings:  # logits are then of size 1, and not sqrt(d_model)
                params[name] /= math.sqrt(config.d_model)
        else:
            # of the whole linear map: a head's W_O is a slice of one with n_heads * d_head inputs
            fan_in = shape[0] * shape[1] if last == "W_O" else shape[-2]
            params[name] = (2 * torch.rand(shape, generator=generator, device=device) - 1) / math.sqrt(fan_in)
    if config.n_pos_dims is not None:
        params["pos_embed.W_pos"][:, config.n_pos_dims :] = 0
    return params


def gradient_masks(config: ModelConfig, params: Params) -> dict[str, Float[Tensor, "..."]]:
    """Return masks of the parameters of which only some entries are trained: 1 where an entry is.

    Example:
        >>> from compo_mech.model import ModelConfig, gradient_masks, init_params
        >>> config = ModelConfig(d_model=4, n_pos_dims=2)
        >>> params = init_params(config, 6, 9, torch.Generator().manual_seed(0))
        >>> gradient_masks(config, params)["pos_embed.W_pos"][0].tolist()
        [1.0, 1.0, 0.0, 0.0]
    """
    if config.n_pos_dims is None:
        return {}
    mask = torch.zeros_like(params["pos_embed.W_pos"])
    mask[..., : config.n_pos_dims] = 1
    return {"pos_embed.W_pos": mask}


def check_dtype(what: str, params: Iterable[Tensor]) -> None:
    """Refuse parameters that are not all float32 or all float64.

    Raises:
        ValueError: they are of another dtype, or of several.
    """
    dtypes = sorted({str(param.dtype) for param in params})
    if dtypes not in (["torch.float32"], ["torch.float64"]):
        raise ValueError(f"{what} dtype = {' '.join(dtypes)}: must be torch.float32 or torch.float64 throughout")


def check_dense(what: str, params: Params) -> None:
    """Refuse parameters that are not written out: sparse ones, and those of the device `meta`, which have no values.

    Raises:
        ValueError: they are not written out, or one is empty.
    """
    for name, param in params.items():
        if param.is_meta or param.layout != torch.strided:
            kind = "on meta" if param.is_meta else str(param.layout)
            raise ValueError(f"{what}.{name} = {kind}: must be a dense tensor with values")
        if not param.numel():
            raise ValueError(f"{what}.{name} = of shape {tuple(param.shape)}: must have at least one entry")


@dataclass(frozen=True)
class Model:
    """Parameters with the configuration that they belong to.

    Attributes:
        params, config: of the network.
        tokenizer: between text and its tokens; None: it reads token ids alone.
        backward: what flows back through its steps: derivatives, or coefficients of relevance propagation.

    Raises:
        ValueError: the configuration has an option that analyses cannot follow.

    Example:
        >>> from compo_mech.model import Model, ModelConfig, init_params
        >>> config = ModelConfig(d_model=8)
        >>> model = Model(init_params(config, 6, 9, torch.Generator().manual_seed(0)), config)
        >>> model.d_vocab, model.n_ctx
        (6, 9)
    """

    params: Params
    config: ModelConfig
    tokenizer: Tokenizer | None = field(default=None, compare=False, repr=False)
    backward: Backward = field(default="gradient", repr=False)

    def __post_init__(self) -> None:
        for name, known in _OPTIONS.items():
            if getattr(self.config, name) not in known:
                raise ValueError(f"{name} = {getattr(self.config, name)!r}: must be one of {', '.join(known)}")

    @classmethod
    def of(cls, source: object) -> "Model":
        """Bring in any network that can be followed, which one forward pass decides: over every token and position, or
        some of a very large network's.

        Args:
            source: a HookedTransformer, a TransformerBridge (of TransformerLens 3.9 or 4.x), a `Run`, of which the last
                checkpoint is taken, parameters with their configuration, or a Model, which is returned as it is.

        Raises:
            ValueError: it is of another kind, or has an option, a hook, a dtype or a forward pass that cannot be
                followed.

        Example:
            >>> from compo_mech.model import Model, ModelConfig, init_params
            >>> config = ModelConfig(d_model=8)
            >>> model = Model.of((init_params(config, 6, 9, torch.Generator().manual_seed(0)), config))
            >>> Model.of(model) is model
            True
            >>> Model.of("runs/parity-seed0")
            Traceback (most recent call last):
            ValueError: model = a str: must be a HookedTransformer, a TransformerBridge, a Run, (params, config) or a \
Model; Run.open reads the folder of a run
        """
        return _doors[-1](source)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.params["embed.W_E"].device

    @property
    def d_vocab(self) -> int:
        """How many tokens the network knows."""
        return self.params["embed.W_E"].shape[0]

    @property
    def n_ctx(self) -> int:
        """How many positions the network knows: those of its table, or, where it has none, of its configuration."""
        if self.config.positional_embedding == "standard":
            return self.params["pos_embed.W_pos"].shape[0]
        return self.config.n_ctx or MANY_POSITIONS


_doors: list[Callable[[object], Model]] = []


def door(opens: Callable[[object], Model]) -> Callable[[object], Model]:
    """Make this function what `Model.of` calls. It builds what is defined here, and so cannot be imported here.

    Args:
        opens: returns any network that can be followed as a `Model`.
    """
    _doors.append(opens)
    return opens
