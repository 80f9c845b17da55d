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
    logits = _norm(params, config, "ln_final", x) @ params["unembed.W_U"]
    return logits + params["unembed.b_U"] if config.biases else logits


def _norm(params: Params, config: ModelConfig, name: str, x: Float[Tensor, "row d_model"]) -> Tensor:
    if config.normalization == "none":
        return x
    return F.layer_norm(x, x.shape[-1:], params[f"{name}.w"], params.get(f"{name}.b"), LAYER_NORM_EPS)


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
