"""Runs on strings in which one token is changed, from the clean run: rows before it are what they were."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.interventions.traces import Trace, qkv_of
from compo_mech.model import blocks
from compo_mech.model.entries import embedded_pairs, taken
from compo_mech.model.params import Model
from compo_mech.routes.paths import Reads
from compo_mech.routes.swaps import Swap


class Anew(NamedTuple):
    """What changes of the runs of several swaps.

    Attributes:
        swap, position: of each row that is scored and comes at or after the changed token.
        logits: at these.
        after, reads: logits at the row of each swap, and what layer 1 reads there.
    """

    swap: Int[Tensor, "row"]
    position: Int[Tensor, "row"]
    logits: Float[Tensor, "row batch d_vocab"]
    after: Float[Tensor, "swap batch d_vocab"]
    reads: Reads


@torch.no_grad()
def run_anew(model: Model, swaps: Sequence[Swap], clean: Trace, first: int) -> Anew:
    """Run the network on every swap's strings as far as they differ from the clean ones.

    Args:
        model: of two layers, causal.
        swaps: of strings of one length, each asked at a scored row, that of the changed token or a later one.
        clean: the run on the strings as they were, at positions 0, 1, 2 ...
        first: the first scored row.
    """
    tokens = torch.stack([swap.tokens for swap in swaps])
    (n_swaps, n_batch, n_pos), device = tokens.shape, tokens.device
    # which rows are computed is found out on the CPU, so that no device is waited for
    sources, rows = (torch.tensor([getattr(swap, name) for swap in swaps]) for name in ("source", "row"))
    swap, position = (torch.arange(n_pos) >= sources[:, None]).nonzero().unbind(1)
    kept = (position >= first).nonzero()[:, 0]
    at_row = (position[kept] == rows[swap[kept]]).nonzero()[:, 0]
    swap, position, kept, at_row, rows = (x.to(device) for x in (swap, position, kept, at_row, rows))
    every, strings = (torch.arange(n, device=device) for n in (n_pos, n_batch))
    index = (((swap * n_batch)[:, None] + strings) * n_pos + position[:, None]).flatten()  # rows that are computed

    flat = tokens.flatten(0, 1)
    source, entry = embedded_pairs(model, flat, every.expand(flat.shape))
    q, k, v = qkv_of(model, 0, source, entry, (slice(None),))
    keys, values = blocks.by_query_head(model, k), blocks.by_query_head(model, v)
    z = blocks.pattern(blocks.scores(model, 0, q, keys, every), blocks.causal(every, n_pos)) @ values
    before = taken(source, entry).flatten(0, 1).index_select(0, index)
    mid = before + blocks.attn_out(model, 0, blocks.merge_heads(z).flatten(0, 1).index_select(0, index))
    stream = blocks.resid_post(model, 0, before, mid)

    projected = blocks.project(model, 1, "QKV", blocks.attention_input(model, 1, stream))
    q, k, v = (
        blocks.merge_heads(old[1]).repeat(n_swaps, 1, 1).flatten(0, 1).index_copy_(0, index, new).view(*flat.shape, -1)
        for old, new in zip((clean.q, clean.k, clean.v), projected, strict=True)
    )
    q, k, v = (blocks.split_heads(model, x) for x in (q, k, v))
    keys, values = blocks.by_query_head(model, k), blocks.by_query_head(model, v)
    scored = every[first:]
    pattern = blocks.pattern(blocks.scores(model, 1, q[:, :, first:], keys, scored), blocks.causal(scored, n_pos))
    swap, position = swap[kept], position[kept]
    stream = stream.unflatten(0, (-1, n_batch))[kept]
    z = blocks.merge_heads(pattern @ values).view(n_swaps, n_batch, len(scored), -1)[swap, :, position - first]
    logits = blocks.logits(model, blocks.resid_post(model, 1, stream, stream + blocks.attn_out(model, 1, z)))

    q, k, v = (x.unflatten(0, (n_swaps, n_batch)) for x in (q, k, v))
    q = q[torch.arange(n_swaps, device=device), :, :, rows]
    return Anew(swap, position, logits, logits[at_row], Reads(stream[at_row], q, k, v))
