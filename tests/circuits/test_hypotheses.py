"""The tests of the circuit hypothesis: each passes on a true circuit, and each can fail."""

from functools import cache

import pytest
import torch
from helpers import generator

from compo_mech.circuits import hypotheses
from compo_mech.circuits.edge_search import search
from compo_mech.circuits.edge_sets import EdgeSets, OnRows
from compo_mech.circuits.hypotheses import (
    WORDS,
    CircuitTests,
    Tested,
    circuit_tests,
    dependence_p,
    gaussian_kernel,
    uneven,
    uneven_p,
)
from compo_mech.circuits.prompts import circuit_pairs
from compo_mech.circuits.selection import random_edges
from compo_mech.data.tasks import Parity
from compo_mech.ground_truth.build import build
from compo_mech.interventions.edges import LOGITS, Edge, Writer

N_RANDOM = 20


@cache
def setting():
    built = build(Parity(), max_length=3)
    pairs = circuit_pairs(built.model, built.data, 16, generator(), Parity(), built.shifts)
    on = OnRows(EdgeSets(built.model, pairs))
    return built, on, search(on, on.sets.edges)


def test_a_true_circuit_passes():
    built, on, found = setting()
    tests = circuit_tests(on, built.edges, found, generator(), N_RANDOM)
    passed = {name: getattr(tests, name).passed for name in WORDS}
    assert passed == {name: None if name == "independence" else True for name in WORDS}
    assert tests.sufficiency.control < 0.9
    assert tests.equivalence.control < 0.05
    assert "whether independent cannot be told: the network is equally right on every prompt" in str(tests)


