import math

import pytest
import torch
from helpers import generator, pairs_of, random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from compo_mech.circuits import circuit_runs
from compo_mech.circuits.exact import exact
from compo_mech.circuits.faithfulness import Behaviour, areas, curve, random_curves
from compo_mech.circuits.selection import score_order
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Parity
from compo_mech.ground_truth.build import build
from compo_mech.interventions.edges import LOGITS, TOK, Edge, Reader, all_edges
from compo_mech.interventions.graph import run_both, run_patched
from compo_mech.interventions.metrics import METRICS, cross_entropy
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model
from compo_mech.stats.intervals import Interval

DATA = DataConfig(max_length=5)
BUILT = build(Parity())


MODEL = random_model(ModelConfig(d_model=16, n_heads=2), DATA, dtype=torch.float64)
EVERY = all_edges(MODEL.config)


PAIRS = pairs_of(DATA)
RUNS = run_both(MODEL, PAIRS)
AVERAGE = {writer: out.mean(0, keepdim=True).expand_as(out) for writer, out in RUNS.clean.items()}


@pytest.mark.parametrize("metric", METRICS)
def test_everything_is_wholly_faithful_and_nothing_is_not_at_all(metric):
    pairs, config = pairs_of(BUILT.data), BUILT.model.config
    behaviour = Behaviour(BUILT.model, pairs, METRICS[metric])
    assert behaviour.gap == behaviour.all - behaviour.none
    assert behaviour.faithfulness(behaviour.edges) == pytest.approx(1, abs=1e-9)
    assert behaviour.faithfulness([]) == 0
    some = sorted(BUILT.edges, key=str)[1:]
    assert behaviour.faithfulness(some) == pytest.approx((behaviour.value(some) - behaviour.none) / behaviour.gap)
    assert behaviour.faithfulness(BUILT.edges) == pytest.approx(1, abs=1e-3)
    by_parts = Behaviour(BUILT.model, pairs, METRICS[metric], edges=all_edges(config, by_span=True))
    assert by_parts.faithfulness(by_parts.edges) == pytest.approx(1, abs=1e-5)
    split = [edge for edge in by_parts.edges if edge._replace(span=None) in some]
    assert len(split) == 4 * len(some)
    assert by_parts.value(split) == pytest.approx(behaviour.value(some), abs=1e-4)


@pytest.mark.parametrize("corrupt", [None, AVERAGE])
@given(kept=st.sets(st.sampled_from(EVERY)))
@settings(max_examples=25, deadline=None)
def test_a_circuit_is_the_network_with_all_other_edges_patched(corrupt, kept):
    """Against the obvious way, which patches every other edge and leaves out none that leads nowhere."""
    runs = run_both(MODEL, PAIRS, corrupt)
    logits = run_patched(MODEL, PAIRS, runs, [edge for edge in EVERY if edge not in kept])
    slow = float(cross_entropy(logits, runs.logits, PAIRS))
    assert Behaviour(MODEL, PAIRS, cross_entropy, corrupt).value(kept) == pytest.approx(slow, abs=1e-9)


@pytest.mark.parametrize("n_kept", [0, 3, 1000])
def test_circuits_that_share_outputs_are_those_that_share_none(n_kept, monkeypatch):
    """A long row of circuits, however few outputs are kept, and narrowed to spans or not."""
    monkeypatch.setattr(circuit_runs, "MAX_KEPT", n_kept * RUNS.clean[TOK].nbytes)
    rng = generator(0)
    for edges in (EVERY, all_edges(MODEL.config, by_span=True)):
        shared = circuit_runs.CircuitRuns(MODEL, PAIRS, edges)
        for _ in range(12):
            n = int(torch.randint(len(edges) + 1, (), generator=rng))
            kept = {edges[i] for i in torch.randperm(len(edges), generator=rng)[:n].tolist()}
            slow = run_patched(MODEL, PAIRS, RUNS, [edge for edge in edges if edge not in kept])
            torch.testing.assert_close(shared.logits(frozenset(kept)), slow, atol=1e-9, rtol=0)


def test_circuits_of_strangers_are_refused():
    behaviour = Behaviour(MODEL, PAIRS)
    with pytest.raises(ValueError, match=r"circuit edge = tok → L5H0.q: must be one of the network's"):
        behaviour.value([Edge(TOK, Reader("q", 5, 0))])
    with pytest.raises(ValueError, match="must be one of the network's"):
        Behaviour(MODEL, PAIRS, edges=[Edge(TOK, Reader("q", 5, 0))])


