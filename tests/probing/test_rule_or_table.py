from dataclasses import replace
from importlib import import_module

import pytest
import torch

from compo_mech.data.config import DataConfig, Stage
from compo_mech.data.tasks import Copy, Counter, Parity, Polynomial
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model, init_params
from compo_mech.probing.unseen_pairs import (
    Exposure,
    UnseenPairs,
    ask_unseen_pairs,
    data_pairs,
    trained_pairs,
    unseen_pairs,
)
from compo_mech.runs.config import RunConfig
from compo_mech.stats.intervals import Interval
from compo_mech.training.loop import TrainConfig

TASKS = [Parity(), Copy(), Polynomial(modulus=5), Counter(modulus=4)]
GUESSES = {"parity": 1 / 2, "copy": 1 / 2, "counter": 1 / 4}
"""Of s_t, by whoever knows s_{t-1} alone."""


def config(lengths, max_length, shift, *stages, n_steps=30):
    """A run with strings of these lengths."""
    weights = tuple(float(length in lengths) for length in range(1, max_length + 1))
    return RunConfig(
        data=DataConfig(max_length=max_length, length_weights=weights, curriculum=stages),
        train=TrainConfig(n_steps=n_steps, max_position_shift=shift),
    )


def gaps_of(task, seed):
    """A build with gaps, and what it was exposed to: all but its gaps."""
    built = build(task, rungs=BuildOptions(subtraction="gaps", seed=seed))
    pairs = frozenset(data_pairs(built.data))
    return built, Exposure(built.gaps & pairs, pairs - built.gaps)


# ---------------------------------------------------------------------------------- exposure


def test_pairs_by_hand():
    assert data_pairs(DataConfig(max_length=3)) == [(4, 3), (5, 4), (6, 4)]  # (i, j) with t = i - j + 1 >= 2
    run = config({1, 3}, 3, 1)
    assert trained_pairs(run, shifted=False) == {(5, 4), (6, 4)}
    assert trained_pairs(run, shifted=True) == {(5, 4), (6, 4), (6, 5), (7, 5)}
    assert Exposure.of(run) == (frozenset(), {(5, 4), (6, 4)})  # j = 3 is at no row of t >= 2 that was trained


UNSEEN = {(12, 7), (13, 8), (14, 8), (14, 9), (15, 9), (16, 9)}
"""Lengths 6, 7, 8 left out of 1 .. 12, ids shifted by up to 3: length 5 shifted to j = 7, 8, 9 has t <= 5."""

KEPT = set(range(1, 13)) - {6, 7, 8}


def test_what_lengths_that_are_left_out_leave_unseen():
    found = Exposure.of(config(KEPT, 12, 3))
    assert found.unseen == UNSEEN
    assert found.trained == {(n + t, n + 1) for n in KEPT for t in range(2, n + 1)}
    assert not Exposure.of(config(KEPT, 12, 0)).unseen  # there j = 7, 8, 9 are new themselves
    assert not Exposure.of(config(set(range(1, 13)), 12, 3)).unseen
    assert unseen_pairs(config(KEPT, 12, 2)) == {(12, 7), (13, 8), (14, 8)}  # j = 9 is new


@pytest.mark.parametrize(
    ("stages", "unseen"),
    [
        ([Stage(n_steps=5, length_weights=(1.0,) * 12)], set()),
        ([Stage(n_steps=5, length_weights=(0.0,) * 6 + (1.0,) + (0.0,) * 5)], {(12, 7), (16, 9)}),
        ([Stage(n_steps=5, max_length=8, length_weights=(1.0,) * 8)], set()),
        ([Stage(n_steps=5), Stage(n_steps=5, max_length=4)], UNSEEN),  # of the data's own weights
        ([Stage(n_steps=30), Stage(n_steps=5, length_weights=(1.0,) * 12)], UNSEEN),  # its turn never comes
    ],
    ids=["all lengths", "length 7", "up to 8", "no other length", "too late"],
)
def test_what_any_stage_trained_is_seen(stages, unseen):
    assert unseen_pairs(config(KEPT, 12, 3, *stages)) == unseen


# --------------------------------------------------------------------------------- behaviour


@pytest.fixture
def half_as_many_strings(monkeypatch):
    monkeypatch.setattr(import_module("compo_mech.probing.unseen_pairs"), "N_STRINGS", 32)


