"""The mathematics of a transformer block."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.model.config import ModelConfig
from compo_mech.model.params import ACTIVATIONS, Params

LAYER_NORM_EPS = 1e-5  # TransformerLens' default


def norm(params: Params, config: ModelConfig, name: str, x: Float[Tensor, "row d_model"]) -> Tensor:
    if config.normalization == "none":
        return x
    return F.layer_norm(x, x.shape[-1:], params[f"{name}.w"], params.get(f"{name}.b"), LAYER_NORM_EPS)


def logits(params: Params, config: ModelConfig, x: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_vocab"]:
    logits = norm(params, config, "ln_final", x) @ params["unembed.W_U"]
    return logits + params["unembed.b_U"] if config.biases else logits


def mlp(params: Params, config: ModelConfig, block: str, x: Float[Tensor, "row d_model"]) -> Tensor:
    hidden = x @ params[f"{block}.mlp.W_in"]
    if config.biases:
        hidden = hidden + params[f"{block}.mlp.b_in"]
    out = ACTIVATIONS[config.act_fn](hidden) @ params[f"{block}.mlp.W_out"]
    return out + params[f"{block}.mlp.b_out"] if config.biases else out


def heads_out(
    params: Params, config: ModelConfig, block: str, z: Float[Tensor, "row width"]
) -> Float[Tensor, "row d_model"]:
    out = z @ params[f"{block}.attn.W_O"].flatten(0, 1)
    return out + params[f"{block}.attn.b_O"] if config.biases else out


def project(
    params: Params, config: ModelConfig, block: str, which: str, x: Float[Tensor, "row d_model"]
) -> Float[Tensor, "row width"]:
    """Queries, keys or values of all heads side by side."""
    weight = params[f"{block}.attn.W_{which}"]
    out = x @ (weight[0] if config.n_heads == 1 else weight.transpose(0, 1).flatten(1))
    return out + params[f"{block}.attn.b_{which}"].flatten() if config.biases else out


def grid(
    x: Float[Tensor, "row width"], slot_row: Int[Tensor, "slot"] | None, shape: tuple[int, int], n_heads: int
) -> Float[Tensor, "batch head pos d_head"]:
    """Packed rows on the padded grid, one head apart from the other."""
    if slot_row is not None:
        x = x.index_select(0, slot_row)
    return x.unflatten(0, shape).unflatten(-1, (n_heads, -1)).transpose(1, 2)
