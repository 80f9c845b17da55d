"""Which of several values of a setting is best, with an interval over seeds."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from compo_mech.stats.onset import N_RESAMPLES
from compo_mech.stats.over_seeds import SeedSummary, check_values
from compo_mech.stats.verdicts import BySeed


class Optimum(NamedTuple):
    """Where a measure is best.

    Attributes:
        best: the value of the setting; nan where several are as good.
        low, high: an interval of 95%, which holds all that are.
        n_seeds: that all values of the setting have.
    """

    best: float
    low: float
    high: float
    n_seeds: int


def optimum(summary: SeedSummary, values: Mapping[float, BySeed], generator: torch.Generator) -> Optimum | None:
    """The value of a setting at which a measure is best, with an interval by resampling seeds; None where there is no
    seed that all have.

    Times are best where their median is least (censored runs longer than all others; of an even number the lower of the
    two in the middle, as in `over_seeds`), all else where the mean is largest. Seeds are resampled for all values at
    once, since runs of one seed are alike.

    Args:
        summary: how the measure is summarised over seeds.
        values: by the setting's value, those of each seed; None: a run that failed, which is the worst time and a 0 of
            a fraction, and whose seed is left out of a mean.
        generator: draws the seeds.

    Raises:
        ValueError: a value is no number, or infinite in a mean.

    >>> first = {0.0: {0: 900.0, 1: 800.0}, 0.5: {0: 700.0, 1: 700.0}, 1.0: {0: 750.0, 1: 900.0}}
    >>> optimum(SeedSummary.TIME_TO_EVENT, first, torch.Generator().manual_seed(0))
    Optimum(best=0.5, low=0.5, high=0.5, n_seeds=2)
    """
    worst = {SeedSummary.TIME_TO_EVENT: math.inf, SeedSummary.FRACTION: 0.0}.get(summary)
    known = [{seed: found for seed, value in own.items() if (found := worst if value is None else value) is not None}
             for own in values.values()]  # fmt: skip
    seeds = sorted(set.intersection(*map(set, known))) if known else []
    if not seeds:
        return None
    table = [[own[seed] for seed in seeds] for own in known]
    for setting, row in zip(values, table, strict=True):
        check_values(f"values of {setting:g}", summary, row)
        if summary is SeedSummary.MEAN and math.inf in map(abs, row):
            raise ValueError(f"values of {setting:g} = inf: a mean must be of finite ones")
    own = torch.tensor(table, dtype=torch.float64)
    at = torch.tensor(list(values), dtype=torch.float64)[:, None]
    drawn = torch.randint(len(seeds), (N_RESAMPLES, len(seeds)), generator=generator)
    is_best, in_resample = _is_best(summary, own[:, None]), _is_best(summary, own[:, drawn])
    least, largest = at.where(in_resample, math.inf).amin(0), at.where(in_resample, -math.inf).amax(0)
    best = at[is_best].flatten().tolist()
    ends = float(least.quantile(0.025)), float(largest.quantile(0.975))
    return Optimum(best[0] if len(best) == 1 else math.nan, *ends, len(seeds))


def _is_best(summary: SeedSummary, values: Float[Tensor, "setting resample seed"]) -> Bool[Tensor, "setting resample"]:
    """Whether no other setting is better in a resample."""
    score = -values.median(2).values if summary is SeedSummary.TIME_TO_EVENT else values.mean(2)
    return score == score.amax(0)
