"""Arms beside a reference: the tests by hand, and how often they are wrong."""

import math

import numpy as np
import pytest
import scipy
import torch
from helpers import generator

from compo_mech.stats.log_rank import log_rank
from compo_mech.stats.mixed_effects import mixed_effects
from compo_mech.stats.over_seeds import SeedSummary
from compo_mech.stats.seeds_needed import seeds_to_decide
from compo_mech.stats.verdicts import ArmVerdict, compare_arms, holm

MEAN, FRACTION, TIME = SeedSummary.MEAN, SeedSummary.FRACTION, SeedSummary.TIME_TO_EVENT
NEVER = math.inf
TREATED = [6, 6, 6, 7, 10, 13, 16, 22, 23]
TREATED_CENSORED = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]


def test_the_log_rank_test_is_that_of_a_textbook():
    """Remission times of Freireich et al. 1963: 9 relapses under 6-MP, 19.25 expected (Kleinbaum & Klein 2012)."""
    ends = TREATED + TREATED_CENSORED
    found = log_rank(TREATED + [NEVER] * len(TREATED_CENSORED), PLACEBO, ends, PLACEBO, generator())
    assert (found.n_events, found.expected) == (9, pytest.approx(19.25, abs=0.005))
    assert found.p < 0.001


def test_the_log_rank_test_by_hand():
    """At 1, 2: 5/10 and 4/9 of those at risk are of the first kind; and so on: 1 of 252 ways, and its mirror image."""
    first, second = [1, 2, 3, 4, 5], [6, 7, NEVER, NEVER, NEVER]
    found = log_rank(first, second, [9] * 5, [9] * 5, generator())
    assert found.n_events == 5
    assert found.expected == pytest.approx(5 / 10 + 4 / 9 + 3 / 8 + 2 / 7 + 1 / 6)
    assert found.p == pytest.approx(2 / 252)
    again = log_rank(second, first, [9] * 5, [9] * 5, generator())
    assert (again.p, again.expected) == (found.p, pytest.approx(7 - found.expected))


def test_the_log_rank_statistic_is_scipys():
    rng = np.random.default_rng(0)
    first, second = (np.round(rng.exponential(scale, 40) * 9) for scale in (10, 14))
    censored = [scipy.stats.CensoredData.right_censored(v.clip(max=80), v >= 80) for v in (first, second)]
    lists = [np.where(v >= 80, NEVER, v).tolist() for v in (first, second)]
    found = log_rank(*lists, [80] * 40, [80] * 40, generator())
    assert found.p == pytest.approx(scipy.stats.logrank(*censored).pvalue, abs=0.01)


def test_mixed_effects_of_all_seeds_are_those_of_pairs():
    values = {"a": {0: 0.1, 1: 0.5, 2: 0.9, 3: 0.2}, "b": {0: 0.2, 1: 0.7, 2: 1.0, 3: 0.2}}
    pairs = np.array([0.1, 0.2, 0.1, 0.0])
    (effect,) = mixed_effects(values, "a").values()
    assert effect == pytest.approx((pairs.mean(), pairs.std(ddof=1) / 2, 3), abs=1e-6)


def test_mixed_effects_without_shared_shifts_are_those_of_means():
    """Seeds whose shifts cancel: the variance between them is 0, and all runs count alike, shared seeds or not."""
    values = {"a": {0: 0.0, 1: 1.0, 2: 0.5}, "b": {0: 1.0, 1: 0.0, 3: 0.8}}
    effect = mixed_effects(values, "a")["b"]
    spread = sum((value - np.mean(list(own.values()))) ** 2 for own in values.values() for value in own.values())
    assert effect.difference == pytest.approx(0.6 - 0.5, abs=1e-3)
    assert effect.error == pytest.approx(math.sqrt(spread / 4 * 2 / 3), abs=1e-3)
    assert effect.df == 1


def test_what_leaves_nothing_to_estimate_has_no_effects():
    assert mixed_effects({"a": {0: 1.0}, "b": {0: 2.0}}, "a") == {}
    assert mixed_effects({"a": {}, "b": {0: 2.0, 1: 1.0}}, "a") == {}


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == pytest.approx([1, 1])
    assert holm([]) == []