@pytest.mark.parametrize("n_inside", [1, 3, 30])
def test_as_many_edges_are_removed_outside_as_the_circuit_has_or_half_of_them(n_inside, monkeypatch):
    _, on, found = setting()
    asked = []

    def drawn(outside, n, generator):
        asked.append((len(outside), n))
        return random_edges(outside, n, generator)

    monkeypatch.setattr(hypotheses, "random_edges", drawn)
    circuit_tests(on, frozenset(on.sets.edges[:n_inside]), found, generator(), 5)
    n_outside = len(on.sets.edges) - n_inside
    assert {n for n_of, n in asked if n_of == n_outside} == {min(n_inside, (n_outside + 1) // 2)}


def test_each_test_can_fail():
    built, on, found = setting()
    lacking = built.edges - {Edge(Writer("mlp", 1), LOGITS)}
    tests = circuit_tests(on, lacking, found, generator(), N_RANDOM)
    assert not tests.equivalence.passed  # always behind
    idle = frozenset(on.sets.edges) - built.edges
    tests = circuit_tests(on, frozenset(sorted(idle, key=str)[:10]), found, generator(), N_RANDOM)
    assert not tests.sufficiency.passed
    assert not tests.necessity.passed
    assert not tests.minimality.passed
    tests = circuit_tests(on, built.edges | {min(idle, key=str)}, found, generator(), N_RANDOM)
    assert not tests.minimality.passed
    assert tests.sufficiency.passed


def test_an_uneven_race_by_hand():
    assert uneven(torch.tensor([0.5, -0.5])) == 0
    assert uneven(torch.tensor([0.5, 0.5, 0.5, 0.0])) == 0.375  # 3 ahead, 1 tied
    assert uneven_p(0.0, 4) == pytest.approx(1.0)
    assert uneven_p(0.5, 4) == pytest.approx(0.6**4 + 0.4**4)
    assert uneven_p(0.25, 4) == pytest.approx(1 - 6 * 0.6**2 * 0.4**2)


def test_scores_that_go_together_are_told_from_such_that_do_not():
    rng = generator()
    score, other = torch.randn(2, 48, generator=rng).double()
    kinds = torch.ones(48)
    assert dependence_p(score, score.square(), kinds, rng) < 0.05  # though they do not correlate
    assert dependence_p(score, other, kinds, rng) > 0.05
    kinds = torch.arange(48) % 2  # both go with what kind a row is of, and with nothing else
    assert dependence_p(score + 9 * kinds, other + 9 * kinds, torch.ones(48), rng) < 0.05
    assert dependence_p(score + 9 * kinds, other + 9 * kinds, kinds.double(), rng) > 0.05


def on_pairs(n_rows, lengths=(1, 2, 3)):
    built = build(Parity(), max_length=max(lengths))
    pairs = circuit_pairs(built.model, built.data, n_rows, generator(), Parity(), built.shifts)
    return built, OnRows(EdgeSets(built.model, pairs))


@pytest.mark.parametrize("n_rows", [2, 6, 7])
def test_of_prompts_too_few_to_fail_equivalence_it_cannot_be_told(n_rows):
    """0.6 ** 6 + 0.4 ** 6 is 0.0508, 0.6 ** 7 + 0.4 ** 7 is 0.0296."""
    built, on = on_pairs(n_rows)
    tests = circuit_tests(on, built.edges, search(on, on.sets.edges), generator(), 3)
    assert tests.equivalence.passed is (True if n_rows == 7 else None)
    said = f"whether equivalent cannot be told: of {n_rows} prompts, too few to speak against it"
    assert (said in str(tests)) == (n_rows < 7)


@pytest.mark.parametrize(
    ("kinds", "told"),
    [([1, 1], False), ([1, 1, 1], False), ([1] * 5, True), ([1, 2, 3, 4, 5], False), ([1, 1, 1, 1, 2, 2, 2, 2], True)],
)
def test_of_prompts_too_few_to_fail_independence_it_cannot_be_told(kinds, told, monkeypatch):
    """Of 2, 3 and 5 prompts of a kind one order in 2, 6 and 120 is their own; of two fours one in 576."""
    built, on = on_pairs(len(kinds))
    monkeypatch.setattr(on.sets, "n_scored", torch.tensor(kinds).double())
    scores = torch.tensor([0.0, 1.0, 3.0, 7.0, 2.0, 9.0, 5.0, 13.0][: len(kinds)]).double()
    monkeypatch.setattr(hypotheses, "_scores", lambda on, kept: scores)
    found = search(on, on.sets.edges)
    assert circuit_tests(on, built.edges, found, generator(), 2).independence.passed is (False if told else None)
    monkeypatch.setattr(
        hypotheses, "_scores", lambda on, kept: scores if len(kept) == len(on.sets.edges) else 0 * scores
    )
    tests = circuit_tests(on, built.edges, found, generator(), 2)
    assert tests.independence.passed is (True if told else None)  # what is left does not vary
    said = f"whether independent cannot be told: of {len(kinds)} prompts, too few are unequally right"
    assert (said in str(tests)) == (not told)


def test_where_no_edge_is_outside_nothing_is_told_by_edges_outside():
    _, on, found = setting()
    tests = circuit_tests(on, frozenset(on.sets.edges), found, generator(), 3)
    assert [getattr(tests, name).passed for name in ("sufficiency", "necessity", "minimality")] == [None] * 3
    assert str(tests).count("cannot be told: no edge lies outside it") == 3
    but_one = circuit_tests(on, frozenset(on.sets.edges[1:]), found, generator(), 3)
    assert None not in [getattr(but_one, name).passed for name in ("sufficiency", "necessity", "minimality")]
    none_drawn = circuit_tests(on, frozenset(on.sets.edges[1:]), found, generator(), 0)
    assert [getattr(none_drawn, name).passed for name in ("sufficiency", "necessity")] == [None] * 2


@pytest.mark.parametrize(("control", "said"), [(0.8996, "0.8996)"), (0.9, "0.90, which passes too)")])
def test_a_random_circuit_that_passes_too_is_said(control, said):
    tests = CircuitTests(*[Tested(0.95, 0.9, True, control)] * 5)
    assert str(tests).count(f"random circuit {said}") == 5
    failed = CircuitTests(*[Tested(0.5, 0.9, False, control)] * 5)
    assert "passes too" not in str(failed)


@pytest.mark.parametrize("name", WORDS)
def test_a_value_is_said_on_the_side_of_its_threshold_where_it_is(name):
    fine = Tested(1.0, 0.9, True, 0.5)
    for value, passed in ((0.8996, False), (0.9, True)):
        said = str(CircuitTests(**dict.fromkeys(WORDS, fine) | {name: Tested(value, 0.9, passed, 0.123)}))
        part = said.split("; ")[list(WORDS).index(name)]
        assert part.startswith("not ") == (not passed)
        assert ("0.8996" if not passed else "0.90 ") in part
        assert "random circuit 0.12)" in part


def test_the_kernel_is_as_wide_as_the_median_distance():
    kernel = gaussian_kernel(torch.tensor([0.0, 1.0, 3.0]).double())  # squared distances 1, 4, 9, each twice: median 4
    by_hand = torch.tensor([[0.0, 1.0, 9.0], [1.0, 0.0, 4.0], [9.0, 4.0, 0.0]]).double().div(-8).exp()
    assert torch.allclose(kernel, by_hand)
    same = gaussian_kernel(torch.tensor([2.0, 2.0]).double())
    assert torch.equal(same, torch.ones(2, 2).double())
