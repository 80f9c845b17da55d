"""How many seeds would decide what is undecided between arms."""

import math
from collections.abc import Callable, Mapping

from compo_mech.stats.verdicts import ArmVerdict, BySeed, Comparison

TIMES = (2, 3, 4, 6, 8, 12, 16)
"""As many seeds as there are."""
Compare = Callable[[Mapping[str, BySeed]], Mapping[str, Comparison]]
"""`compare_arms` of these values, all else given."""


def seeds_to_decide(
    compared: Mapping[str, Comparison], values: Mapping[str, BySeed], compare: Compare
) -> dict[str, float]:
    """Return how many seeds of each arm would decide each undecided arm, were all others to come to what these came to.

    The runs that there are are counted several times over (`TIMES`), until `compare` decides. A difference that is not
    there in truth shrinks with more seeds, so that this is a forecast and no promise.

    Args:
        compared: what `compare` says of the values.
        values: of each arm, the reference among them.
        compare: compares the arms.

    Returns:
        By arm, those that are undecided alone; inf where the most that is tried does not decide.
    """
    found = {arm: math.inf for arm, one in compared.items() if one.verdict is ArmVerdict.UNDECIDED}
    n_seeds = max((len(own) for own in values.values()), default=0)
    for times in TIMES:
        if math.inf not in found.values():
            break
        for arm, one in compare({arm: _repeated(own, times) for arm, own in values.items()}).items():
            if found.get(arm) == math.inf and one.verdict is not ArmVerdict.UNDECIDED:
                found[arm] = float(times * n_seeds)
    return found


def _repeated(values: BySeed, times: int) -> BySeed:
    """The same runs several times, each time of other seeds."""
    span = 1 + max(values, default=0) - min(values, default=0)
    return {seed + i * span: value for i in range(times) for seed, value in values.items()}
