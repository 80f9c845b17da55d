"""Tokens at positions, each pair of them once: what layer 0 makes of its input alone is computed for these."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.model import blocks
from compo_mech.model.params import Model


def embedded_pairs(
    model: Model, tokens: Int[Tensor, "*row"], position_ids: Int[Tensor, "*row"]
) -> tuple[Float[Tensor, "... d_model"], Int[Tensor, "*row"] | None]:
    """Return the stream in front of layer 0, and which of its rows is each token's; None: its own.

    Where there are fewer, a row is a pair of a token and a position id (a token alone, where positions are not
    embedded), whether it occurs or not.

    >>> from compo_mech import Parity, build
    >>> model, tokens = build(Parity(), max_length=3).model, torch.tensor([[5, 1, 0], [5, 1, 1]]).repeat(20, 1)
    >>> pairs, entry = embedded_pairs(model, tokens, torch.arange(3).expand(tokens.shape))
    >>> torch.equal(pairs[entry], blocks.embed(model, tokens, torch.arange(3).expand(tokens.shape)))
    True
    """
    n_values = len(model.params["embed.W_E"])
    n_positions = len(model.params["pos_embed.W_pos"]) if model.config.positional_embedding == "standard" else 1
    if n_values * n_positions > tokens.numel():
        return blocks.embed(model, tokens, position_ids), None
    every = torch.arange(n_values * n_positions, device=tokens.device)
    pairs = blocks.embed(model, every // n_positions, every % n_positions)
    if n_positions == 1:
        return pairs, tokens
    return pairs, every.view(n_values, n_positions)[tokens, position_ids]  # refuses positions that there are not


def taken(rows: Float[Tensor, "... width"], entry: Int[Tensor, "*row"] | None) -> Float[Tensor, "*row width"]:
    """Return each token's row."""
    return rows if entry is None else rows.index_select(0, entry.flatten()).view(*entry.shape, rows.shape[-1])
