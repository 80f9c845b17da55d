"""Accuracy, loss, grammar and intervals. Tensors in, numbers out."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Interval(NamedTuple):
    """A mean and the 2.5% and 97.5% quantiles."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Interval":
        """The interval of these values.

        Raises:
            ValueError: there are none.
        """
        if not len(values):
            raise ValueError("values = none: an interval needs at least one")
        low, high = torch.tensor(values, dtype=torch.float64).quantile(torch.tensor([0.025, 0.975]).double()).tolist()
        return cls(statistics.fmean(values), low, high)

    def __str__(self) -> str:
        return f"{self.mean:.2f} ({self.low:.2f} .. {self.high:.2f})"


def wilson(n_right: int, n: int) -> Interval:
    """A share with its 95% interval (Wilson 1927): unlike the normal one it says something at 0 and 1.

    Raises:
        ValueError: there is nothing to count.
    """
    if n < 1:
        raise ValueError(f"n = {n}: must be at least 1")
    share, z = n_right / n, statistics.NormalDist().inv_cdf(0.975)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Interval(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))


def token_accuracy(
    logits: Float[Tensor, "batch query d_vocab"], targets: Int[Tensor, "batch query"]
) -> Float[Tensor, ""]:
    """Share of scored rows whose likeliest token is the right one, given the true tokens before it."""
    return (logits.argmax(-1) == targets).float().mean()


def strings_right(predicted: Int[Tensor, "batch query"], targets: Int[Tensor, "batch query"]) -> Bool[Tensor, "batch"]:
    """Whether every state and the [EoS] after them are right."""
    return (predicted == targets).all(-1)


def mean_loss(logits: Float[Tensor, "batch query d_vocab"], targets: Int[Tensor, "batch query"]) -> Float[Tensor, ""]:
    """Mean cross-entropy of the scored rows, in nats."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def grammatical(generated: Int[Tensor, "batch query"], n_values: int, end_of_states: int) -> Bool[Tensor, "batch"]:
    """Whether what was written is as many values as it should be, then one [EoS], and no other token.

    Args:
        generated: one more token than there are states to write.
        n_values: ids below this are values.
        end_of_states: id of [EoS].
    """
    values = (generated[:, :-1] < n_values).all(-1)
    return values & (generated[:, -1] == end_of_states)


def share(right: Bool[Tensor, "batch"]) -> Float[Tensor, ""]:
    """Share of strings that are right."""
    return right.to(torch.float32).mean()
