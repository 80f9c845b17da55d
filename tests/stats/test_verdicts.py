"""Arms beside a reference: the tests by hand, and how often they are wrong."""

import math

import numpy as np
import pytest
import scipy
import torch
from helpers import generator

from compo_mech.stats.log_rank import MAX_WAYS, log_rank
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


def test_all_ways_are_tried_up_to_ten_runs_of_each_kind():
    """The best of 184756 ways; of eleven runs the ways are drawn, and p says how far another draw may be."""
    assert math.comb(20, 10) <= MAX_WAYS < math.comb(22, 11)
    sooner, later = list(range(1, 12)), list(range(21, 32))
    found = log_rank(sooner[:10], later[:10], [40] * 10, [40] * 10, generator())
    assert (found.p, found.p_error) == (pytest.approx(2 / math.comb(20, 10)), 0)
    least = log_rank(sooner, later, [40] * 11, [40] * 11, generator())
    assert least.p >= 2 / 100_000  # drawn ways are never all against


def test_another_generator_gives_the_same_p_within_its_error():
    rng = np.random.default_rng(1)
    first, second = (np.round(rng.exponential(scale, 14) * 9).tolist() for scale in (10, 20))
    found = [log_rank(first, second, [999] * 14, [999] * 14, generator(seed)) for seed in range(3)]
    assert 0.01 < found[0].p < 0.2
    assert found[0].p_error == pytest.approx(math.sqrt(2 * found[0].p * (1 - found[0].p / 2) / 99_999), rel=1e-3)
    assert np.ptp([one.p for one in found]) <= 5 * found[0].p_error < 0.006
    assert len({round(one.p, 2) for one in found}) == 1


def test_sums_that_tie_tie():
    """Thirds and sevenths do not add up in single precision; half of these ways come to as much."""
    times = [1, 2, 3, 4, 5, 6, 7, NEVER, NEVER, NEVER]
    found = log_rank(times[::2], times[1::2], [9] * 5, [9] * 5, generator())
    mirrored = log_rank(times[1::2], times[::2], [9] * 5, [9] * 5, generator())
    assert found.p == mirrored.p
    assert found.n_events - found.expected == pytest.approx(mirrored.expected - mirrored.n_events, abs=1e-12)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == pytest.approx([1, 1])
    assert holm([]) == []


@pytest.mark.parametrize("p", [math.nan, -0.01, 1.01])
def test_what_is_no_p_value_is_refused(p):
    with pytest.raises(ValueError, match=f"p_values = {p:g}: must be 0 .. 1"):
        holm([p, 0.01])


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


def test_means_are_compared_by_the_differences_of_their_own_seeds():
    base, own = by_seed(0.1, 0.5, 0.9, 0.2, 0.4), by_seed(0.2, 0.7, 1.0, 0.2, 0.5)
    pairs = np.array([0.1, 0.2, 0.1, 0.0, 0.1])
    found = verdict_of(MEAN, own, base, 0.2)
    assert found.p_differs == pytest.approx(scipy.stats.ttest_1samp(pairs, 0).pvalue)
    assert found.p_equal == pytest.approx(scipy.stats.ttest_1samp(pairs, 0.2, alternative="less").pvalue)
    assert verdict_of(MEAN, {**own, 9: 7.0}, base, 0.2) == found  # a seed of one arm alone says nothing
    assert verdict_of(MEAN, {**own, 9: None}, {**base, 9: 0.3}, 0.2) == found
    noisy = dict(zip(range(5), [9.0, -9.0, 0.0, 4.0, -4.0], strict=True))
    beside = compare_arms(MEAN, {"r": base, "a": own, "b": noisy}, "r", 0.2, {}, generator())["a"]
    assert beside.p_differs == pytest.approx(2 * found.p_differs)  # of two arms, however much the other varies


@pytest.mark.parametrize(("n", "told"), [(4, ("undecided", "too few runs")), (5, ("worse", ""))])
def test_of_fewer_than_five_runs_nothing_is_decided(n, told):
    high, low = by_seed(0.8, 0.85, 0.79, 0.83, 0.8), by_seed(0.1, 0.12, 0.14, 0.1, 0.11)
    survived = {seed: value if seed < n else None for seed, value in low.items()}
    for own in (survived, {s: v for s, v in low.items() if s < n}):
        found = verdict_of(MEAN, own, high, 0.05)
        assert (found.verdict, found.why) == told