def test_a_network_that_the_corruption_cannot_move_has_no_faithfulness():
    idle = Model({**MODEL.params, "unembed.W_U": torch.zeros_like(MODEL.params["unembed.W_U"])}, MODEL.config)
    behaviour = Behaviour(idle, PAIRS)
    assert behaviour.gap is None
    assert behaviour.faithfulness(EVERY) is None
    found = curve(behaviour, EVERY)
    assert found.faithfulness.isnan().all()
    assert (found.cpr, found.cmd) == (None, None)
    assert random_curves(behaviour, 3, generator(0)) is None


def test_areas_by_hand():
    # trapezoids of f: 0.5 * (0 + 1) / 2 + 0.5 * (1 + 1) / 2; of |1 - f|: 0.5 * (1 + 0) / 2
    assert areas([0.0, 0.5, 1.0], [0.0, 1.0, 1.0]) == pytest.approx((0.75, 0.25))
    assert areas([0.0, 1.0], [0.0, 1.0]) == pytest.approx((0.5, 0.5))
    assert areas([0.0, 0.25, 1.0], [0.0, 2.0, 1.0]) == pytest.approx(
        (0.25 + 0.75 * 1.5, 0.25 + 0.75 * 0.5)
    )  # overshoots
    for shares in ([0.0, 0.5], [0.1, 1.0], [0.0, 1.0, 1.0], [1.0]):
        with pytest.raises(ValueError, match="must grow from 0 to 1"):
            areas(shares, [0.0] * len(shares))


def test_the_curve_of_a_known_circuit():
    pairs = pairs_of(BUILT.data, n_rows=16)
    behaviour = Behaviour(BUILT.model, pairs)
    order = score_order(exact(BUILT.model, pairs, behaviour.edges))
    found = curve(behaviour, order)
    n_true, n_all = len(BUILT.edges), len(order)
    assert found.n_edges == tuple(range(n_all + 1))
    assert found.faithfulness[0] == 0
    torch.testing.assert_close(found.faithfulness[n_true:], torch.ones(n_all + 1 - n_true), atol=1e-4, rtol=0)
    assert found.cpr == pytest.approx(areas([n / n_all for n in found.n_edges], found.faithfulness.tolist())[0])
    assert 1 - n_true / n_all < found.cpr < 1  # the true edges come first
    coarse = curve(behaviour, order, sizes := [0, n_true, 30, 50, n_all])
    assert coarse.faithfulness.tolist() == [found.faithfulness[n] for n in sizes]
    backwards = curve(behaviour, order[::-1], sizes)
    assert backwards.cpr < 0.1
    others = random_curves(behaviour, 5, generator(0), sizes)
    assert others.cpr.high < coarse.cpr
    assert others.cmd.low > coarse.cmd
    assert ((others.low <= others.mean) & (others.mean <= others.high)).all()
    again = random_curves(behaviour, 5, generator(0), sizes)
    assert torch.equal(again.mean, others.mean)
    with pytest.raises(ValueError, match="each once"):
        curve(behaviour, [*order[:-1], order[0]])


def test_random_circuits_have_the_size_that_is_asked_for_and_spread_evenly():
    behaviour, rng = Behaviour(MODEL, PAIRS), generator(0)
    drawn = [behaviour.random_circuit(10, rng) for _ in range(400)]
    assert {len(circuit) for circuit in drawn} == {10}
    share = sum(Edge(TOK, LOGITS) in circuit for circuit in drawn) / 400
    assert share == pytest.approx(10 / len(EVERY), abs=0.06)


def test_intervals_by_hand():
    found = Interval.of([float(i) for i in range(101)])
    assert found == pytest.approx((50, 2.5, 97.5))
    assert Interval.of([2.0]) == (2, 2, 2)
    with pytest.raises(ValueError, match="needs at least one"):
        Interval.of([])


def test_a_curve_that_is_no_number_has_no_area():
    with pytest.raises(ValueError, match=r"^faithfulness = nan: must be finite, 1 of 3 are not$"):
        areas([0.0, 0.5, 1.0], [0.0, math.nan, 1.0])
