import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compo_mech.stats.optimum import optimum
from compo_mech.stats.over_seeds import SeedSummary

MEAN, TIME, FRACTION = SeedSummary.MEAN, SeedSummary.TIME_TO_EVENT, SeedSummary.FRACTION


def found(summary, values):
    return optimum(summary, values, torch.Generator().manual_seed(0))


def test_what_is_best_in_every_seed_is_best_without_doubt():
    values = {share: {seed: share * (1 - share) + seed for seed in range(5)} for share in (0.0, 0.25, 0.5, 0.9)}
    assert found(MEAN, values) == (0.5, 0.5, 0.5)
    waits = {share: {seed: 1000.0 - own for seed, own in of.items()} for share, of in values.items()}
    assert found(TIME, waits) == (0.5, 0.5, 0.5)


def test_what_is_as_good_is_in_the_interval():
    ties = {share: dict.fromkeys(range(4), 1.0) for share in (0.0, 0.5, 1.0)}
    assert found(FRACTION, ties) == found(TIME, ties) == (0.5, 0.0, 1.0)
    assert found(FRACTION, ties | {1.0: dict.fromkeys(range(4), 0.0)}) == (0.25, 0.0, 0.5)


@given(st.lists(st.lists(st.floats(0, 1), min_size=6, max_size=6), min_size=2, max_size=4))
def test_the_estimate_is_the_best_mean_and_lies_in_its_interval(rows):
    values = {float(at): dict(enumerate(row)) for at, row in enumerate(rows)}
    best = found(MEAN, values)
    means = [torch.tensor(row, dtype=torch.float64).mean() for row in rows]
    tied = [at for at, mean in enumerate(means) if mean == max(means)]
    assert best.mean == pytest.approx(sum(tied) / len(tied))
    assert 0 <= best.low <= best.high <= len(rows) - 1


def test_noise_alone_leaves_every_setting_possible_and_one_that_stands_out_is_told():
    noise = torch.randn(4, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values = {float(at): dict(enumerate(row.tolist())) for at, row in enumerate(noise)}
    assert found(MEAN, values)[1:] == (0.0, 3.0)
    shifted = values | {2.0: {seed: value + 5 for seed, value in values[2.0].items()}}
    assert found(MEAN, shifted) == (2.0, 2.0, 2.0)


def test_seeds_are_resampled_together():
    """What all runs of a seed share does not widen the interval, as it would if each setting had its own seeds."""
    of_seed = torch.randn(12, generator=torch.Generator().manual_seed(2), dtype=torch.float64).mul(100).tolist()
    values = {at: {seed: own + (at == 1.0) for seed, own in enumerate(of_seed)} for at in (0.0, 1.0, 2.0)}
    assert found(MEAN, values) == (1.0, 1.0, 1.0)


def test_a_run_that_failed_is_the_worst_or_left_out():
    times = {0.0: {0: 900.0, 1: 900.0, 2: 900.0}, 1.0: {0: 100.0, 1: None, 2: None}}
    assert found(TIME, times).mean == 0.0
    assert found(FRACTION, {0.0: {0: 1.0, 1: 0.0}, 1.0: {0: None, 1: None}}).mean == 0.0
    assert found(MEAN, {0.0: {0: 0.5, 1: 0.9}, 1.0: {0: 0.6, 1: None}}) == (1.0, 1.0, 1.0)  # seed 1 is left out


@pytest.mark.parametrize(
    ("summary", "values", "message"),
    [
        (MEAN, {}, "must have a seed that all have"),
        (MEAN, {0.0: {0: 1.0}, 1.0: {1: 1.0}}, "must have a seed that all have"),
        (MEAN, {0.0: {0: None}}, "must have a seed that all have"),
        (MEAN, {0.0: {0: math.nan}}, "must be numbers"),
        (MEAN, {0.0: {0: math.inf}}, "a mean must be of finite ones"),
        (FRACTION, {0.0: {0: 0.5}}, "must be 0 or 1"),
    ],
)
def test_what_cannot_be_ranked_is_refused(summary, values, message):
    with pytest.raises(ValueError, match=message):
        found(summary, values)