def test_seeds_that_all_differ_by_the_same_are_no_certainty():
    """2 of the 252 ways to permute five runs and five, and 1 of the 32 ways of five signs."""
    zeros, ones = by_seed(*[0.0] * 5), by_seed(*[1.0] * 5)
    better = verdict_of(MEAN, ones, zeros, 0.05)
    assert (better.p_differs, better.p_equal) == (pytest.approx(2 / 252), 1)
    assert better.verdict is ArmVerdict.BETTER
    assert verdict_of(MEAN, zeros, ones, 0.05).verdict is ArmVerdict.WORSE
    same = verdict_of(MEAN, ones, ones, 0.05)
    assert (same.p_differs, same.p_equal) == (1, pytest.approx(1 / 32))
    assert same.verdict is ArmVerdict.EQUAL
    several = compare_arms(MEAN, {"r": ones, "a": ones, "b": ones}, "r", 0.05, {}, generator())
    assert {one.verdict for one in several.values()} == {ArmVerdict.UNDECIDED}


def test_what_was_not_seen_is_not_equal():
    """Censored in both, failed in both, and one of each: of none is it known that they differ by less."""
    never, failed = by_seed(*[NEVER] * 10), dict.fromkeys(range(10), None)
    for own, base in ((never, never), (failed, failed), (never, failed)):
        found = verdict_of(TIME, own, base, 100.0)
        assert (found.p_differs, found.p_equal) == (1, 1)
        assert (found.verdict, found.why) == ("undecided", "too few events")
    # seen in four of ten; in five of five
    assert verdict_of(TIME, *[by_seed(*[50.0] * 4, *[NEVER] * 6)] * 2, 100.0).why == "too few events"
    assert verdict_of(TIME, *[by_seed(*[50.0] * 5)] * 2, 100.0).verdict is ArmVerdict.EQUAL
    # nine of ten, 11 ways of 1024; of eight, 56
    for n, verdict in ((9, ArmVerdict.EQUAL), (8, ArmVerdict.UNDECIDED)):
        times = by_seed(*[50.0] * n, *[NEVER] * (10 - n))
        assert verdict_of(TIME, times, times, 100.0).verdict is verdict
        assert verdict_of(TIME, times, times, 100.0).why == ""


def test_a_run_that_was_followed_less_long_may_have_come_later():
    """Beside an event at 950 a run censored at 900 came at most 50 sooner; beside one at 1050 perhaps 150."""
    for late, n_right in ((950.0, 11), (1050.0, 10)):
        base, own = by_seed(*[100.0] * 10, 800.0, late), by_seed(*[100.0] * 10, 10.0, NEVER)
        values = {"r": base, "a": own}
        found = compare_arms(TIME, values, "r", 100.0, {"r": 2000.0, "a": 900.0}, generator())["a"]
        assert found.p_equal == pytest.approx(scipy.stats.binom.sf(n_right - 1, 12, 0.5))


def test_failed_runs_of_a_fraction_count_against_their_arm_and_never_for_equality():
    failed, ones, zeros = dict.fromkeys(range(40), None), by_seed(*[1.0] * 40), by_seed(*[0.0] * 40)
    for own, base in ((failed, failed), (failed, zeros), (zeros, failed)):
        found = verdict_of(FRACTION, own, base, 0.1)
        assert (found.p_differs, found.p_equal) == (1, 1)
        assert (found.verdict, found.why) == ("undecided", "too few runs")
    assert verdict_of(FRACTION, zeros, zeros, 0.1).verdict is ArmVerdict.EQUAL
    assert verdict_of(FRACTION, failed, ones, 0.1).verdict is ArmVerdict.WORSE
    partly = {**zeros, **dict.fromkeys(range(30), None)}
    assert verdict_of(FRACTION, partly, zeros, 0.1).p_equal == pytest.approx(scipy.stats.norm.sf(0.1 * 12))


