"""The network as one pure function of (parameters, tokens), equal to HookedTransformer.

It does no work for positions that no one needs: only tokens that are read pass through the
linear maps, and in the last layer queries, MLP and unembedding see the scored rows alone. It
works under torch.func's grad and vmap, with parameters stacked along a leading axis, wherever all
members share one `Packing`.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.data.packing import Packing
from compo_mech.model.blocks import grid, heads_out, logits, mlp, norm, project
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Params


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
        normed = norm(params, config, f"{block}.ln1", x)
        if last:
            x = x.index_select(0, packing.scored_token)
        x = x + _attention(params, config, block, normed, packing, last, patterns)
        x = x + mlp(params, config, block, norm(params, config, f"{block}.ln2", x))
    return logits(params, config, x)


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
    query = grid(project(params, config, block, "Q", source), *queries)
    key = grid(project(params, config, block, "K", normed), *keys)
    value = grid(project(params, config, block, "V", normed), *keys)
    scores = query @ key.transpose(-1, -2) / math.sqrt(config.head_width)
    mask = packing.causal_scored if last else packing.causal
    pattern = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    if patterns is not None:
        patterns.append(pattern if last else _scored_queries(pattern, packing))
    z = (pattern @ value).transpose(1, 2).flatten(2).flatten(0, 1)  # [slot, head * d_head]
    taken = packing.scored_slot if last else packing.token_slot
    if taken is not None:
        z = z.index_select(0, taken)
    return heads_out(params, config, block, z)


def _scored_queries(
    pattern: Float[Tensor, "batch head pos pos"], packing: Packing
) -> Float[Tensor, "batch head query pos"]:
    index = packing.query_position[:, None, :, None]
    return pattern.gather(2, index.expand(-1, pattern.shape[1], -1, pattern.shape[3]))
