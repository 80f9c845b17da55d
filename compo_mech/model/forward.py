"""The network as one pure function of its parameters and tokens, equal to HookedTransformer.

It computes nothing for positions that are not needed: only tokens that are read pass through the linear maps, and in
the last layer queries, MLP and unembedding see the scored rows alone. It works under torch.func's grad and vmap, with
parameters stacked along a leading axis, as long as all members have one `Packing`.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.data.packing import Packing
from compo_mech.model import blocks
from compo_mech.model.entries import embedded_pairs
from compo_mech.model.generate import Past
from compo_mech.model.params import Model


def forward(
    model: Model,
    tokens: Int[Tensor, "batch pos"],
    packing: Packing | None = None,
    *,
    position_shift: Int[Tensor, "batch"] | None = None,
    embed_mask: Float[Tensor, "token d_model"] | None = None,
    patterns: list[Float[Tensor, "batch head query key"]] | None = None,
    past: Past | None = None,
) -> Float[Tensor, "scored d_vocab"]:
    """Run the network; return the logits of the scored rows, one batch row after the other.

    Args:
        model: the network.
        tokens: padded rows, at least as wide as the packing's reading.
        packing: what is read and scored; None: every position of every row.
        position_shift: added to the position ids of each row.
        embed_mask: factors on the embedding of each token read (dropout).
        patterns: if a list is given, each layer's attention at the scored rows is appended to it
            (rows beyond a string's own scored ones mean nothing).
        past: if an empty list is given, each layer's keys and values are appended to it (those at positions that a
            string does not have mean nothing).

    Example:
        >>> import torch
        >>> from compo_mech.data import Parity, encode
        >>> from compo_mech.ground_truth import build
        >>> from compo_mech.model import forward
        >>> built = build(Parity(), max_length=3)
        >>> read = encode(built.data, Parity(), torch.tensor([[1, 0, 1]])).read
        >>> forward(built.model, read)[-4:].argmax(-1).tolist()  # s1, s2, s3, [EoS]
        [1, 1, 0, 3]
    """
    packing = packing or Packing.dense(*tokens.shape, device=tokens.device)
    position_ids = packing.position
    if position_shift is not None:
        position_ids = position_ids + position_shift[packing.row]
    embedded, entry = _embedded(model, tokens[packing.row, packing.position], position_ids, embed_mask)
    x = embedded if entry is None else embedded.index_select(0, entry)
    mlp_out = blocks.mlp_out if torch.is_grad_enabled() else blocks.mlp_out_in_parts
    for layer in range(model.config.n_layers):
        last = layer == model.config.n_layers - 1
        normed = blocks.attention_input(model, layer, embedded if layer == 0 else x)
        if last:
            x = x.index_select(0, packing.scored_token)
        mid = x + _attention(model, layer, normed, entry if layer == 0 else None, packing, last, patterns, past)
        x = mid + mlp_out(model, layer, blocks.mlp_input(model, x, mid))
    return blocks.logits(model, x)


def _embedded(
    model: Model,
    tokens: Int[Tensor, "token"],
    position_ids: Int[Tensor, "token"],
    embed_mask: Float[Tensor, "token d_model"] | None,
) -> tuple[Float[Tensor, "row d_model"], Int[Tensor, "token"] | None]:
    """The stream in front of layer 0, and which of its rows is each token's; None: its own, as where each is masked."""
    if embed_mask is not None:
        return blocks.embed(model, tokens, position_ids) * embed_mask, None
    return embedded_pairs(model, tokens, position_ids)


def _attention(
    model: Model,
    layer: int,
    normed: Float[Tensor, "source d_model"],
    entry: Int[Tensor, "token"] | None,
    packing: Packing,
    last: bool,
    patterns: list[Tensor] | None,
    past: Past | None,
) -> Float[Tensor, "row d_model"]:
    """What the heads of one layer write: for every token, or, in the last layer, every scored row.

    Rows of `normed` are tokens, or what `entry` says is a token's.
    """
    source, key_row, query_row = normed, packing.slot_token, packing.slot_token
    if entry is not None:
        key_row = query_row = _at(entry, packing.slot_token)
    if last and entry is None:
        source, query_row = normed.index_select(0, packing.scored_token), packing.slot_scored
    elif last and entry is not None:
        query_row = _at(entry.index_select(0, packing.scored_token), packing.slot_scored)
    keys = key_row, (packing.batch_size, packing.n_pos)
    queries = query_row, (packing.batch_size, packing.n_queries if last else packing.n_pos)

    # not all three in one product: that is no faster here, see LOG.md
    q = _projected(model, layer, "Q", source, *queries)
    k, v = (_projected(model, layer, which, normed, *keys) for which in "KV")
    if past is not None:
        past.append((k, v))
    k, v = blocks.by_query_head(model, k), blocks.by_query_head(model, v)
    positions = packing.query_position[:, None] if last else None
    scores = blocks.scores(model, layer, q, k, positions)
    if model.config.attention_dir == "bidirectional":
        seen = packing.unpadded
    else:
        seen = packing.causal_scored if last else packing.causal
    pattern = blocks.pattern(scores, seen)
    if patterns is not None:
        patterns.append(pattern if last else _scored_queries(pattern, packing))
    z = blocks.merge_heads(pattern @ v).flatten(0, 1)  # [slot, head * d_head]
    taken = packing.scored_slot if last else packing.token_slot
    if taken is not None:
        z = z.index_select(0, taken)
    return blocks.attn_out(model, layer, z)


def _projected(
    model: Model,
    layer: int,
    which: str,
    x: Float[Tensor, "source d_model"],
    slot_row: Int[Tensor, "slot"] | None,
    shape: tuple[int, int],
) -> Float[Tensor, "batch head pos d_head"]:
    """Packed rows put on the padded grid."""
    (packed,) = blocks.project(model, layer, which, x)
    if slot_row is not None:
        packed = packed.index_select(0, slot_row)
    return blocks.split_heads(model, packed.unflatten(0, shape))


def _at(index: Int[Tensor, "row"], rows: Int[Tensor, "slot"] | None) -> Int[Tensor, "slot"]:
    return index if rows is None else index.index_select(0, rows)


def _scored_queries(
    pattern: Float[Tensor, "batch head pos pos"], packing: Packing
) -> Float[Tensor, "batch head query pos"]:
    index = packing.query_position[:, None, :, None]
    return pattern.gather(2, index.expand(-1, pattern.shape[1], -1, pattern.shape[3]))
