"""Circuits whose components stand in for each other: the search for all edges, and for a second circuit."""

import itertools
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from helpers import control, generator

from compo_mech.circuits import edge_search
from compo_mech.circuits.alternatives import SAME, Alternative, alternative
from compo_mech.circuits.completeness import judge
from compo_mech.circuits.discovery import discover
from compo_mech.circuits.edge_patches import EdgePatches
from compo_mech.circuits.edge_search import LOST, MATTERS, SPARED, SWAPPED, matters, minimal, search, undone
from compo_mech.circuits.edge_sets import EdgeSets, OnRows, SetRows
from compo_mech.circuits.faithfulness import Behaviour
from compo_mech.circuits.overlap import jaccard
from compo_mech.circuits.prompts import circuit_pairs, take_rows
from compo_mech.circuits.selection import random_edges, score_order
from compo_mech.circuits.stability import STABLE, Resampled, resampled
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Copy, Parity
from compo_mech.ground_truth.build import build, constructed
from compo_mech.ground_truth.families import RUNGS
from compo_mech.ground_truth.hard_carriers import Carriers
from compo_mech.ground_truth.hard_cases import HARD_CASES, build_hard_case
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.interventions.edges import LOGITS, Edge, Writer
from compo_mech.interventions.metrics import answered, cross_entropy, kl_divergence
from compo_mech.model.config import ModelConfig
from compo_mech.stats.intervals import Interval

REDUNDANT = {"two of three", "self-repair"}


def setting(built, n_rows=16):
    """Pairs of a build, and sets of its edges."""
    pairs = circuit_pairs(built.model, built.data, n_rows, generator(), built.data.tasks[0], built.shifts)
    return pairs, EdgeSets(built.model, pairs)


@cache
def repaired():
    built = build_hard_case("self-repair", Parity(), max_length=3)
    pairs, sets = setting(built)
    return built, pairs, sets, discover(built.model, pairs, generator(), sets=sets)


def test_what_stands_in_for_a_head_is_in_the_circuit():
    built, _, _, found = repaired()
    assert found.verdict == "circuit", found.reason
    assert found.circuit == built.edges
    assert found.found.together
    assert f"{len(found.found.together)} of which matter only together with others, move 1.00 of" in found.reason
    assert found.overlap == found.held_out == 1


ONE = frozenset({Edge(Writer("mlp", 1), LOGITS)})


class Stated(OnRows):
    """What an edge does is stated: how far the output moves without it, and which fraction is answered with and
    without."""

    def __init__(self, moved, before, after):
        self.moved, self.before, self.after = moved, before, after

    def distance(self, kept):
        return 0.0 if kept else self.moved

    def swap(self, kept):
        return self.before if kept else self.after


@pytest.mark.parametrize(
    ("moved", "lost", "background", "expected"),
    [
        (MATTERS + 0.001, 0.0, 0.0, True),  # the output moves, though no answer is lost
        (MATTERS, LOST - 0.001, 0.0, False),
        (0.001, LOST + 0.001, 0.0, True),  # answers are lost, though the output hardly moves
        (0.001, LOST + 0.001, 0.001, False),  # but by no more than for an edge that does nothing
        (0.0, 0.5, 0.0, False),
    ],
)
def test_an_edge_matters_if_the_output_moves_or_answers_are_lost(moved, lost, background, expected):
    assert matters(Stated(moved, 1.0, 1.0 - lost), frozenset(), ONE, background) == expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(1.0, SWAPPED, False), (1.0, SWAPPED - 0.01, True), (0.5, 0.5, False), (0.5, 0.49, True)],
)
def test_a_task_is_undone_below_the_level_or_what_was_answered_before(before, after, expected):
    assert undone(Stated(0.0, before, after), frozenset(), ONE) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", HARD_CASES)
def test_the_circuit_of_every_hard_case_is_found(name):
    built = build_hard_case(name, Parity(), max_length=4)
    pairs, sets = setting(built, 48)  # halves of 12 pairs can lack what tells an edge
    found = discover(built.model, pairs, generator(), sets=sets)
    assert (found.verdict, found.circuit) == ("circuit", built.edges), found.reason
    other = alternative(OnRows(sets), found.circuit, score_order(found.scores), generator())
    assert other.exists == (name in REDUNDANT)


