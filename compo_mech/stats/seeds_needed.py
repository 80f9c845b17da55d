"""How many seeds would decide what is undecided between arms."""

import math
from collections.abc import Mapping

import torch

from compo_mech.stats.over_seeds import SeedSummary
from compo_mech.stats.verdicts import ArmVerdict, BySeed, compare_arms

TIMES = (2, 3, 4, 6, 8, 12, 16)
"""As many seeds as there are."""


def seeds_to_decide(
    summary: SeedSummary,
    values: Mapping[str, BySeed],
    reference: str,
    margin: float,
    ends: Mapping[str, float],
    generator: torch.Generator,
) -> dict[str, float]:
    """Return how many seeds of each arm would decide each undecided arm, were all others to come to what these came to.

    The runs that there are are counted several times over (`TIMES`), until `compare_arms` decides. A difference that is
    not there in truth shrinks with more seeds, so that this is a forecast and no promise.

    Args:
        summary, values, reference, margin, ends, generator: as of `compare_arms`.

    Returns:
        By arm, those that are undecided alone; inf where the most that is tried does not decide.
    """
    compared = compare_arms(summary, values, reference, margin, ends, generator)
    found = {arm: math.inf for arm, one in compared.items() if one.verdict is ArmVerdict.UNDECIDED}
    n_seeds = max((len(own) for own in values.values()), default=0)
    for times in TIMES:
        if math.inf not in found.values():
            break
        repeated = {arm: _repeated(own, times) for arm, own in values.items()}
        for arm, one in compare_arms(summary, repeated, reference, margin, ends, generator).items():
            if found.get(arm) == math.inf and one.verdict is not ArmVerdict.UNDECIDED:
                found[arm] = float(times * n_seeds)
    return found


def _repeated(values: BySeed, times: int) -> BySeed:
    """The same runs several times, each time of other seeds."""
    span = 1 + max(values, default=0) - min(values, default=0)
    return {seed + i * span: value for i in range(times) for seed, value in values.items()}
