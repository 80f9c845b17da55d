"""The mathematics of the network, each step once: embeddings, norms, attention, MLP, logits.

Everything that runs a network is put together from these: the packed forward pass, generation, the graph of
writers and readers, traces and the patches that go on from them. They work under torch.func's grad and vmap.
Steps are named after TransformerLens' hook points.

Example:
    >>> from compo_mech.model import blocks
    >>> seen = blocks.causal(torch.arange(2), n_keys=2)
    >>> blocks.pattern(torch.zeros(2, 2), seen).tolist()
    [[1.0, 0.0], [0.5, 0.5]]
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from compo_mech.model import relevance
from compo_mech.model.norms import norm
from compo_mech.model.params import ACTIVATIONS, Model
from compo_mech.model.rotary import rotated

ROWS_AT_ONCE = 512
"""Of an MLP on a CPU: what its neurons hold then stays in the cache, which halves the time of thousands of rows."""


def token_embedding(model: Model, tokens: Int[Tensor, "*row"]) -> Float[Tensor, "*row d_model"]:
    """Look up the embedding of each token."""
    return model.params["embed.W_E"].index_select(0, tokens.flatten()).view(*tokens.shape, -1)


def position_embedding(model: Model, position_ids: Int[Tensor, "*row"]) -> Float[Tensor, "*row d_model"]:
    """Look up the embedding of each position id."""
    return model.params["pos_embed.W_pos"].index_select(0, position_ids.flatten()).view(*position_ids.shape, -1)


def embed(
    model: Model, tokens: Int[Tensor, "*row"], position_ids: Int[Tensor, "*row"]
) -> Float[Tensor, "*row d_model"]:
    """Return the residual stream in front of layer 0."""
    embedded = token_embedding(model, tokens)
    if model.config.positional_embedding != "standard":
        return embedded
    return embedded + position_embedding(model, position_ids)


def attention_input(
    model: Model, layer: int, resid_pre: Float[Tensor, "*row d_model"]
) -> Float[Tensor, "*row d_model"]:
    """Return what queries, keys and values are made from."""
    return norm(model, f"blocks.{layer}.ln1", resid_pre)


def project(
    model: Model, layer: int, which: str, normed: Float[Tensor, "*row d_model"]
) -> list[Float[Tensor, "*row width"]]:
    """Return queries (Q), keys (K) or values (V) of all heads side by side, those asked for, in one product.

    Args:
        model: the network.
        layer: whose attention it is.
        which: letters, such as `Q` or `QKV`.
        normed: from `attention_input`.
    """
    attention = f"blocks.{layer}.attn"
    weights = [model.params[f"{attention}.W_{letter}"].transpose(0, 1).flatten(1) for letter in which]
    if len(which) == 1:
        return [_with_bias(model, f"{attention}.b_{which}", normed @ weights[0])]
    found = (normed @ torch.cat(weights, 1)).split([weight.shape[1] for weight in weights], -1)
    return [_with_bias(model, f"{attention}.b_{letter}", x) for letter, x in zip(which, found, strict=True)]


def project_head(
    model: Model, layer: int, head: int, which: str, normed: Float[Tensor, "*row d_model"]
) -> Float[Tensor, "*row d_head"]:
    """Return queries (Q) of one head, or keys (K) or values (V) of one head of these."""
    x = normed @ model.params[f"blocks.{layer}.attn.W_{which}"][head]
    bias = model.params.get(f"blocks.{layer}.attn.b_{which}")
    return x if bias is None else x + bias[head]


def qkv(
    model: Model, layer: int, resid_pre: Float[Tensor, "batch pos d_model"]
) -> tuple[Float[Tensor, "batch head pos d_head"], ...]:
    """Return queries, keys and values of all heads, keys and values by their own heads."""
    found = project(model, layer, "QKV", attention_input(model, layer, resid_pre))
    return tuple(split_heads(model, x) for x in found)


def split_heads(model: Model, x: Float[Tensor, "batch pos width"]) -> Float[Tensor, "batch head pos d_head"]:
    """Put heads that are side by side one behind the other."""
    return x.unflatten(-1, (-1, model.config.head_width)).transpose(1, 2)


def merge_heads(z: Float[Tensor, "batch head pos d_head"]) -> Float[Tensor, "batch pos width"]:
    """Put heads side by side: the inverse of `split_heads`."""
    return z.transpose(1, 2).flatten(2)


def by_query_head(model: Model, x: Float[Tensor, "batch kv_head *dim"]) -> Float[Tensor, "batch head *dim"]:
    """Give each head the keys or values that it shares with others."""
    n = model.config.n_sharing
    return x if n == 1 else x.repeat_interleave(n, 1)


def scores(
    model: Model,
    layer: int,
    q: Float[Tensor, "*#head query d_head"],
    k: Float[Tensor, "*#head key d_head"],
    query_positions: Int[Tensor, "*#head #query"] | None = None,
    temperature: float = 1.0,
) -> Float[Tensor, "*head query key"]:
    """Score every key for every query.

    Args:
        model: the network.
        layer: whose attention it is.
        q, k: of one head, or of all, keys being those of `by_query_head`.
        query_positions: in the row, whose first key is at 0; None: those of the keys.
        temperature: other than 1 makes attention softer or sharper.
    """
    q, k = _normed(model, layer, "q", q), _normed(model, layer, "k", k)
    if model.config.positional_embedding == "rotary":
        keys = torch.arange(k.shape[-2], device=k.device)
        q = rotated(model.config, q, keys if query_positions is None else query_positions)
        k = rotated(model.config, k, keys)
    scores = q @ k.mT / (temperature * model.config.score_scale)
    return scores.detach() if model.backward == "relevance, attention held" else scores


def row_scores(
    model: Model,
    layer: int,
    q: Float[Tensor, "*head d_head"],
    k: Float[Tensor, "*head key d_head"],
    position: Int[Tensor, "*#head"],
    temperature: float = 1.0,
) -> Float[Tensor, "*head key"]:
    """Return the `scores` of one query row, at that position."""
    q, k = _normed(model, layer, "q", q), _normed(model, layer, "k", k)
    if model.config.positional_embedding == "rotary":
        q = rotated(model.config, q, position)
        k = rotated(model.config, k, torch.arange(k.shape[-2], device=k.device))
    return (k @ q[..., None])[..., 0] / (temperature * model.config.score_scale)


def paired_scores(
    model: Model,
    layer: int,
    q: Float[Tensor, "*#row d_head"],
    k: Float[Tensor, "*#row d_head"],
    distance: Int[Tensor, "*#row"],
    temperature: float = 1.0,
) -> Float[Tensor, "*row 1"]:
    """Score one key of its own for each query, so many positions before it."""
    q, k = _normed(model, layer, "q", q), _normed(model, layer, "k", k)
    if model.config.positional_embedding == "rotary":
        k = rotated(model.config, k, -distance)
    return (q * k).sum(-1, keepdim=True) / (temperature * model.config.score_scale)


def _normed(model: Model, layer: int, which: str, x: Float[Tensor, "*row d_head"]) -> Float[Tensor, "*row d_head"]:
    """Pass queries (q) or keys (k) through the norm that they have, if any."""
    if not model.config.use_qk_norm:
        return x
    weight = model.params[f"blocks.{layer}.attn.{which}_norm.w"]
    if model.backward != "gradient":
        return relevance.normed(x, False, weight, None, model.config.eps)
    return F.rms_norm(x, x.shape[-1:], weight, model.config.eps)


def causal(query_positions: Int[Tensor, "*query"], n_keys: int) -> Bool[Tensor, "*query key"]:
    """Return which of the first `n_keys` positions each query may see: its own and those before it."""
    return torch.arange(n_keys, device=query_positions.device) <= query_positions[..., None]


def seen(model: Model, query_positions: Int[Tensor, "*query"], n_keys: int) -> Bool[Tensor, "*query key"] | None:
    """Return which of the first `n_keys` positions each query may see; None where attention goes both ways: all."""
    return None if model.config.attention_dir == "bidirectional" else causal(query_positions, n_keys)


def check_causal(model: Model) -> None:
    """Refuse a network whose rows depend on later ones, where rows are computed from the earlier ones alone.

    Raises:
        ValueError: attention goes both ways.
    """
    if model.config.attention_dir == "bidirectional":
        raise ValueError("attention_dir = bidirectional: must be causal for what is computed row by row")


def pattern(
    scores: Float[Tensor, "*head query key"], seen: Bool[Tensor, "*#head #query key"] | None
) -> Float[Tensor, "*head query key"]:
    """Return the attention weights over the keys that each query may see; None: over all of them."""
    return (scores if seen is None else scores.masked_fill(~seen, -torch.inf)).softmax(-1)


def attn_out(model: Model, layer: int, z: Float[Tensor, "*row width"]) -> Float[Tensor, "*row d_model"]:
    """Return what the heads of a layer write together, given their z side by side (see `merge_heads`)."""
    weight = model.params[f"blocks.{layer}.attn.W_O"].flatten(0, 1)
    return _with_bias(model, f"blocks.{layer}.attn.b_O", z @ weight)


def result(
    model: Model, layer: int, z: Float[Tensor, "*batch head row d_head"]
) -> Float[Tensor, "*batch head row d_model"]:
    """Return what each head of a layer writes; the layer's bias is no head's."""
    return z @ model.params[f"blocks.{layer}.attn.W_O"]


def head_result(model: Model, layer: int, head: int, z: Float[Tensor, "*row d_head"]) -> Float[Tensor, "*row d_model"]:
    """Return what one head writes; the layer's bias is no head's."""
    return z @ model.params[f"blocks.{layer}.attn.W_O"][head]


def attn_bias(model: Model, layer: int) -> Float[Tensor, "d_model"]:
    """Return what attention writes on every input alike; only of a network with biases."""
    return model.params[f"blocks.{layer}.attn.b_O"]


def mlp_input(
    model: Model, resid_pre: Float[Tensor, "*row d_model"], resid_mid: Float[Tensor, "*row d_model"]
) -> Float[Tensor, "*row d_model"]:
    """Return which stream a layer's MLP reads: that before attention, where both are parallel, or after it."""
    return resid_pre if model.config.parallel_attn_mlp else resid_mid