@pytest.mark.parametrize("seed", [1, 2])  # whose strings come to six of their gaps
@pytest.mark.parametrize("task", TASKS, ids=str)
@pytest.mark.usefixtures("half_as_many_strings")
def test_a_table_fails_where_it_has_gaps_and_a_rule_does_not(task, seed):
    gaps, exposure = gaps_of(task, seed)
    for subtraction, verdict in (("gaps", "table"), ("table", "rule"), ("difference", "rule")):
        built = gaps if subtraction == "gaps" else build(task, rungs=BuildOptions(subtraction=subtraction, seed=seed))
        found = ask_unseen_pairs(built.model, built.data, task, exposure, 0)
        assert found is not None
        assert found.verdict == verdict
        assert found.unseen == tuple(sorted(exposure.unseen))
        assert found.seen_accuracy == (1, 1, 1)
        assert found.guess == pytest.approx(GUESSES.get(task.name, 0.4), abs=0.05)
        assert found.rescued is not None
        assert found.rescued.mean == 1
        assert (found.unseen_accuracy.mean == 1) == (verdict == "rule")


def test_a_query_of_the_same_t_is_no_cure_for_a_broken_update():
    _, exposure = gaps_of(Parity(), 0)
    built = build(Parity(), rungs=BuildOptions(subtraction="gaps", broken="update"))
    found = ask_unseen_pairs(built.model, built.data, Parity(), exposure, 0)
    assert found is not None
    assert found.verdict == "not able"
    assert found.rescued is not None
    assert found.rescued.mean < 0.1


def test_without_a_pair_of_the_same_t_nothing_is_rescued():
    built, exposure = gaps_of(Parity(), 0)
    of_t = {(i, j) for i, j in exposure.trained if i - j == 1}
    found = ask_unseen_pairs(built.model, built.data, Parity(), Exposure(frozenset(of_t), exposure.trained - of_t), 0)
    assert found is not None
    assert found.rescued is None
    assert found.verdict == "rule"


@pytest.mark.usefixtures("half_as_many_strings")
def test_fresh_networks_are_not_able():
    _, exposure = gaps_of(Parity(), 0)
    data, settings = DataConfig(max_length=8), ModelConfig()
    for seed in range(5):
        params = init_params(settings, len(data.vocabulary), 19, torch.Generator().manual_seed(seed))
        found = ask_unseen_pairs(Model(params, settings), data, Parity(), exposure, 0)
        assert found is not None
        assert found.verdict == "not able"


def test_nothing_is_said_where_nothing_is_unseen_or_nothing_trained():
    built, exposure = gaps_of(Parity(), 0)
    for unseen, trained in ((frozenset(), exposure.trained), (exposure.unseen, frozenset())):
        assert ask_unseen_pairs(built.model, built.data, Parity(), Exposure(unseen, trained), 0) is None
    elsewhere = frozenset({(40, 30)})
    assert ask_unseen_pairs(built.model, built.data, Parity(), Exposure(elsewhere, exposure.trained), 0) is None


SIX = tuple((i, 3) for i in range(4, 10))


@pytest.mark.parametrize(
    ("seen", "unseen", "verdict"),
    [
        (1.0, (0.95, 0.91, 1.0), "rule"),
        (1.0, (0.95, 0.89, 1.0), "neither"),
        (1.0, (0.6, 0.5, 0.74), "table"),
        (1.0, (0.6, 0.5, 0.76), "neither"),
        (0.9, (0.85, 0.83, 0.9), "rule"),
        (0.6, (0.58, 0.58, 0.58), "rule"),
        (0.59, (0.59, 0.59, 0.59), "not able"),
    ],
)
def test_verdicts_by_hand(seen, unseen, verdict):
    """Of the way from a guess of 0.5 to the trained pairs, at least 0.8 or at most 0.5."""
    found = UnseenPairs(SIX, Interval(seen, seen, seen), Interval(*unseen), 0.5, None)
    assert found.verdict == verdict
    few = replace(found, unseen=SIX[1:])
    assert few.verdict == ("not able" if verdict == "not able" else "cannot be told")


def test_one_pair_says_nothing_of_others():
    _, exposure = gaps_of(Parity(), 0)
    built, one = build(Parity()), frozenset(sorted(exposure.unseen)[:1])
    found = ask_unseen_pairs(built.model, built.data, Parity(), Exposure(one, exposure.trained), 0)
    assert found is not None
    assert found.unseen_accuracy == (1.0, 0.0, 1.0)
    assert found.verdict == "cannot be told"
