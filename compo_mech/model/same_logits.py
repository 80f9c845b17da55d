"""Whether a network of TransformerLens computes what our copy of it does: one comparison of logits decides."""

import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.model import blocks
from compo_mech.model.finite import check_weights
from compo_mech.model.forward import forward
from compo_mech.model.params import Model

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer
    from transformer_lens.model_bridge import TransformerBridge

MAX_DIFFERENCE = 1e-4
"""Between a logit of a network and ours of the same weights, as a fraction of how far logits lie apart."""

N_ROUNDINGS = 32
"""That may add up in a logit beyond that: one far from 0, as of a token that is never to come, has few digits left."""

MAX_LOGITS = 2**22
"""That are compared: a few seconds' work, and 16 MB each, for the largest vocabulary."""

MAX_SCORES = 2**24
"""Of attention, of all heads of a layer for one row of tokens."""

MAX_REPEATED = 4
"""Rows of half the length, with every token twice."""


@torch.no_grad()
def check_logits(model: "HookedTransformer | TransformerBridge", copied: Model) -> None:
    """Compare a network with its copy over every token and position, or as many as give `MAX_LOGITS`, and over some
    rows of half the length in which tokens are repeated.

    Raises:
        ValueError: a weight is not finite, or a logit is not that of our forward pass.
    """
    check_weights(copied)
    rows = _every_token(copied, model.cfg.n_ctx).to(copied.device)
    repeated = rows[:MAX_REPEATED, : math.ceil(rows.shape[1] / 4)].repeat_interleave(2, 1)
    worst = _off_by(model, copied, (rows, repeated[:, : max(1, rows.shape[1] // 2)]))
    if worst is not None:
        raise ValueError(
            f"model logits = off by {worst[0]:.2g}: must be those of a plain transformer of these options and weights, "
            f"here to {worst[1]:.2g} ({MAX_DIFFERENCE:g} of how far they lie apart); its code or its weights do "
            "something else"
        )


@torch.no_grad()
def check_padding(model: "HookedTransformer", copied: Model) -> None:
    """Compare rows that begin with the tokenizer's padding, which a HookedTransformer does not read where its tokenizer
    pads on the left, whether it is padding or a prompt's own.

    Raises:
        ValueError: a logit is not that of our forward pass.
    """
    tokenizer = model.tokenizer
    padding, side = (getattr(tokenizer, name, None) for name in ("pad_token_id", "padding_side"))
    if side != "left" or padding is None or not 0 <= padding < copied.d_vocab:
        return
    rows = _every_token(copied, model.cfg.n_ctx)[:2].to(copied.device)
    begun = rows.expand(2, -1).clone()  # with one, and with two, of which a network that begins texts with it reads one
    begun[:, 0] = begun[1:, 1:2] = padding
    if _off_by(model, copied, (begun,)) is not None:
        raise ValueError(
            f"model tokenizer.padding_side = {side!r}: must be 'right', or the model does not read token {padding} in "
            "front of a prompt; model.tokenizer.padding_side = 'right' makes it so"
        )


def _off_by(
    model: "HookedTransformer | TransformerBridge", copied: Model, batches: tuple[Int[Tensor, "_row _pos"], ...]
) -> tuple[float, float] | None:
    """The difference that is furthest above what is allowed there, and that; None where none is above it."""
    theirs = _apart(torch.cat([torch.as_tensor(model(tokens)).flatten(0, 1) for tokens in batches]))
    ours = _apart(torch.cat([forward(copied, tokens) for tokens in batches]))
    difference = (ours - theirs).abs()
    allowed = _allowed(theirs)
    is_off = ~((difference <= allowed) & difference.isfinite())
    if not is_off.any():
        return None
    worst = torch.where(is_off, difference / allowed, -1.0).nan_to_num(torch.inf).argmax()
    return float(difference.flatten()[worst]), float(allowed.flatten()[worst])


def _apart(logits: Float[Tensor, "place d_vocab"]) -> Float[Tensor, "place d_vocab+1"]:
    """Each place's logits about their median, and that: what they share says nothing about the next token."""
    middle = logits.median(-1, keepdim=True).values
    return torch.cat([logits - middle, middle], -1)


def _allowed(theirs: Float[Tensor, "place part"]) -> Float[Tensor, "place part"]:
    """How large a difference may be: by how far a place's logits lie apart, and a token's, as no one place or token
    with large logits decides about the others; and by roundings, of the logit itself and, by one, of what may cancel
    to leave it."""
    spread = (theirs - theirs.median(0).values).abs()
    of_place, of_token = _all_but_few(spread, 1)[:, None], _all_but_few(spread, 0)
    scale = torch.maximum(of_place, of_token.clamp(min=_all_but_few(of_token, 0)))
    rounded = N_ROUNDINGS * (theirs.abs() + theirs[:, -1:].abs()) + spread.where(spread.isfinite(), 0).max()
    return MAX_DIFFERENCE * scale + torch.finfo(theirs.dtype).eps * rounded


def _all_but_few(spread: Float[Tensor, "*size"], dim: int) -> Float[Tensor, "*rest"]:
    """The largest but for the few that lie furthest out: one, or one in a hundred."""
    n = spread.shape[dim]
    return spread.kthvalue(n - min(1 + n // 100, n // 4), dim).values


def _every_token(model: Model, n_ctx: int) -> Int[Tensor, "row pos"]:
    """Rows of all positions with every token in them; where that is too much, fewer positions, then fewer tokens."""
    # not those of the options: a tokenizer may change them in a bridge
    d_vocab, d_vocab_out = model.d_vocab, blocks.unembedding(model).shape[-1]
    n_pos = max(1, min(n_ctx, MAX_LOGITS // d_vocab_out, math.isqrt(MAX_SCORES // model.config.n_heads)))
    n_rows = max(1, min(math.ceil(d_vocab / n_pos), MAX_LOGITS // (d_vocab_out * n_pos)))
    order = torch.randperm(d_vocab, generator=torch.Generator().manual_seed(0))
    return order[torch.arange(n_rows * n_pos) % d_vocab].view(n_rows, n_pos)
