"""Whether an arm of a study is better than the reference, worse, or equal within a margin: over many arms at once."""

import math
import statistics
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from enum import StrEnum

import torch

from compo_mech.stats.log_rank import log_rank
from compo_mech.stats.onset import MIN_SEEDS, ROUNDING
from compo_mech.stats.over_seeds import SeedSummary, check_values

LEVEL = 0.05
"""Of wrong verdicts: that any arm of several differs that does not, and that any is equal that differs by more."""

BySeed = Mapping[int, float | None]
"""Values of an arm's runs, by seed; None: the run failed."""

TOO_FEW_RUNS, TOO_FEW_EVENTS, NO_MEAN = "too few runs", "too few events", "no mean of what is infinite"


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
        why: what keeps it undecided, where that is no matter of p values: too few runs, too few events, no mean.
    """

    is_more: bool
    p_differs: float
    p_equal: float
    verdict: ArmVerdict = ArmVerdict.UNDECIDED
    why: str = ""


def compare_arms(
    summary: SeedSummary,
    values: Mapping[str, BySeed],
    reference: str | Mapping[str, str],
    margin: float,
    ends: Mapping[str, float],
    generator: torch.Generator,
) -> dict[str, Comparison]:
    """Compare each arm with the reference, or arms in pairs, corrected for their number by Holm's method (1979).

    Means are compared seed by seed, by a t test of the differences of the arm and the reference alone, so that it does
    not matter how much other arms vary; they are equal by two one-sided ones (Schuirmann 1987). Where all seeds differ
    by the same their spread is not known, and they are compared as times are: by how many ways there are to permute the
    runs, and by sign tests. Times are compared by `log_rank`, and equal by sign tests of the difference seed by seed:
    its median lies within the margin. A seed of which it is not known that it does, as neither run saw the event, does
    not count for that. Fractions are compared by McNemar's exact test seed by seed, and are equal by two one-sided
    tests with half a run added to each cell (Agresti & Min 2005). Times that are less are better, of all else what is
    more. An arm of which either is known is equal rather than better by less than the margin.

    Of runs that do not differ at most 5% of verdicts are better or worse, over all arms together. Means are taken for
    normal: a failure in one of five runs does not show in a third of all fives.

    A run that failed is one in which the event did not come, or a 0 of a fraction, which counts against its arm but
    never for equality; from a mean its seed is left out. Nothing is decided of fewer than `MIN_SEEDS` runs.

    Args:
        summary: what the values are.
        values: of each arm, references among them.
        reference: the arm that the others are compared with, or by arm which other one it is compared with.
        margin: by which arms may differ and be equal, in units of the values.
        ends: of times, the last step of each arm's runs.
        generator: of permutations.

    Returns:
        By arm, all but the reference, or all that have one.

    Raises:
        ValueError: there is no such reference or arm, a value is not what is summarised, or an arm of times has no end.
    """
    pairs = {arm: reference for arm in values if arm != reference} if isinstance(reference, str) else reference
    named = {reference} if isinstance(reference, str) else {*pairs, *pairs.values()}
    _check(summary, values, named, ends)
    match summary:
        case SeedSummary.MEAN:
            found = {arm: _means(values[arm], values[base], margin) for arm, base in pairs.items()}
        case SeedSummary.TIME_TO_EVENT:
            known = {arm: (_times_of(values[arm]), ends[arm]) for arm in values}
            found = {arm: _times(known[arm], known[base], margin, generator) for arm, base in pairs.items()}
        case SeedSummary.FRACTION:
            found = {arm: _fractions(values[arm], values[base], margin) for arm, base in pairs.items()}
    differs, equal = (holm([getattr(one, name) for one in found.values()]) for name in ("p_differs", "p_equal"))
    less_is_better = summary is SeedSummary.TIME_TO_EVENT
    return {
        arm: _judged(replace(one, p_differs=p, p_equal=q), one.is_more != less_is_better)
        for (arm, one), p, q in zip(found.items(), differs, equal, strict=True)
    }


def _check(summary: SeedSummary, values: Mapping[str, BySeed], named: Set[str], ends: Mapping[str, float]) -> None:
    if missing := named - values.keys():
        raise ValueError(f"reference = {min(missing)}: must be an arm that has runs, of {', '.join(values) or 'none'}")
    for arm, own in values.items():
        check_values(f"values of {arm}", summary, [value for value in own.values() if value is not None])
        if summary is SeedSummary.TIME_TO_EVENT and arm not in ends:
            raise ValueError(f"ends = none of {arm}: must be the last step of each arm's runs")


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for their number (Holm 1979): at most 5% of families have any below 0.05 that is wrong.

    Raises:
        ValueError: one is not between 0 and 1.

    >>> [round(p, 2) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    for p in p_values:
        if not 0 <= p <= 1:
            raise ValueError(f"p_values = {p:g}: must be 0 .. 1")
    corrected, least = [1.0] * len(p_values), 0.0
    for n_before, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        least = max(least, min(1.0, p_values[i] * (len(p_values) - n_before)))
        corrected[i] = least
    return corrected


def _judged(one: Comparison, is_better: bool) -> Comparison:
    if one.p_equal <= LEVEL:
        return replace(one, verdict=ArmVerdict.EQUAL, why="")
    if one.p_differs <= LEVEL:
        return replace(one, verdict=ArmVerdict.BETTER if is_better else ArmVerdict.WORSE, why="")
    return one


def _unknown(why: str) -> Comparison:
    return Comparison(False, 1.0, 1.0, why=why)


def _means(own: BySeed, reference: BySeed, margin: float) -> Comparison:
    """By a t test of the differences seed by seed, whose spread is their own."""
    import scipy

    pairs = [(mine, other) for seed in own if (mine := own[seed]) is not None
             and (other := reference.get(seed)) is not None]  # fmt: skip
    if math.inf in map(abs, (value for one in (own, reference) for value in one.values() if value is not None)):
        return _unknown(NO_MEAN)
    if (n := len(pairs)) < MIN_SEEDS:
        return _unknown(TOO_FEW_RUNS)
    apart = [mine - other for mine, other in pairs]
    mean, rounding = statistics.fmean(apart), ROUNDING * max(abs(value) for pair in pairs for value in pair)
    mean = 0.0 if abs(mean) <= rounding else mean
    if max(apart) - min(apart) <= rounding:
        differs = 2 / math.comb(2 * n, n) if mean else 1.0
        return Comparison(mean > 0, differs, 0.5**n if abs(mean) < margin else 1.0)
    error = statistics.stdev(apart) / math.sqrt(n)
    distances = abs(mean), margin - mean, margin + mean
    differs, less, more = (float(scipy.special.stdtr(n - 1, -distance / error)) for distance in distances)
    return Comparison(mean > 0, 2 * differs, max(less, more))


def _times_of(own: BySeed) -> dict[int, float]:
    """Times to the event, from step 0 on; it did not come in runs that failed."""
    return {seed: math.inf if value is None else max(0.0, value) for seed, value in own.items()}


def _times(
    own: tuple[Mapping[int, float], float],
    reference: tuple[Mapping[int, float], float],
    margin: float,
    generator: torch.Generator,
) -> Comparison:
    (mine, end), (other, other_end) = own, reference
    if min(len(mine), len(other)) < MIN_SEEDS:
        return _unknown(TOO_FEW_RUNS)
    ends = [end] * len(mine), [other_end] * len(other)
    found = log_rank(list(mine.values()), list(other.values()), *ends, generator)
    pairs = [(mine[seed], other[seed]) for seed in mine.keys() & other]
    # the most that a difference can be; a run that was censored came to more than its end
    most = [one - min(two, other_end) for one, two in pairs], [two - min(one, end) for one, two in pairs]
    equal = max(_p_sign(sum(apart < margin for apart in side), len(pairs)) for side in most)
    n_seen = sum(min(pair) < math.inf for pair in pairs)
    why = TOO_FEW_EVENTS if n_seen < MIN_SEEDS else ""
    return Comparison(found.n_events < found.expected, found.p, equal, why=why)


def _p_sign(n_right: int, n: int) -> float:
    """How likely as many are right, were half of them so."""
    import scipy

    return float(scipy.stats.binom.sf(n_right - 1, n, 0.5))


def _fractions(own: BySeed, reference: BySeed, margin: float) -> Comparison:
    import scipy

    pairs = [(own[seed], reference[seed]) for seed in own.keys() & reference]
    if len(pairs) < MIN_SEEDS:
        return _unknown(TOO_FEW_RUNS)
    n_more, n_less = (sum(sign * ((one or 0) - (two or 0)) > 0 for one, two in pairs) for sign in (1, -1))
    differs = min(1.0, 2 * _p_sign(max(n_more, n_less), n_more + n_less)) if n_more + n_less else 1.0
    n_same = sum(one == two and one is not None for one, two in pairs)  # what failed is like nothing
    n, apart, together = n_more + n_less + n_same + 2, n_more - n_less, n_more + n_less + 1
    error = math.sqrt(together - apart**2 / n) / n
    equal = max(float(scipy.special.ndtr(-(margin - sign * apart / n) / error)) for sign in (1, -1))
    why = TOO_FEW_RUNS if n - 2 < MIN_SEEDS else ""
    return Comparison(n_more > n_less, differs, equal if not why else 1.0, why=why)
