"""Accuracy, loss and grammar. Tensors in, numbers out."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from compo_mech.model.finite import check_finite, likeliest


def token_accuracy(
    logits: Float[Tensor, "batch query d_vocab"], targets: Int[Tensor, "batch query"]
) -> Float[Tensor, ""]:
    """Return the fraction of scored rows whose likeliest token is the right one, given the true tokens before it
    (teacher forcing)."""
    return (likeliest(logits) == targets).float().mean()


def strings_right(
    predicted: Int[Tensor, "*member batch query"], targets: Int[Tensor, "batch query"]
) -> Bool[Tensor, "*member batch"]:
    """Whether every state and the [EoS] after them are right."""
    return (predicted == targets).all(-1)


def mean_loss(logits: Float[Tensor, "batch query d_vocab"], targets: Int[Tensor, "batch query"]) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of the scored rows, in nats."""
    check_finite("logits", logits)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def grammatical(
    generated: Int[Tensor, "*member batch query"], n_values: int, end_of_states: int
) -> Bool[Tensor, "*member batch"]:
    """Whether the generated tokens are the right number of values, then one [EoS], and no other token.

    Args:
        generated: one more token than there are states to write.
        n_values: ids below this are values.
        end_of_states: id of [EoS].
    """
    values = (generated[..., :-1] < n_values).all(-1)
    return values & (generated[..., -1] == end_of_states)


def share(right: Bool[Tensor, "batch"]) -> Float[Tensor, ""]:
    """Return the fraction of strings that are right."""
    return right.to(torch.float32).mean()