@pytest.mark.slow
@pytest.mark.parametrize("rung", RUNGS)
def test_the_circuit_of_every_rung_is_found(rung):
    built = build(Copy(), max_length=4, rungs=RUNGS[rung])
    pairs, sets = setting(built, 24)
    found = discover(built.model, pairs, generator(), sets=sets)
    assert (found.verdict, found.circuit) == ("circuit", built.edges), found.reason
    other = alternative(OnRows(sets), found.circuit, score_order(found.scores), generator())
    assert other.exists == RUNGS[rung].backup


class Quorum(Carriers):
    """Some of several heads decide: a kind of which `TwoOfThree` is one."""

    def __init__(self, data, needed, n):
        super().__init__(data, BuildOptions(), n_layers=2, n_heads=n)
        heads = [self.carry(1, head, f"one of {n}") for head in range(n)]
        for some in itertools.combinations(heads, n - needed + 1):
            for edges in itertools.product(*some):
                self.sets.add(frozenset(edges))
        for own, value, answer in self.rules():
            here = () if own is None else (self.at("token", own),)
            between = (needed - 0.8, needed - 0.2)
            self.ramp(1, {self.at("value", value): 1.0}, between, here, {self.at("answer", answer): 1.0})
        self.updates(1)


@pytest.mark.parametrize(
    ("needed", "n"), [pytest.param(*case, marks=pytest.mark.slow) for case in ((2, 3), (2, 4), (3, 4), (3, 5))]
)
def test_all_heads_of_a_quorum_are_found(needed, n):
    built = constructed(Quorum(DataConfig(tasks=(Parity(),), max_length=3), needed, n))
    pairs, sets = setting(built, 24)
    on, order = OnRows(sets), score_order(EdgePatches.run(built.model, pairs).scores())
    found = search(on, order)
    assert found.circuit == built.edges
    assert found.finished
    assert {edge for edge in found.together if edge.reader.layer == 1} == found.together  # layer 0 decides alone
    assert alternative(on, found.circuit, order, generator()).exists


# ------------------------------------------------------------------------------- what the search promises


def test_why_each_edge_is_in_the_circuit_or_not():
    _, _, sets, found = repaired()
    on, why = OnRows(sets), found.found
    assert set(why.witnesses) == set(sets.edges)
    for edge, witness in why.witnesses.items():
        assert witness.kept - witness.less == {edge}
        assert why.shows(on, edge) == (edge in why.circuit)
    every, effects = frozenset(sets.edges), why.effects(on)
    for edge in every - why.together:  # they decide by themselves
        assert effects[edge] == on.distance(every - {edge})
    assert all(on.distance(every - {edge}) <= MATTERS < effects[edge] for edge in why.together)
    assert not any(edge in why.circuit for edge, moved in effects.items() if moved <= MATTERS)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_can_be_dropped_from_what_is_minimal(seed):
    """Whatever the law, even one by which fewer edges may do more."""
    edges = repaired()[2].edges[:12]
    draws = torch.rand(200, generator=generator(seed)).tolist()

    def holds(less, kept):
        return len(less) > 2 and draws[sum(edges.index(edge) ** 2 for edge in less) % 200] > 0.3

    kept = minimal(frozenset(edges), edges[2:], holds)
    assert kept >= set(edges[:2])
    assert not any(holds(kept - {edge}, kept) for edge in edges[2:] if edge in kept)
    assert minimal(frozenset(edges), edges, lambda less, kept: False) == set(edges)
    assert minimal(frozenset(edges), edges, lambda less, kept: True) == frozenset()


def test_a_search_that_may_run_no_more_sets_says_so(monkeypatch):
    built = build_hard_case("self-repair", Parity(), max_length=3)
    _, sets = setting(built)
    monkeypatch.setattr(edge_search, "N_SETS", 0)
    found = search(OnRows(sets), sets.edges)
    assert not found.finished
    assert repaired()[3].found.finished
    assert found.circuit < built.edges
    assert OnRows(sets).swap(found.circuit) >= SWAPPED


