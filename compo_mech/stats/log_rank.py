"""Whether an event comes sooner in runs of one kind than in those of another."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.stats.onset import Moments, Numbers
from compo_mech.stats.over_seeds import times_to_event

N_PERMUTATIONS = 9999


class LogRank(NamedTuple):
    """Result of `log_rank`.

    Attributes:
        n_events: in the first runs.
        expected: events there, had both kinds of runs the same times.
        p: of the same times, two-sided.
    """

    n_events: int
    expected: float
    p: float


def log_rank(
    first: Moments, second: Moments, first_ends: Numbers, second_ends: Numbers, generator: torch.Generator
) -> LogRank:
    """Compare the times to an event of runs of two kinds, by the log-rank test (Mantel 1966).

    Observed less expected events are a sum over runs: 1 where the event came, less the pooled cumulative hazard
    (Nelson & Aalen) until then. Its p value is by permuting the runs, all ways or 9999: exact where both kinds are
    followed equally long, for few runs too, of which the normal approximation calls 8% different (5 of each).

    Args:
        first, second: time to event of each run, inf where censored.
        first_ends, second_ends: last step of each run.
        generator: of permutations.

    Raises:
        ValueError: as `survival`.
    """
    import scipy

    at, until = (
        torch.cat(parts)
        for parts in zip(times_to_event(first, first_ends), times_to_event(second, second_ends), strict=True)
    )
    scores = at.isfinite().double() - _hazard(at, until)
    n_events = int(at[: len(first)].isfinite().sum())
    seed = int(torch.randint(2**31, (), generator=generator))
    found = scipy.stats.permutation_test(
        (scores[: len(first)].numpy(), scores[len(first) :].numpy()),
        lambda one, two, axis: np.mean(one, axis=axis) - np.mean(two, axis=axis),
        n_resamples=N_PERMUTATIONS,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    return LogRank(n_events, n_events - float(scores[: len(first)].sum()), min(1.0, float(found.pvalue)))


def _hazard(at: Float[Tensor, "run"], until: Float[Tensor, "run"]) -> Float[Tensor, "run"]:
    """The pooled cumulative hazard at each run's event, or at its end."""
    last = torch.minimum(at, until)
    steps, n_events = at[at.isfinite()].unique(return_counts=True)
    n_at_risk = (last >= steps[:, None]).sum(1)
    return ((steps <= last[:, None]) * (n_events / n_at_risk).double()).sum(1)
