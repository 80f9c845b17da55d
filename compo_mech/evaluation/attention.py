"""Attention cleanliness: how closely each head's attention follows the iteration head's circuit.

A *pattern* holds the attention weights of some query rows: [batch, head, query, key], where the strings of the batch
are of one length. Every measure takes any number of heads and leaves its input unchanged. Lookup, iteration score,
peakiness and invariance follow Cabannes et al. 2024 (arXiv 2406.02128); alone, none of them shows that a head is used.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

TEXTBOOK_SCORE = 0.9
SHARP_WEIGHT = 0.9
SAME_KEY_SHARE = 0.95
SHARP_ROW_SHARE = 0.9

MIN_LENGTH = 4
"""Verdicts use lengths from here on: shorter strings leave too little choice of keys."""


def edge_weights(
    pattern: Float[Tensor, "batch head query key"], queries: list[int], keys: list[int]
) -> Float[Tensor, "batch head edge"]:
    """Return the weight on each (query, key) edge, given as indices into the pattern's last two axes."""
    return pattern[:, :, queries, keys]


def score(weights: Float[Tensor, "batch head edge"]) -> Float[Tensor, "head"]:
    """Return the mean weight over strings and edges: 1 for a head that does nothing else."""
    return weights.mean((0, 2))


def peakiness(weights: Float[Tensor, "batch head edge"]) -> Float[Tensor, "head"]:
    """Return the fraction of weights above one half."""
    return (weights > 0.5).float().mean((0, 2))


def invariance(weights: Float[Tensor, "batch head edge"]) -> Float[Tensor, "head"]:
    """Return 1 - standard deviation over strings, averaged over edges.

    Near 1 for a randomly initialised control as well, so it means nothing without its control.
    """
    return 1 - weights.std(0, correction=0).mean(-1)


def entropy(pattern: Float[Tensor, "batch head query key"]) -> Float[Tensor, "head"]:
    """Return the mean entropy of the rows, in nats: 0 where one key takes all."""
    return torch.special.entr(pattern).sum(-1).mean((0, 2))


def concentration(pattern: Float[Tensor, "batch head query key"]) -> Float[Tensor, "batch head query"]:
    """Sum of squared weights of each row: 1 for one key, 1 / n for uniform attention over n keys."""
    return pattern.square().sum(-1)


def sparsity(squares: Float[Tensor, "batch head query"], queries: Sequence[int]) -> Float[Tensor, "head"]:
    """Measure how few keys the rows spread their weight over: 1 for one key, 0 for uniform attention over all visible
    keys.

    The number of keys is 1 / (sum of squared weights), the inverse participation ratio, rescaled from the number of
    visible keys (0) to one (1); rows that see a single key are left out.

    Args:
        squares: `concentration` of the rows.
        queries: position of each row, which sees itself and all before it.
    """
    seen = torch.tensor(queries, device=squares.device) + 1
    several = seen > 1
    return ((seen - 1 / squares) / (seen - 1).clamp(min=1))[:, :, several].mean((0, 2))


def distance(
    squares: Float[Tensor, "batch head edge"], weights: Float[Tensor, "batch head edge"]
) -> Float[Tensor, "head"]:
    """Measure how far the rows are from all weight on their key: 0 there, 1 with all weight on one other key.

    The Euclidean distance over its largest value, sqrt(2): unlike 1 - score it distinguishes a row that spreads the
    missing weight from one that is sharp on another key.

    Args:
        squares: `concentration` of the rows.
        weights: of each on its key.
    """
    return ((squares - 2 * weights + 1).clamp(min=0) / 2).sqrt().mean((0, 2))


def together(weights: Float[Tensor, "batch head edge"]) -> Float[Tensor, ""]:
    """Return the joint score of several heads: for each edge the weight of the head that attends to it most."""
    return weights.mean(0).amax(0).mean()


@dataclass(frozen=True)
class Pointer:
    """The key that each row of each head attends to most, whichever it is.

    Attributes:
        key: the key that is strongest for most strings.
        weight: weight of each string's strongest key, averaged over strings.
        agreement: fraction of strings whose strongest key is `key`.
    """

    key: Int[Tensor, "head query"]
    weight: Float[Tensor, "head query"]
    agreement: Float[Tensor, "head query"]

    @property
    def sharp(self) -> Bool[Tensor, "head query"]:
        """Rows whose strongest key takes nearly all weight and is the same for nearly all strings."""
        return (self.weight >= SHARP_WEIGHT) & (self.agreement >= SAME_KEY_SHARE)


def pointer(pattern: Float[Tensor, "batch head query key"]) -> Pointer:
    """Find the strongest key of each row, its weight, and the agreement of strings on it."""
    weight, key = pattern.max(-1)
    mode = key.mode(0).values
    return Pointer(mode, weight.mean(0), (key == mode).float().mean(0))


def offset_profile(
    pattern: Float[Tensor, "batch head query key"], queries: list[int], keys: list[int]
) -> dict[int, Float[Tensor, "head"]]:
    """Return the mean weight by distance from an edge's key: offset 0 is the edge itself, +1 the key after it.

    Offsets that fall outside the row for some of the edges count as weight 0 there.
    """
    n_keys, offsets = pattern.shape[-1], range(-max(keys), pattern.shape[-1] - min(keys))
    rows = pattern[:, :, queries].mean(0)  # [head, edge, key]
    shifted = torch.tensor(keys, device=rows.device)[:, None] + torch.tensor(offsets, device=rows.device)
    inside = (shifted >= 0) & (shifted < n_keys)
    weights = rows.gather(2, shifted.clamp(0, n_keys - 1).expand(len(rows), -1, -1)) * inside
    return dict(zip(offsets, (weights.sum(1) / len(keys)).unbind(1), strict=True))


class AttentionVerdict(IntEnum):
    """A verdict on a head's attention over the lengths from `MIN_LENGTH` on."""

    DIFFUSE = 0
    SHARP_PATCHWORK = 1
    TEXTBOOK = 2

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")


def attention_verdict(iteration_score: float, sharp_share: float) -> AttentionVerdict:
    """Textbook: the iteration score is at least 0.9. Sharp patchwork: it is not, yet nine rows in
    ten are sharp. Else diffuse.

    Args:
        iteration_score: of one head, averaged over lengths.
        sharp_share: fraction of the same head's rows that are sharp (see `Pointer.sharp`).

    Raises:
        ValueError: either is not a number.
    """
    for name, value in (("iteration_score", iteration_score), ("sharp_share", sharp_share)):
        if math.isnan(value):
            raise ValueError(f"{name} = nan: must be a number")
    if iteration_score >= TEXTBOOK_SCORE:
        return AttentionVerdict.TEXTBOOK
    return AttentionVerdict.SHARP_PATCHWORK if sharp_share >= SHARP_ROW_SHARE else AttentionVerdict.DIFFUSE
