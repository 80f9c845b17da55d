"""The network as one pure function of (parameters, tokens), equal to HookedTransformer.

It does no work for positions that no one needs: only tokens that are read pass through the
linear maps, and in the last layer queries, MLP and unembedding see the scored rows alone. It
works under torch.func's grad and vmap, with parameters stacked along a leading axis, wherever all
members share one `Packing`.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.layout import Packing
from compo_mech.model import ModelConfig, Params

ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}
LAYER_NORM_EPS = 1e-5  # TransformerLens' default


def forward(
    params: Params,
    config: ModelConfig,
    tokens: Int[Tensor, "batch pos"],
    packing: Packing | None = None,
    *,
    position_shift: Int[Tensor, "batch"] | None = None,
    embed_mask: Float[Tensor, "token d_model"] | None = None,
    patterns: list[Float[Tensor, "batch head query key"]] | None = None,
) -> Float[Tensor, "scored d_vocab"]:
    """Logits of the scored rows, one batch row after the other.

    Args:
        params: parameters under HookedTransformer's names.
        config: the network that they belong to.
        tokens: padded rows, at least as wide as the packing's reading.
        packing: what is read and scored; None: every position of every row.
        position_shift: added to the position ids of each row.
        embed_mask: factors on the embedding of each token read (dropout).
        patterns: if a list is given, each layer's attention at the scored rows is appended to it
            (rows beyond a string's own scored ones mean nothing).
    """
    packing = packing or Packing.dense(*tokens.shape, device=tokens.device)
    position = packing.position
    if position_shift is not None:
        position = position + position_shift[packing.row]
    ids = tokens[packing.row, packing.position]
    x = params["embed.W_E"].index_select(0, ids) + params["pos_embed.W_pos"].index_select(0, position)
    if embed_mask is not None:
        x = x * embed_mask
    for layer in range(config.n_layers):
        last = layer == config.n_layers - 1
        block = f"blocks.{layer}"
        normed = _norm(params, config, f"{block}.ln1", x)
        if last:
            x = x.index_select(0, packing.scored_token)
        x = x + _attention(params, config, block, normed, packing, last, patterns)
        x = x + _mlp(params, config, block, _norm(params, config, f"{block}.ln2", x))
    return _logits(params, config, x)


# positions have no name, since a call adds to them
Past = list[tuple[Float[Tensor, "batch head _ d_head"], Float[Tensor, "batch head _ d_head"]]]
"""Keys and values of every layer at the positions read so far; empty before the first."""


def read_on(
    params: Params, config: ModelConfig, tokens: Int[Tensor, "batch new"], past: Past
) -> Float[Tensor, "batch d_vocab"]:
    """Logits of the last position, given the keys and values of those before; `past` is brought up to date.

    Args:
        params: parameters under HookedTransformer's names.
        config: the network that they belong to.
        tokens: one or more that follow what was read, rows of one length.
        past: of the rows, changed in place.
    """
    n, n_new = tokens.shape
    n_before = past[0][0].shape[2] if past else 0
    position = torch.arange(n_before, n_before + n_new, device=tokens.device)
    later = torch.arange(n_before + n_new, device=tokens.device) > position[:, None]
    x = (params["embed.W_E"][tokens] + params["pos_embed.W_pos"][position]).flatten(0, 1)
    for layer in range(config.n_layers):
        block = f"blocks.{layer}"
        normed = _norm(params, config, f"{block}.ln1", x)
        key, value = (_grid(_project(params, config, block, w, normed), None, (n, n_new), config.n_heads) for w in "KV")
        if layer < len(past):
            key, value = (torch.cat(pair, 2) for pair in zip(past[layer], (key, value), strict=True))
            past[layer] = key, value
        else:
            past.append((key, value))
        if layer == config.n_layers - 1:  # no one needs the rows before the last
            x, normed, later = x[n_new - 1 :: n_new], normed[n_new - 1 :: n_new], later[-1:]
        query = _grid(_project(params, config, block, "Q", normed), None, (n, len(later)), config.n_heads)
        scores = query @ key.transpose(-1, -2) / math.sqrt(config.head_width)
        z = (scores.masked_fill(later, -torch.inf).softmax(-1) @ value).transpose(1, 2).flatten(2).flatten(0, 1)
        x = x + _heads_out(params, config, block, z)
        x = x + _mlp(params, config, block, _norm(params, config, f"{block}.ln2", x))
    return _logits(params, config, x)


def _norm(params: Params, config: ModelConfig, name: str, x: Float[Tensor, "row d_model"]) -> Tensor:
    if config.normalization == "none":
        return x
    return F.layer_norm(x, x.shape[-1:], params[f"{name}.w"], params.get(f"{name}.b"), LAYER_NORM_EPS)


def _logits(params: Params, config: ModelConfig, x: Float[Tensor, "row d_model"]) -> Float[Tensor, "row d_vocab"]:
    logits = _norm(params, config, "ln_final", x) @ params["unembed.W_U"]
    return logits + params["unembed.b_U"] if config.biases else logits


def _mlp(params: Params, config: ModelConfig, block: str, x: Float[Tensor, "row d_model"]) -> Tensor:
    hidden = x @ params[f"{block}.mlp.W_in"]
    if config.biases:
        hidden = hidden + params[f"{block}.mlp.b_in"]
    out = ACTIVATIONS[config.act_fn](hidden) @ params[f"{block}.mlp.W_out"]
    return out + params[f"{block}.mlp.b_out"] if config.biases else out


def _attention(
    params: Params,
    config: ModelConfig,
    block: str,
    normed: Float[Tensor, "token d_model"],
    packing: Packing,
    last: bool,
    patterns: list[Tensor] | None,
) -> Float[Tensor, "row d_model"]:
    """What the heads of one layer write: for every token, or, in the last layer, every scored row."""
    source = normed.index_select(0, packing.scored_token) if last else normed
    keys = packing.slot_token, (packing.batch_size, packing.n_pos), config.n_heads
    queries = (packing.slot_scored, (packing.batch_size, packing.n_queries), config.n_heads) if last else keys
    query = _grid(_project(params, config, block, "Q", source), *queries)
    key = _grid(_project(params, config, block, "K", normed), *keys)
    value = _grid(_project(params, config, block, "V", normed), *keys)
    scores = query @ key.transpose(-1, -2) / math.sqrt(config.head_width)
    mask = packing.causal_scored if last else packing.causal
    pattern = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    if patterns is not None:
        patterns.append(pattern if last else _scored_queries(pattern, packing))
    z = (pattern @ value).transpose(1, 2).flatten(2).flatten(0, 1)  # [slot, head * d_head]
    taken = packing.scored_slot if last else packing.token_slot
    if taken is not None:
        z = z.index_select(0, taken)
    return _heads_out(params, config, block, z)


def _heads_out(
    params: Params, config: ModelConfig, block: str, z: Float[Tensor, "row width"]
) -> Float[Tensor, "row d_model"]:
    out = z @ params[f"{block}.attn.W_O"].flatten(0, 1)
    return out + params[f"{block}.attn.b_O"] if config.biases else out


def _project(
    params: Params, config: ModelConfig, block: str, which: str, x: Float[Tensor, "row d_model"]
) -> Float[Tensor, "row width"]:
    """Queries, keys or values of all heads side by side."""
    weight = params[f"{block}.attn.W_{which}"]
    out = x @ (weight[0] if config.n_heads == 1 else weight.transpose(0, 1).flatten(1))
    return out + params[f"{block}.attn.b_{which}"].flatten() if config.biases else out


def _grid(
    x: Float[Tensor, "row width"], slot_row: Int[Tensor, "slot"] | None, shape: tuple[int, int], n_heads: int
) -> Float[Tensor, "batch head pos d_head"]:
    """Packed rows on the padded grid, one head apart from the other."""
    if slot_row is not None:
        x = x.index_select(0, slot_row)
    return x.unflatten(0, shape).unflatten(-1, (n_heads, -1)).transpose(1, 2)


def _scored_queries(
    pattern: Float[Tensor, "batch head pos pos"], packing: Packing
) -> Float[Tensor, "batch head query pos"]:
    index = packing.query_position[:, None, :, None]
    return pattern.gather(2, index.expand(-1, pattern.shape[1], -1, pattern.shape[3]))
