"""Every activation of one run, and the steps from one to the next: what patches start from and go on with."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.counterfactuals import Pairs
from compo_mech.forward import ACTIVATIONS
from compo_mech.graph import Model, bias_of, check_pairs, norm_of


@dataclass(frozen=True)
class Trace:
    """Every activation of one run, one entry a layer.

    Attributes:
        resid_pre, resid_mid, resid_post: the residual stream before, between and after the parts.
        q, k, v, z: of all heads.
        pattern: attention weights.
        attn_out, mlp_out: what the parts add.
        logits: at every position.
    """

    resid_pre: list[Float[Tensor, "batch pos d_model"]]
    resid_mid: list[Float[Tensor, "batch pos d_model"]]
    resid_post: list[Float[Tensor, "batch pos d_model"]]
    q: list[Float[Tensor, "batch head pos d_head"]]
    k: list[Float[Tensor, "batch head pos d_head"]]
    v: list[Float[Tensor, "batch head pos d_head"]]
    z: list[Float[Tensor, "batch head pos d_head"]]
    pattern: list[Float[Tensor, "batch head pos pos"]]
    attn_out: list[Float[Tensor, "batch pos d_model"]]
    mlp_out: list[Float[Tensor, "batch pos d_model"]]
    logits: Float[Tensor, "batch pos d_vocab"]


@torch.no_grad()
def trace(model: Model, tokens: Int[Tensor, "batch pos"], positions: Int[Tensor, "batch pos"]) -> Trace:
    """Run the network and keep everything."""
    params, n_pos = model.params, tokens.shape[1]
    kept: dict[str, list[Tensor]] = {name: [] for name in Trace.__dataclass_fields__ if name != "logits"}
    stream = params["embed.W_E"][tokens] + params["pos_embed.W_pos"][positions]
    for layer in range(model.config.n_layers):
        q, k, v = project_qkv(model, layer, stream)
        pattern = attention_pattern(model, q, k, torch.arange(n_pos, device=tokens.device))
        z = pattern @ v
        attn_out = attn_out_of(model, layer, z)
        mid = stream + attn_out
        mlp_out = mlp_out_of(model, layer, mid)
        post = mid + mlp_out
        values = (stream, mid, post, q, k, v, z, pattern, attn_out, mlp_out)
        for name, value in zip(kept, values, strict=True):
            kept[name].append(value)
        stream = post
    return Trace(**kept, logits=logits_of(model, stream))  # pyright: ignore[reportArgumentType]


def project_qkv(model: Model, layer: int, stream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of all heads of a layer."""
    normed = norm_of(model, f"blocks.{layer}.ln1", stream)[:, None]  # a place for the heads
    attention = f"blocks.{layer}.attn"

    def project(which: str) -> Tensor:
        bias = bias_of(model.params, f"{attention}.b_{which}")
        return normed @ model.params[f"{attention}.W_{which}"] + (bias[:, None] if isinstance(bias, Tensor) else bias)

    return project("Q"), project("K"), project("V")


def attention_pattern(model: Model, q: Tensor, k: Tensor, query_positions: Tensor) -> Tensor:
    """Attention weights of some query rows."""
    keys = torch.arange(k.shape[-2], device=k.device)
    scores = q @ k.mT / math.sqrt(model.config.head_width)
    return scores.masked_fill(keys > query_positions[:, None], -torch.inf).softmax(-1)


def attn_out_of(model: Model, layer: int, z: Tensor) -> Tensor:
    """What the heads of a layer add."""
    weight = model.params[f"blocks.{layer}.attn.W_O"].flatten(0, 1)
    return z.transpose(1, 2).flatten(2) @ weight + bias_of(model.params, f"blocks.{layer}.attn.b_O")


def mlp_out_of(model: Model, layer: int, mid: Tensor) -> Tensor:
    """What the MLP of a layer adds."""
    mlp, params = f"blocks.{layer}.mlp", model.params
    normed = norm_of(model, f"blocks.{layer}.ln2", mid)
    hidden = ACTIVATIONS[model.config.act_fn](normed @ params[f"{mlp}.W_in"] + bias_of(params, f"{mlp}.b_in"))
    return hidden @ params[f"{mlp}.W_out"] + bias_of(params, f"{mlp}.b_out")


def logits_of(model: Model, stream: Tensor) -> Tensor:
    """Logits from the last stream."""
    return norm_of(model, "ln_final", stream) @ model.params["unembed.W_U"] + bias_of(model.params, "unembed.b_U")


def both_traces(model: Model, pairs: Pairs) -> tuple[Trace, Trace]:
    """The clean and the corrupt run.

    Raises:
        ValueError: the model cannot read the pairs.
    """
    check_pairs(model, pairs)
    return (
        trace(model, pairs.clean_tokens, pairs.clean_positions),
        trace(model, pairs.corrupt_tokens, pairs.corrupt_positions),
    )
