import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compo_mech.stats.optimum import Optimum, optimum
from compo_mech.stats.over_seeds import SeedSummary, over_seeds

MEAN, TIME, FRACTION = SeedSummary.MEAN, SeedSummary.TIME_TO_EVENT, SeedSummary.FRACTION


def found(summary, values) -> Optimum:
    best = optimum(summary, values, torch.Generator().manual_seed(0))
    assert best is not None
    return best


def test_what_is_best_in_every_seed_is_best_without_doubt():
    values = {share: {seed: share * (1 - share) + seed for seed in range(5)} for share in (0.0, 0.25, 0.5, 0.9)}
    assert found(MEAN, values) == (0.5, 0.5, 0.5, 5)
    waits = {share: {seed: 1000.0 - own for seed, own in of.items()} for share, of in values.items()}
    assert found(TIME, waits) == (0.5, 0.5, 0.5, 5)


def test_of_what_is_as_good_none_is_best_and_all_are_in_the_interval():
    ties = {share: dict.fromkeys(range(4), 1.0) for share in (0.0, 0.5, 1.0)}
    for summary in (FRACTION, TIME):
        best, *rest = found(summary, ties)
        assert math.isnan(best)
        assert rest == [0.0, 1.0, 4]
    best, *rest = found(FRACTION, ties | {0.5: dict.fromkeys(range(4), 0.0)})
    assert math.isnan(best)  # not 0.5, which is the worst
    assert rest == [0.0, 1.0, 4]


@given(st.lists(st.lists(st.floats(0, 1), min_size=6, max_size=6), min_size=2, max_size=4))
def test_the_best_has_the_largest_mean_and_the_interval_lies_among_the_settings(rows):
    best = found(MEAN, {float(at): dict(enumerate(row)) for at, row in enumerate(rows)})
    means = [torch.tensor(row, dtype=torch.float64).mean() for row in rows]
    tied = [at for at, mean in enumerate(means) if mean == max(means)]
    assert best.best == tied[0] if len(tied) == 1 else math.isnan(best.best)
    assert 0 <= best.low <= best.high <= len(rows) - 1


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
def test_times_are_best_where_their_median_over_seeds_is_least(n):
    draws = torch.Generator().manual_seed(n)
    for _ in range(10):
        rows = torch.randint(1, 9, (3, n), generator=draws).double().mul(100)
        rows[rows > 600] = math.inf
        medians = [over_seeds(TIME, row.tolist()).mean for row in rows]
        best = found(TIME, {float(at): dict(enumerate(row.tolist())) for at, row in enumerate(rows)}).best
        assert math.isnan(best) if medians.count(min(medians)) > 1 else medians[int(best)] == min(medians)


def test_noise_alone_leaves_every_setting_possible_and_one_that_stands_out_is_told():
    noise = torch.randn(4, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values = {float(at): dict(enumerate(row.tolist())) for at, row in enumerate(noise)}
    assert found(MEAN, values)[1:3] == (0.0, 3.0)
    shifted = values | {2.0: {seed: value + 5 for seed, value in values[2.0].items()}}
    assert found(MEAN, shifted) == (2.0, 2.0, 2.0, 12)


@pytest.mark.parametrize(("n_against", "low"), [(2, 1.0), (4, 0.0)])
def test_what_less_than_a_fortieth_of_resamples_says_is_not_in_the_interval(n_against, low):
    """Of 12 seeds; that 6 or more of 12 drawn ones are against, too, has a probability of 0.008, and of 0.18."""
    first = {seed: float(seed < n_against) for seed in range(12)}
    second = {seed: 1 - value for seed, value in first.items()}
    assert found(MEAN, {0.0: first, 1.0: second}) == (1.0, low, 1.0, 12)
    assert found(MEAN, {0.0: second, 1.0: first}) == (0.0, 0.0, 1 - low, 12)


def test_seeds_are_resampled_together():
    """What all runs of a seed share does not widen the interval, as it would if each setting had its own seeds."""
    of_seed = torch.randn(12, generator=torch.Generator().manual_seed(2), dtype=torch.float64).mul(100).tolist()
    values = {at: {seed: own + (at == 1.0) for seed, own in enumerate(of_seed)} for at in (0.0, 1.0, 2.0)}
    assert found(MEAN, values) == (1.0, 1.0, 1.0, 12)


def test_a_run_that_failed_is_the_worst_or_left_out():
    times = {0.0: {0: 900.0, 1: 900.0, 2: 900.0}, 1.0: {0: 100.0, 1: None, 2: None}}
    assert found(TIME, times).best == 0.0
    assert found(FRACTION, {0.0: {0: 1.0, 1: 0.0}, 1.0: {0: None, 1: None}}).best == 0.0
    assert found(MEAN, {0.0: {0: 0.5, 1: 0.9}, 1.0: {0: 0.6, 1: None}}) == (1.0, 1.0, 1.0, 1)  # seed 1 is left out


@pytest.mark.parametrize("values", [{}, {0.0: {0: 1.0}, 1.0: {1: 1.0}}, {0.0: {0: None}}])
def test_without_a_seed_that_all_have_nothing_is_said(values):
    assert optimum(MEAN, values, torch.Generator()) is None


@pytest.mark.parametrize(
    ("summary", "value", "message"),
    [
        (MEAN, math.nan, "must be numbers"),
        (MEAN, math.inf, "a mean must be of finite ones"),
        (FRACTION, 0.5, "must be 0 or 1"),
    ],
)
def test_what_cannot_be_ranked_is_refused(summary, value, message):
    with pytest.raises(ValueError, match=message):
        found(summary, {0.0: {0: value}})
