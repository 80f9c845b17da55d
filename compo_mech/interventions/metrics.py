"""Metrics of patched logits: what the score of a patch is a change of."""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from compo_mech.interventions.pairs import Pairs
from compo_mech.model.finite import likeliest

ScoredLogits = Float[Tensor, "scored d_vocab"]
Metric = Callable[[ScoredLogits, ScoredLogits, Pairs], Float[Tensor, ""]]
"""From the logits of a patched and of the clean run at the scored positions, and what is right there, to a number."""


def cross_entropy(logits: ScoredLogits, clean: ScoredLogits, pairs: Pairs) -> Float[Tensor, ""]:
    """Mean cross-entropy of the right tokens, in nats.

    >>> import torch
    >>> from compo_mech import DataConfig, Switch, make_pairs
    >>> pairs = make_pairs(DataConfig(max_length=3), Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> right = 100 * F.one_hot(pairs.target, 6).double()
    >>> [round(float(cross_entropy(logits, right, pairs)), 2) for logits in (right, 0 * right)]  # ln 6
    [0.0, 1.79]
    """
    return F.cross_entropy(logits, pairs.target)


def logit_difference(logits: ScoredLogits, clean: ScoredLogits, pairs: Pairs) -> Float[Tensor, ""]:
    """Mean logit of the corrupt input's answer above the clean one's, where they differ.

    >>> import torch
    >>> from compo_mech import DataConfig, Switch, make_pairs
    >>> pairs = make_pairs(DataConfig(max_length=3), Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> clean, corrupt = (F.one_hot(answer, 6).float() for answer in (pairs.target, pairs.foil))
    >>> [float(logit_difference(logits, clean, pairs)) for logits in (clean, corrupt)]
    [-1.0, 1.0]
    """
    gap = logits.gather(1, pairs.foil[:, None]) - logits.gather(1, pairs.target[:, None])
    return gap.sum() / (pairs.foil != pairs.target).sum().clamp(min=1)


def kl_divergence(logits: ScoredLogits, clean: ScoredLogits, pairs: Pairs) -> Float[Tensor, ""]:
    """Mean KL divergence from the clean run's distribution, in nats.

    >>> import torch
    >>> from compo_mech import DataConfig, Switch, make_pairs
    >>> pairs = make_pairs(DataConfig(max_length=3), Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> clean, corrupt = (F.one_hot(answer, 6).float() for answer in (pairs.target, pairs.foil))
    >>> float(kl_divergence(clean, clean, pairs)), bool(kl_divergence(corrupt, clean, pairs) > 0)
    (0.0, True)
    """
    return F.kl_div(logits.log_softmax(-1), clean.log_softmax(-1), log_target=True, reduction="batchmean")


def inaccuracy(logits: ScoredLogits, clean: ScoredLogits, pairs: Pairs) -> Float[Tensor, ""]:
    """Fraction of positions whose likeliest token is wrong. It has no gradient: for exact patching alone.

    >>> import torch
    >>> from compo_mech import DataConfig, Switch, make_pairs
    >>> pairs = make_pairs(DataConfig(max_length=3), Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> right = F.one_hot(pairs.target, 6).float()
    >>> [float(inaccuracy(logits, right, pairs)) for logits in (right, -right)]
    [0.0, 1.0]
    """
    return (likeliest(logits) != pairs.target).to(logits.dtype).mean()


METRICS: dict[str, Metric] = {
    "cross_entropy": cross_entropy,
    "logit_difference": logit_difference,
    "kl": kl_divergence,
    "inaccuracy": inaccuracy,
}


def answered(logits: ScoredLogits, clean: ScoredLogits, pairs: Pairs) -> Float[Tensor, ""]:
    """Fraction of the positions where the answers differ at which the clean input's is the likeliest token.

    >>> import torch
    >>> from compo_mech import DataConfig, Switch, make_pairs
    >>> pairs = make_pairs(DataConfig(max_length=3), Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> clean, corrupt = (F.one_hot(answer, 6).float() for answer in (pairs.target, pairs.foil))
    >>> [float(answered(logits, clean, pairs)) for logits in (clean, corrupt)]
    [1.0, 0.0]
    """
    differ = pairs.foil != pairs.target
    right = (likeliest(logits) == pairs.target) & differ
    return right.sum().to(logits.dtype) / differ.sum().clamp(min=1)