def by_seed(*values):
    return {seed: float(value) for seed, value in enumerate(values)}


def verdict_of(summary, own, reference, margin, end=2000.0):
    found = compare_arms(summary, {"r": reference, "a": own}, "r", margin, {"a": end, "r": end}, generator())
    return found["a"]


def test_verdicts_by_hand():
    low, high = by_seed(*[0.1, 0.12, 0.14, 0.1, 0.11]), by_seed(*[0.8, 0.85, 0.79, 0.83, 0.8])
    assert verdict_of(MEAN, high, low, 0.05).verdict is ArmVerdict.BETTER
    assert verdict_of(MEAN, low, high, 0.05).verdict is ArmVerdict.WORSE
    assert verdict_of(MEAN, low, by_seed(0.11, 0.12, 0.13, 0.1, 0.12), 0.05).verdict is ArmVerdict.EQUAL
    assert verdict_of(MEAN, by_seed(0.0, 1.0, 0.5, 0.2, 0.9), low, 0.05).verdict is ArmVerdict.UNDECIDED
    assert verdict_of(MEAN, by_seed(0.0, 1.0, NEVER, 0.2, 0.9), low, 0.05).verdict is ArmVerdict.UNDECIDED
    soon, late = by_seed(*range(100, 110)), by_seed(*range(900, 905), *[NEVER] * 5)
    assert verdict_of(TIME, soon, late, 100.0).verdict is ArmVerdict.BETTER
    assert verdict_of(TIME, late, soon, 100.0).verdict is ArmVerdict.WORSE
    assert verdict_of(TIME, soon, by_seed(*range(105, 115)), 100.0).verdict is ArmVerdict.EQUAL
    assert verdict_of(TIME, by_seed(1, 2, 3), by_seed(7, 8, 9), 1.0).verdict is ArmVerdict.UNDECIDED


def test_arms_of_the_same_mean_are_equal_within_any_margin_beyond_their_error():
    base = by_seed(0.3, 0.1, 0.2, 0.4, 0.6, 0.5)
    own = {seed: value + (0.001 if seed % 2 else -0.001) for seed, value in base.items()}
    found = verdict_of(MEAN, own, base, 0.01)
    assert found.verdict is ArmVerdict.EQUAL
    assert found.p_differs == pytest.approx(1)
    assert not found.is_more
    assert verdict_of(MEAN, own, base, 0.0005).verdict is ArmVerdict.UNDECIDED


def test_fractions_by_hand():
    ones, zeros = by_seed(*[1.0] * 60), by_seed(*[0.0] * 60)
    found = verdict_of(FRACTION, by_seed(*[1.0] * 6, *[0.0] * 54), zeros, 0.1)
    assert found.p_differs == pytest.approx(2 * 0.5**6)  # of 6 seeds that differ, all the same way
    assert found.verdict is ArmVerdict.BETTER
    same = verdict_of(FRACTION, ones, ones, 0.1)
    assert same.p_equal == pytest.approx(scipy.stats.norm.sf(0.1 * 62))  # error 1 / 62: half a run in each of two cells
    assert same.verdict is ArmVerdict.EQUAL
    assert verdict_of(FRACTION, by_seed(*[1.0] * 5), by_seed(*[1.0] * 5), 0.1).verdict is ArmVerdict.UNDECIDED


def test_more_arms_ask_for_more():
    values = {"r": by_seed(*[0.0] * 20), **{str(i): by_seed(*[1.0] * 6, *[0.0] * 14) for i in range(4)}}
    alone = compare_arms(FRACTION, {name: values[name] for name in ("r", "0")}, "r", 0.1, {}, generator())
    assert alone["0"].verdict is ArmVerdict.BETTER
    together = compare_arms(FRACTION, values, "r", 0.1, {}, generator())
    assert {one.verdict for one in together.values()} == {ArmVerdict.UNDECIDED}
    assert together["0"].p_differs == pytest.approx(4 * alone["0"].p_differs)