class Drift(OnRows):
    """Every edge moves the output by less than what matters; once five are gone, no more can go without the task."""

    def __init__(self, n):
        self.n, self.sets = n, SimpleNamespace(n_run=0)

    def distance(self, kept):
        return 0.01 * (self.n - len(kept))

    def swap(self, kept):
        return float(len(kept) >= self.n - 5)


class TwoRows(EdgeSets):
    """Two rows of one answer each: what is moved with no edge, and with those of a circuit."""

    def __init__(self, unmoved, moved):
        self.n_scored = self.n_differ = torch.ones(2, dtype=torch.float64)
        self.n_moved = unmoved, moved

    def rows(self, kept):
        nothing = torch.zeros(2, dtype=torch.float64)
        return SetRows(nothing, nothing, torch.tensor(self.n_moved[len(set(kept))], dtype=torch.float64))


@pytest.mark.parametrize(
    ("unmoved", "moved", "swap"), [((1, 1), (1, 1), 0), ((0, 0), (1, 1), 1), ((0, 0), (1, 0), 0.5), ((1, 0), (1, 1), 1)]
)
def test_of_what_is_not_moved_without_any_edge_a_fraction_is_moved(unmoved, moved, swap):
    assert OnRows(TwoRows(unmoved, moved)).swap(repaired()[2].edges[:1]) == swap


def test_edges_that_hardly_matter_are_dropped_only_as_long_as_the_task_is_done():
    assert len(search(Drift(20), repaired()[2].edges[:20]).circuit) == 15


# ------------------------------------------------------------------------------- sets of edges


def test_values_of_sets_are_those_of_circuits_run_by_themselves():
    """By the means of other ways to run them, on all rows and on some."""
    data = DataConfig(tasks=(Parity(),), max_length=3)
    model, rng = control(ModelConfig(n_heads=2, d_model=16), data), generator()
    built = replace(build(Parity(), max_length=3), model=model)
    pairs, sets = setting(built, 8)
    rows = torch.tensor([5, 0, 0, 3])
    taken, weights = take_rows(pairs, rows), torch.bincount(rows, minlength=8).double()
    for on, asked in ((OnRows(sets), pairs), (OnRows(sets, weights), taken)):
        for n in (0, 20, 50, len(sets.edges)):
            kept = random_edges(sets.edges, n, rng)
            loss, kl, right = (Behaviour(model, asked, m) for m in (cross_entropy, kl_divergence, answered))
            assert on.distance(kept) == pytest.approx(kl.value(kept) / max(kl.none, 0.05), abs=1e-5)
            found = sets.rows(kept)
            assert float(on.weights @ found.loss) / on.n_scored == pytest.approx(loss.value(kept), abs=1e-5)
            assert on.swap(kept) == pytest.approx((right.value(kept) - right.none) / (1 - right.none), abs=1e-5)


def test_a_pass_of_patches_is_taken_over():
    built, pairs, sets, _ = repaired()
    fresh = EdgeSets(built.model, pairs)
    fresh.know(EdgePatches.run(built.model, pairs))
    every = frozenset(sets.edges)
    for edge in sets.edges[::5]:
        for own, other in zip(fresh.rows(every - {edge}), sets.rows(every - {edge}), strict=True):
            torch.testing.assert_close(own, other, atol=1e-4, rtol=1e-4)
    assert fresh.n_run == 0


def test_resamples_run_nothing_again_and_decide_as_the_search_did():
    _, pairs, sets, found = repaired()
    on, n_run = OnRows(sets), sets.n_run
    rows = torch.randint(len(pairs.lengths), (len(pairs.lengths),), generator=generator(1))
    weights = torch.bincount(rows, minlength=len(pairs.lengths)).double()[None]
    whole, one = found.found.on_draws(on, torch.cat([torch.ones_like(weights), weights]))
    assert whole == found.circuit
    drawn = OnRows(sets, weights[0])
    assert one == {edge for edge in sets.edges if found.found.shows(drawn, edge)}
    told = resampled(on, found.found, generator(), n_draws=20)
    assert sets.n_run == n_run
    assert told.stable
    assert told.overlap.low > told.random.high