@pytest.mark.parametrize(
    ("summary", "values", "message"),
    [
        (MEAN, {"r": {0: 1.0}, "a": {0: 1.0, 1: math.nan}}, "values of a = nan: must be numbers"),
        (TIME, {"r": {0: math.nan}}, "values of r = nan: must be numbers"),
        (FRACTION, {"r": {0: 1.0}, "a": {0: math.nan}}, "values of a = nan: must be numbers"),
        (FRACTION, {"r": {0: 0.9}}, "values of r = 0.9: must be 0 or 1"),
        (MEAN, {"a": {0: 1.0}, "b": {}}, "reference = r: must be an arm that has runs, of a, b"),
        (MEAN, {}, "reference = r: must be an arm that has runs, of none"),
        (TIME, {"r": {0: 1.0}, "x": {0: 1.0}}, "ends = none of x: must be the last step of each arm's runs"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(summary, values, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        compare_arms(summary, values, "r", 0.1, {"r": 9.0, "a": 9.0, "b": 9.0}, generator())


@pytest.mark.parametrize("summary", [MEAN, TIME, FRACTION])
def test_pairs_are_compared_as_alone_and_corrected_together(summary):
    draws, ends = np.random.default_rng(0), dict.fromkeys("abcd", 250.0)
    shifts = {"a": 0, "b": 60, "c": 0, "d": 20}
    values = {arm: by_seed(*(draws.normal(100 + by, 30, 12)).round()) for arm, by in shifts.items()}
    if summary is FRACTION:
        values = {arm: {seed: float(value > 110) for seed, value in own.items()} for arm, own in values.items()}
    together = compare_arms(summary, values, {"b": "a", "d": "c"}, 5.0, ends, generator())
    alone = {arm: compare_arms(summary, {base: values[base], arm: values[arm]}, base, 5.0, ends, generator())[arm]
             for arm, base in (("b", "a"), ("d", "c"))}  # fmt: skip
    assert list(together) == ["b", "d"]
    near = 0.01 if summary is TIME else 1e-6  # permutations are drawn
    for name in ("p_differs", "p_equal"):
        corrected = holm([getattr(alone[arm], name) for arm in together])
        assert [getattr(one, name) for one in together.values()] == pytest.approx(corrected, abs=near)
    to_one = compare_arms(summary, values, dict.fromkeys("bcd", "a"), 5.0, ends, generator())
    assert to_one == compare_arms(summary, values, "a", 5.0, ends, generator())
    with pytest.raises(ValueError, match="reference = e: must be an arm that has runs, of a, b, c, d"):
        compare_arms(summary, values, {"e": "a"}, 5.0, ends, generator())


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


def found_of(n, spreads, wanted, shift=0.0, seed=0, n_seeds=5):
    """How often some arm is called so, of arms that spread as much as is given; the last is shifted."""
    rng, came = np.random.default_rng(seed), 0
    for _ in range(n):
        values = {str(i): by_seed(*rng.normal(0.5, spread, n_seeds)) for i, spread in enumerate(spreads)}
        last = str(len(spreads) - 1)
        values[last] = {seed: value + shift for seed, value in values[last].items()}
        found = compare_arms(MEAN, values, "0", 0.05, {}, generator())
        came += any(one.verdict in wanted for one in found.values())
    return came / n


SPREADS = {"alike": [0.1] * 4, "2 noisy, 6 quiet": [0.2] * 2 + [0.01] * 6, "3 noisy, 2 quiet": [0.1] * 3 + [0.02] * 2}


@pytest.mark.parametrize("spreads", SPREADS.values(), ids=SPREADS)
def test_arms_that_spread_unlike_are_called_different_no_more_often_than_is_said(spreads):
    n = 400
    assert found_of(n, spreads, DIFFER) <= scipy.stats.binom.ppf(0.999, n, 0.05) / n
    assert found_of(n, spreads[::-1], DIFFER, seed=1) <= scipy.stats.binom.ppf(0.999, n, 0.05) / n


def test_a_difference_of_several_standard_deviations_is_found():
    """Of four arms by 5 seeds: 3 deviations in about a half, 6 nearly always; by 10 seeds 3 nearly always."""
    assert 0.3 < found_of(200, [0.1] * 4, DIFFER, shift=0.3) < 0.8
    assert found_of(200, [0.1] * 4, DIFFER, shift=0.6) > 0.9
    assert found_of(200, [0.1] * 4, DIFFER, shift=0.3, n_seeds=10) > 0.95


@pytest.mark.parametrize("mean", [3000, 6000])
def test_times_that_are_mostly_censored_are_seldom_called_equal(mean):
    """One arm takes three times as long, and neither is seen to come before 1600 in most runs."""
    rng, n, came = np.random.default_rng(0), 100, 0
    for _ in range(n):
        drawn = (rng.exponential(scale, 10) for scale in (mean, 3 * mean))
        slow, fast = (by_seed(*np.where(times > 1600, NEVER, times)) for times in drawn)
        came += verdict_of(TIME, slow, fast, 100.0, end=1600.0).verdict is ArmVerdict.EQUAL
    assert came <= scipy.stats.binom.ppf(0.999, n, 0.05)


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
