"""Whether an arm of a study is better than the reference, worse, or equal within a margin: over many arms at once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import torch

from compo_mech.stats.log_rank import log_rank
from compo_mech.stats.mixed_effects import mixed_effects
from compo_mech.stats.onset import MIN_SEEDS, ROUNDING
from compo_mech.stats.over_seeds import SeedSummary

LEVEL = 0.05
"""Of wrong verdicts: that any arm of several differs that does not, and that any is equal that differs by more."""

BySeed = Mapping[int, float]
"""Values of an arm's runs, by seed."""


class ArmVerdict(StrEnum):
    """How an arm stands to the reference."""

    BETTER = "better"
    WORSE = "worse"
    EQUAL = "equal"
    """Within the margin."""
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Comparison:
    """An arm beside the reference.

    Attributes:
        is_more: whether its values are the higher ones.
        p_differs: that it does not differ, two-sided.
        p_equal: that it differs by the margin or more; like the other, corrected for the number of arms.
        verdict: at 5% for either.
    """

    is_more: bool
    p_differs: float
    p_equal: float
    verdict: ArmVerdict = ArmVerdict.UNDECIDED


def compare_arms(
    summary: SeedSummary,
    values: Mapping[str, BySeed],
    reference: str,
    margin: float,
    ends: Mapping[str, float],
    generator: torch.Generator,
) -> dict[str, Comparison]:
    """Compare each arm with the reference, corrected for the number of arms by Holm's method (1979).

    Means are compared by `mixed_effects`, seeds being shared, and are equal by two one-sided t tests (Schuirmann 1987).
    Times are compared by `log_rank`, and equal by sign tests of the difference seed by seed: its median lies within the
    margin. Fractions are compared by McNemar's exact test seed by seed, and are equal by two one-sided tests with half
    a run added to each cell (Agresti & Min 2005). Times that are less are better, of all else what is more. An arm of
    which either is known is equal rather than better by less than the margin.

    Of runs that do not differ at most 5% of verdicts are better or worse, over all arms together.

    Args:
        summary: what the values are.
        values: of each arm, the reference among them.
        reference: the arm that the others are compared with.
        margin: by which arms may differ and be equal, in units of the values.
        ends: of times, the last step of each arm's runs.
        generator: of permutations.

    Returns:
        By arm, all but the reference.
    """
    others, base = [arm for arm in values if arm != reference], values[reference]
    match summary:
        case SeedSummary.MEAN:
            found = _means(values, reference, margin)
        case SeedSummary.TIME_TO_EVENT:
            known = {arm: (values[arm], ends[arm]) for arm in values}
            found = {arm: _times(known[arm], known[reference], margin, generator) for arm in others}
        case SeedSummary.FRACTION:
            found = {arm: _fractions(values[arm], base, margin) for arm in others}
    differs, equal = (holm([getattr(one, name) for one in found.values()]) for name in ("p_differs", "p_equal"))
    less_is_better = summary is SeedSummary.TIME_TO_EVENT
    return {
        arm: replace(one, p_differs=p, p_equal=q, verdict=_verdict(p, q, one.is_more != less_is_better))
        for (arm, one), p, q in zip(found.items(), differs, equal, strict=True)
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for their number (Holm 1979): at most 5% of families have any below 0.05 that is wrong.

    >>> [round(p, 2) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    corrected, least = [1.0] * len(p_values), 0.0
    for n_before, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        least = max(least, min(1.0, p_values[i] * (len(p_values) - n_before)))
        corrected[i] = least
    return corrected


def _verdict(p_differs: float, p_equal: float, is_better: bool) -> ArmVerdict:
    if p_equal <= LEVEL:
        return ArmVerdict.EQUAL
    if p_differs <= LEVEL:
        return ArmVerdict.BETTER if is_better else ArmVerdict.WORSE
    return ArmVerdict.UNDECIDED


UNKNOWN = Comparison(False, 1.0, 1.0)


def _means(values: Mapping[str, BySeed], reference: str, margin: float) -> dict[str, Comparison]:
    import scipy

    known = {arm: own for arm, own in values.items() if all(map(math.isfinite, own.values()))}  # others have no mean
    found = {arm: UNKNOWN for arm in values if arm != reference}
    for arm, (estimate, error, df) in (mixed_effects(known, reference) if reference in known else {}).items():
        difference = 0.0 if abs(estimate) < ROUNDING else estimate
        distances = abs(difference), margin - difference, margin + difference
        differs, less, more = (float(scipy.special.stdtr(df, -distance / error)) for distance in distances)
        found[arm] = Comparison(difference > 0, 2 * differs, max(less, more))
    return found


def _times(
    own: tuple[BySeed, float], reference: tuple[BySeed, float], margin: float, generator: torch.Generator
) -> Comparison:
    (mine, end), (other, other_end) = own, reference
    if min(len(mine), len(other)) < MIN_SEEDS:
        return UNKNOWN
    ends = [end] * len(mine), [other_end] * len(other)
    found = log_rank(list(mine.values()), list(other.values()), *ends, generator)
    pairs = [0.0 if mine[seed] == other[seed] else mine[seed] - other[seed] for seed in mine.keys() & other]
    equal = max(_p_sign(sum(sign * pair < margin for pair in pairs), len(pairs)) for sign in (1, -1))
    return Comparison(found.n_events < found.expected, found.p, equal)


def _p_sign(n_right: int, n: int) -> float:
    """How likely as many are right, were half of them so."""
    import scipy

    return float(scipy.stats.binom.sf(n_right - 1, n, 0.5))


def _fractions(own: BySeed, reference: BySeed, margin: float) -> Comparison:
    import scipy

    seeds = own.keys() & reference
    if len(seeds) < MIN_SEEDS:
        return UNKNOWN
    n_more, n_less = (sum(sign * (own[s] - reference[s]) > 0 for s in seeds) for sign in (1, -1))
    differs = min(1.0, 2 * _p_sign(max(n_more, n_less), n_more + n_less)) if n_more + n_less else 1.0
    n, apart, together = len(seeds) + 2, n_more - n_less, n_more + n_less + 1
    error = math.sqrt(together - apart**2 / n) / n
    equal = max(float(scipy.special.ndtr(-(margin - sign * apart / n) / error)) for sign in (1, -1))
    return Comparison(n_more > n_less, differs, equal)