@pytest.mark.parametrize(("mean", "said"), [(0.8, "stable: "), (0.7996, "not stable: ")])
def test_stability_is_said_beside_its_bar(mean, said):
    told = Resampled(Interval(mean, 0.6, 1.0), Interval(0.4, 0.3, 0.5), 100)
    assert str(told).startswith(said)
    assert f"overlap with it by {'0.80' if mean == STABLE else '0.7996'} (0.60 .. 1.00) (0.8 needed; " in str(told)
    assert "random circuits 0.40 (0.30 .. 0.50); published: 0.67 for GPT-2 small, 0.39 for Llama 1B" in str(told)


@pytest.mark.parametrize(("high", "stable"), [(0.84, True), (0.85, False), (0.97, False)])
def test_no_circuit_is_stable_where_random_ones_overlap_as_much(high, stable):
    told = Resampled(Interval(0.85, 0.8, 1.0), Interval(0.8, 0.7, high), 100)
    assert told.stable == stable
    assert str(told).startswith("stable: " if stable else "not stable: ")
    assert (f"{high:.2f}), up to as much; published" in str(told)) == (not stable)


# ------------------------------------------------------------------------------- a second circuit


def test_a_second_circuit_is_faithful_and_minimal_as_the_first_is():
    built, _, sets, found = repaired()
    on = OnRows(sets)
    other = alternative(on, found.circuit, score_order(found.scores), generator())
    assert other.exists
    assert other.overlap == jaccard(other.first, other.second) < SAME
    assert other.first | other.second <= built.edges
    for circuit, distance in zip((other.first, other.second), other.distances, strict=True):
        assert on.distance(circuit) == distance <= SPARED
        assert all(on.distance(circuit - {edge}) > SPARED for edge in circuit)
    assert str(other).startswith("a second faithful circuit found among ")


def test_there_is_none_where_no_component_stands_in_for_another():
    built = build(Parity(), max_length=3)
    _, sets = setting(built)
    on = OnRows(sets)
    other = alternative(on, built.edges, sets.edges, generator())
    assert not other.exists
    assert other.second is None
    assert str(other).startswith(
        f"no second faithful circuit found among {other.n_sets} sets of edges: every search led to the first, of "
        f"{len(other.first)} edges, a part of it or more than it; "
    )
    assert alternative(on, frozenset(), sets.edges, generator()) is None


@pytest.mark.parametrize("overlap", [0.66, 0.6665, 8 / 12, 0.668, 0.67])
def test_a_second_circuit_is_told_from_the_first_by_what_they_share(overlap):
    edges = repaired()[2].edges
    one, two = frozenset(edges[:3]), frozenset(edges[1:4])
    found = Alternative(one, two, overlap, (0.01, 0.0496), Interval(0.2, 0.1, 0.3), 40)
    assert found.exists == (overlap < SAME)
    assert str(found).startswith("a second" if found.exists else "no second")
    shown = {0.6665: "0.666", 8 / 12: "0.67", 0.668: "0.67"}.get(overlap, str(overlap))
    assert f"shares {shown} of their edges with the first (below 2/3 counts as another" in str(found)
    assert "two random circuits 0.20 (0.10 .. 0.30)" in str(found)
    assert "3 edges and 3, at distances of 0.01 and 0.0496 (at most 0.05)" in str(found)


def test_what_stands_in_for_edges_is_missed_by_the_verdict_too():
    built, pairs, _, found = repaired()
    behaviour = Behaviour(built.model, pairs)
    assert judge(behaviour, found.circuit, generator(), 2, 1).complete
    only = frozenset(edge for edge in found.circuit if "L2H0" not in str(edge))
    assert not judge(behaviour, only, generator(), 2, 1).complete
