"""Norms of the residual stream: LayerNorm and RMSNorm, with gains and biases or with these folded in."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from compo_mech.model import relevance
from compo_mech.model.params import Model


def norm(model: Model, name: str, x: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_model"]:
    """Pass the stream through the norm of that name (`blocks.0.ln1`, `ln_final`), if there is one."""
    if model.config.normalization == "none":
        return x
    weight = model.params.get(f"{name}.w")
    if model.backward != "gradient":
        return relevance.normed(x, centres(model, name), weight, model.params.get(f"{name}.b"), model.config.eps)
    if centres(model, name):
        return F.layer_norm(x, x.shape[-1:], weight, model.params.get(f"{name}.b"), model.config.eps)
    return F.rms_norm(x, x.shape[-1:], weight, model.config.eps)


def centres(model: Model, name: str) -> bool:
    """Tell whether the norm of that name is a LayerNorm, which subtracts the mean, and not an RMSNorm or none."""
    return model.config.normalization in ("LN", "LNPre") and not (name == "ln_final" and model.config.final_rms)


def norm_size(model: Model, name: str, x: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row 1"]:
    """Return what the norm of that name divides the stream by: 1 where there is none."""
    if model.config.normalization == "none":
        return torch.ones_like(x[..., :1])
    if centres(model, name):
        x = x - x.mean(-1, keepdim=True)
    return (x.square().mean(-1, keepdim=True) + model.config.eps).sqrt()
