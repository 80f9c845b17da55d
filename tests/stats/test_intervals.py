"""Intervals of fractions and of bounded means."""

import math

import numpy as np
import pytest
import scipy

from compo_mech.stats.intervals import Interval, bounded, counted, level_beside, on_its_side, two_decimals, wilson
from compo_mech.stats.over_seeds import SeedSummary, over_seeds

FRACTION, NONE = (0.0, 1.0), (-math.inf, math.inf)


def student(values):
    """Half of Student's interval."""
    n = len(values)
    return float(scipy.special.stdtrit(n - 1, 0.975)) * float(np.std(values, ddof=1)) / math.sqrt(n)


@pytest.mark.parametrize(("n_right", "n"), [(0, 5), (5, 5), (1, 1), (7, 10), (1, 1000)])
def test_wilson_by_hand(n_right, n):
    """(Wilson 1927): the p at which the fraction is 1.96 of p's own standard errors away."""
    found, z = wilson(n_right, n), 1.959964
    assert found.mean == n_right / n
    assert 0 <= found.low <= found.mean <= found.high <= 1
    for p in found[1:]:
        if 0 < p < 1:
            assert abs(found.mean - p) == pytest.approx(z * math.sqrt(p * (1 - p) / n), abs=1e-6)
    assert (found.low == 0) == (n_right == 0)
    assert (found.high == 1) == (n_right == n)


@pytest.mark.parametrize("n", [*range(1, 12), 64, 1000])
def test_wilson_is_scipys(n):
    for n_right in {0, 1, n // 3, n // 2, n - 1, n}:
        theirs = scipy.stats.binomtest(n_right, n).proportion_ci(0.95, method="wilson")
        assert wilson(n_right, n)[1:] == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(("n_right", "n"), [(1, 0), (6, 5), (-1, 5)])
def test_what_is_no_fraction_is_refused(n_right, n):
    with pytest.raises(ValueError, match="must be"):
        wilson(n_right, n)


@pytest.mark.parametrize("bounds", [FRACTION, (0.0, math.inf), (-math.inf, 1.0), (-1.0, 1.0), (0.3, 0.9)])
@pytest.mark.parametrize("half", [1e-6, 0.1, 0.62, 5.0])
@pytest.mark.parametrize("mean", [0.31, 0.5, 0.89])
def test_an_interval_holds_what_is_as_far_away_as_its_own_variance_allows(mean, half, bounds):
    found = bounded(mean, half, bounds)
    low, high = bounds
    assert low < found.low < mean < found.high < high

    def variance(value):
        return (value - low if low > -math.inf else 1) * (high - value if high < math.inf else 1)

    for end in found[1:]:
        assert abs(end - mean) == pytest.approx(half * math.sqrt(variance(end) / variance(mean)), rel=1e-6)


def test_without_bounds_or_far_from_them_it_is_the_plain_one_and_of_ones_and_zeros_wilsons():
    assert bounded(0.5, 0.7, NONE) == pytest.approx((0.5, -0.2, 1.2))
    assert bounded(50.0, 0.5, (0.0, 100.0)) == pytest.approx((50, 49.5, 50.5), abs=1e-3)
    p, n = 0.7, 10
    assert bounded(p, 1.959964 * math.sqrt(p * (1 - p) / n), FRACTION) == pytest.approx(wilson(7, 10), abs=1e-6)
    assert bounded(0.8, 0.4, FRACTION).low == pytest.approx(1 - bounded(0.2, 0.4, FRACTION).high)
    for end in FRACTION:
        assert bounded(end, 0.2, FRACTION) == (end, end, end)
    with pytest.raises(ValueError, match=r"mean = 1.2: must be 0 \.\. 1"):
        bounded(1.2, 0.1, FRACTION)


@pytest.mark.parametrize("values", [[0.0, 0.0, 1.0], [0.9, 1.0, 1.0, 1.0, 0.38], [0.2, 0.25, 0.99], [0.01, 0.02, 0.6]])
def test_means_of_fractions_over_seeds_have_intervals_between_0_and_1(values):
    plain, found = over_seeds(SeedSummary.MEAN, values), over_seeds(SeedSummary.MEAN, values, FRACTION)
    assert plain == pytest.approx(
        (np.mean(values), np.mean(values) - student(values), np.mean(values) + student(values))
    )
    assert plain.low < 0 or plain.high > 1
    assert found.mean == plain.mean
    assert 0 < found.low < found.mean < found.high < 1
    assert found not in (plain, (plain.mean, max(0.0, plain.low), min(1.0, plain.high)))  # nothing is cut


def test_a_value_beyond_its_bounds_widens_them():
    found = over_seeds(SeedSummary.MEAN, [0.99, 1.0, 1.03], FRACTION)
    assert 0 < found.low < 1 < found.mean < found.high < 1.03


def test_means_over_seeds_hold_the_truth():
    rng, right = np.random.default_rng(0), np.zeros(2)
    for _ in range(400):
        values = rng.beta(9, 1, 5).tolist()
        found = over_seeds(SeedSummary.MEAN, values, FRACTION), over_seeds(SeedSummary.MEAN, values)
        right += [interval.low <= 0.9 <= interval.high for interval in found]
    assert right[0] / 4 >= 92
    assert right[0] > right[1]


def test_what_rounds_to_zero_has_no_sign_and_what_is_off_a_level_looks_so():
    assert str(Interval(0.18, -0.001, 0.4)) == "0.18 (0.00 .. 0.40)"
    assert two_decimals(-0.004) == "0.00"
    assert two_decimals(-0.006) == "-0.01"
    assert [on_its_side(value, 0.9) for value in (0.9, 0.904, 0.896, 0.8951, 0.89)] == [
        "0.90", "0.904", "0.896", "0.895", "0.89",
    ]  # fmt: skip
    assert [on_its_side(value, 0.99, percent=True) for value in (0.99, 0.9899, 0.98996, 1.0)] == [
        "99.0%", "98.99%", "98.996%", "100.0%",
    ]  # fmt: skip
    assert on_its_side(-0.0001, 0.1, percent=True) == "0.0%"
    assert [on_its_side(value, 0.3) for value in (1 - 0.7, 0.3000001, 0.29)] == ["0.30", "0.3000001", "0.29"]
    assert [on_its_side(value, 0.0, decimals=3) for value in (0.0002, -0.0002, 0.02)] == ["0.0002", "-0.0002", "0.020"]


@pytest.mark.parametrize("level", [0.75, 0.754, 0.673, 2 / 3, 0.05, 0.99996])
@pytest.mark.parametrize("by", [-0.2, -1e-2, -1e-3, -1e-4, -1e-6, 0.0, 1e-6, 1e-4, 1e-2, 0.2])
@pytest.mark.parametrize("percent", [False, True])
def test_a_level_that_is_not_round_is_written_on_its_side_of_what_is_written(level, by, percent):
    value = level + by
    written = on_its_side(value, level, percent)
    beside = level_beside(level, value, written)
    assert np.sign(round(float(written.strip("%")) - float(beside.strip("%")), 12)) == np.sign(by)


def test_a_level_has_no_more_decimals_than_it_takes():
    assert level_beside(0.754, 0.55, "55.0%") == "75%"
    assert level_beside(0.754, 0.7536, "75.36%") == "75.4%"
    assert level_beside(0.7534, 0.7526, "75.3%") == "75.34%"
    assert level_beside(2 / 3, 0.668, "0.67") == "0.667"


def test_one_thing_is_singular():
    assert [counted(n, "edge") for n in (0, 1, 2)] == ["0 edges", "1 edge", "2 edges"]