def mlp_pre(model: Model, layer: int, mlp_in: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row neuron"]:
    """Return what an MLP's neurons apply their nonlinearity to."""
    return _pre(model, layer, norm(model, f"blocks.{layer}.ln2", mlp_in))


def _pre(model: Model, layer: int, normed: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row neuron"]:
    mlp = f"blocks.{layer}.mlp"
    if model.config.gated_mlp:
        return normed @ model.params[f"{mlp}.W_gate"]
    return _with_bias(model, f"{mlp}.b_in", normed @ model.params[f"{mlp}.W_in"])


def neurons(model: Model, layer: int, mlp_in: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row neuron"]:
    """Return the activations of an MLP's neurons; of a gated one, times its linear map's."""
    normed = norm(model, f"blocks.{layer}.ln2", mlp_in)
    pre, act = _pre(model, layer, normed), ACTIVATIONS[model.config.act_fn]
    is_plain = model.backward == "gradient"
    active = act(pre) if is_plain else relevance.activated(act, pre)
    if not model.config.gated_mlp:
        return active
    linear = normed @ model.params[f"blocks.{layer}.mlp.W_in"]
    gated = active * linear if is_plain else relevance.multiplied(active, linear)
    return _with_bias(model, f"blocks.{layer}.mlp.b_in", gated)


def mlp_out(model: Model, layer: int, mlp_in: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_model"]:
    """Return what an MLP writes: nothing where there are none."""
    if model.config.attn_only:
        return torch.zeros_like(mlp_in)
    return _with_bias(model, f"blocks.{layer}.mlp.b_out", neurons(model, layer, mlp_in) @ neuron_outputs(model, layer))


def mlp_out_in_parts(model: Model, layer: int, mlp_in: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_model"]:
    """Return `mlp_out`, computed on a CPU `ROWS_AT_ONCE` rows at a time: for analyses of many rows."""
    rows = mlp_in.flatten(0, -2)
    n_at_once = ROWS_AT_ONCE if rows.device.type == "cpu" else len(rows)
    return torch.cat([mlp_out(model, layer, part) for part in rows.split(max(1, n_at_once))]).view(mlp_in.shape)


def resid_post(
    model: Model, layer: int, resid_pre: Float[Tensor, "*row d_model"], resid_mid: Float[Tensor, "*row d_model"]
) -> Float[Tensor, "*row d_model"]:
    """Return the stream after a layer, given those before and after its attention: for analyses of many rows."""
    return resid_mid + mlp_out_in_parts(model, layer, mlp_input(model, resid_pre, resid_mid))


def neuron_outputs(model: Model, layer: int) -> Float[Tensor, "neuron d_model"]:
    """Return what each neuron of an MLP writes when its activation is 1."""
    return model.params[f"blocks.{layer}.mlp.W_out"]


def unembedding(model: Model) -> Float[Tensor, "d_model d_vocab"]:
    """Return the matrix from the last norm's output to the logits."""
    params = model.params
    return params["embed.W_E"].mT if model.config.tie_word_embeddings else params["unembed.W_U"]


def logits(model: Model, resid_post: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_vocab"]:
    """Return the logits that the last layer's stream gives."""
    return _with_bias(model, "unembed.b_U", norm(model, "ln_final", resid_post) @ unembedding(model))


def _with_bias(model: Model, name: str, x: Float[Tensor, "*row width"]) -> Float[Tensor, "*row width"]:
    """Add the bias of that name, where the network has biases; that of several heads is written side by side."""
    return x + model.params[name].flatten() if model.config.biases else x