def drawn(summary, rng, shift=0.0, n_arms=3, n_seeds=6):
    """Values of arms whose runs share what their seeds bring; all but the first are shifted."""
    shared = rng.normal(size=n_seeds)
    values = {}
    for arm in range(n_arms):
        mixed = 0.1 * (shared + rng.normal(size=n_seeds)) + (shift if arm else 0.0)
        found = {MEAN: mixed, FRACTION: (mixed > 0) * 1.0, TIME: np.round(100 * np.exp(5 * mixed))}[summary]
        values[str(arm)] = by_seed(*np.where(found > 250, NEVER, found) if summary is TIME else found)
    return values


def share(summary, n, wanted, margin, shift=0.0, seed=0, **sizes):
    rng, draws, came = np.random.default_rng(seed), torch.Generator().manual_seed(seed), 0
    for _ in range(n):
        values = drawn(summary, rng, shift, **sizes)
        found = compare_arms(summary, values, "0", margin, dict.fromkeys(values, 250.0), draws)
        came += any(one.verdict in wanted for one in found.values())
    return came / n


DIFFER = (ArmVerdict.BETTER, ArmVerdict.WORSE)


@pytest.mark.parametrize("summary", SeedSummary)
def test_arms_that_do_not_differ_are_seldom_called_so(summary):
    n = {MEAN: 80, FRACTION: 150, TIME: 30}[summary]
    assert share(summary, n, DIFFER, 0.01) <= scipy.stats.binom.ppf(0.999, n, 0.05) / n


@pytest.mark.slow
@pytest.mark.parametrize("summary", SeedSummary)
def test_verdicts_are_wrong_no_more_often_than_they_say(summary):
    n = {MEAN: 700, FRACTION: 1500, TIME: 100}[summary]
    most = scipy.stats.binom.ppf(0.999, n, 0.05) / n
    assert share(summary, n, DIFFER, 0.01, seed=1) <= most
    assert share(summary, n, DIFFER, 0.01, seed=2, n_seeds=12, n_arms=2) <= most
    if summary is MEAN:  # at the margin, none is equal
        assert 0.01 < share(summary, n, (ArmVerdict.EQUAL,), 0.1, shift=0.1, seed=3, n_seeds=12) <= most


# ------------------------------------------------------------------------------------------ seeds needed


def needed(summary, values, margin):
    def compare(values):
        return compare_arms(summary, values, "a", margin, dict.fromkeys(values, 3000.0), generator())

    return seeds_to_decide(compare(values), values, compare)


def test_seeds_that_fractions_need_by_hand():
    """Six runs for the better and none against are 2 of 64; with no difference the error is 1 run of n + 2."""
    better = {"a": dict.fromkeys(range(5), 0.0), "b": {0: 1.0, 1: 1.0, 2: 0.0, 3: 0.0, 4: 0.0}}
    assert needed(FRACTION, better, margin=0.0) == {"b": 15}
    same = {"a": dict.fromkeys(range(5), 1.0), "b": dict.fromkeys(range(5), 1.0)}
    assert needed(FRACTION, same, margin=0.1) == {"b": 15}
    assert needed(FRACTION, same, margin=0.0) == {"b": NEVER}
    fewer = {"a": dict.fromkeys(range(5), 1.0), "b": dict.fromkeys(range(4), 1.0)}
    assert needed(FRACTION, fewer, margin=0.1) == {"b": 20}  # four times as many, of the arm that has most


@pytest.mark.parametrize("summary", [MEAN, TIME])
def test_a_larger_difference_needs_fewer_seeds_and_what_is_decided_none(summary):
    noise = np.random.default_rng(3).normal(0, 100, (2, 6))
    values = {"a": {seed: float(500 + noise[0, seed]) for seed in range(6)}}
    for name, shift in (("near", 40.0), ("far", 100.0), ("further", 2000.0)):
        values[name] = {seed: float(500 + shift + noise[1, seed]) for seed in range(6)}
    found = needed(summary, values, margin=5.0)
    assert set(found) == {"near", "far"}
    assert found["near"] > found["far"] > 6
