"""Metrics of patched logits: what the score of a patch is a change of."""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from compo_mech.interventions.pairs import Pairs

ScoredLogits = Float[Tensor, "scored d_vocab"]
Metric = Callable[[ScoredLogits, ScoredLogits, Pairs], Float[Tensor, ""]]
"""From the logits of a patched and of the clean run at the scored positions, and what is right there, to a number."""


def cross_entropy(logits: ScoredLogits, clean: ScoredLogits, pairs: Pairs) -> Float[Tensor, ""]:
    """Mean cross-entropy of the right tokens, in nats."""
    return F.cross_entropy(logits, pairs.target)


def logit_difference(logits: ScoredLogits, clean: ScoredLogits, pairs: Pairs) -> Float[Tensor, ""]:
    """Mean logit of the corrupt input's answer above the clean one's, where they differ."""
    gap = logits.gather(1, pairs.foil[:, None]) - logits.gather(1, pairs.target[:, None])
    return gap.sum() / (pairs.foil != pairs.target).sum().clamp(min=1)


def kl_divergence(logits: ScoredLogits, clean: ScoredLogits, pairs: Pairs) -> Float[Tensor, ""]:
    """Mean KL divergence from the clean run's distribution, in nats."""
    return F.kl_div(logits.log_softmax(-1), clean.log_softmax(-1), log_target=True, reduction="batchmean")


def inaccuracy(logits: ScoredLogits, clean: ScoredLogits, pairs: Pairs) -> Float[Tensor, ""]:
    """Fraction of positions whose likeliest token is wrong. It has no gradient: for exact patching alone."""
    return (logits.argmax(-1) != pairs.target).to(logits.dtype).mean()


METRICS: dict[str, Metric] = {
    "cross_entropy": cross_entropy,
    "logit_difference": logit_difference,
    "kl": kl_divergence,
    "inaccuracy": inaccuracy,
}


def answered(logits: ScoredLogits, clean: ScoredLogits, pairs: Pairs) -> Float[Tensor, ""]:
    """Fraction of the positions where the answers differ at which the clean input's is the likeliest token."""
    differ = pairs.foil != pairs.target
    right = (logits.argmax(-1) == pairs.target) & differ
    return right.sum().to(logits.dtype) / differ.sum().clamp(min=1)
