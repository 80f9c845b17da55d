"""Laws of the scorers that patch or mask, and of all: what they equal, what they cost, what they refuse."""

from functools import partial

import pytest
import torch
from architectures import prompts_of, random_config, random_network
from helpers import EVERY, generator, pairs_of, random_model

from compo_mech.circuits.acdc import acdc, kept_edges
from compo_mech.circuits.atp_star import atp_star
from compo_mech.circuits.circuit_runs import CircuitRuns
from compo_mech.circuits.edge_pruning import edge_pruning, gated_logits, hard_concrete, open_probability
from compo_mech.circuits.exact import exact, exact_by_span
from compo_mech.circuits.grade import grade
from compo_mech.circuits.gradient_scorers import eap_ig_activations, relp
from compo_mech.circuits.joint_patching import HARMLESS, pair_patching, subset_patching
from compo_mech.circuits.scorers import COSTS, SCORERS
from compo_mech.data.config import DataConfig
from compo_mech.data.layout import WHOLE_SPANS
from compo_mech.data.tasks import Parity
from compo_mech.ground_truth.hard_cases import build_hard_case
from compo_mech.interventions.edges import LOGITS, TOK, Edge, Reader, Writer, all_edges
from compo_mech.interventions.graph import run_both, run_patched
from compo_mech.interventions.metrics import METRICS, cross_entropy, logit_difference
from compo_mech.interventions.pairs import Pairs, Switch
from compo_mech.model import blocks
from compo_mech.model.config import ModelConfig

DATA = DataConfig(max_length=3)
SMOOTH = ModelConfig(d_model=8, n_layers=2, n_heads=2)


def network(config):
    """A random one in double precision."""
    return random_model(config, DATA, dtype=torch.float64)


def test_acdc_is_the_plain_loop():
    model, pairs = network(SMOOTH), pairs_of(DATA, EVERY, n_rows=4)
    edges, runs = all_edges(model.config), run_both(model, pairs)
    for threshold in (0.003, 0.05):
        removed, current = [], cross_entropy(runs.logits, runs.logits, pairs)
        for edge in reversed(edges):
            value = cross_entropy(run_patched(model, pairs, runs, [*removed, edge]), runs.logits, pairs)
            if abs(value - current) < threshold:
                removed, current = [*removed, edge], value
        assert kept_edges(model, pairs, runs, edges, cross_entropy, threshold) == set(edges) - set(removed)
        assert 0 < len(removed) < len(edges)


def test_acdc_of_one_edge_is_exact_patching_rounded_down():
    model, pairs, thresholds = network(SMOOTH), pairs_of(DATA, EVERY, n_rows=4), (0.01, 0.03, 0.1)
    for edge in all_edges(model.config)[::4]:
        size = abs(float(exact(model, pairs, [edge]).scores))
        expected = max((threshold for threshold in thresholds if size >= threshold), default=0.0)
        assert float(acdc(model, pairs, [edge], thresholds=thresholds).scores) == pytest.approx(expected)


@pytest.mark.parametrize("in_spans", [(), ("tok", "head"), ("tok", "pos", "head", "mlp")], ids=str)
def test_gates_that_are_open_or_closed_make_a_circuit(in_spans):
    model, pairs = network(SMOOTH), pairs_of(DATA, Switch.TOKEN, n_rows=4)
    edges = [
        edge
        for by_span in (False, True)
        for edge in all_edges(model.config, by_span)
        if by_span == (edge.writer.kind in in_spans)
    ]
    gates = (torch.rand(len(edges), generator=generator()) < 0.5).double()
    circuit = frozenset(edge for edge, gate in zip(edges, gates.tolist(), strict=True) if gate)
    expected = CircuitRuns(model, pairs, edges).logits(circuit)
    torch.testing.assert_close(gated_logits(model, pairs, run_both(model, pairs), edges, gates), expected)


def test_a_gate_is_open_as_often_as_its_probability_says():
    uniform = (torch.arange(20000) + 0.5) / 20000
    for log_odds in (-3.0, 0.0, 2.0):
        odds = torch.tensor([log_odds])
        share = (hard_concrete(odds.expand(20000), uniform) > 0).double().mean()
        assert float(share) == pytest.approx(float(open_probability(odds)), abs=1e-3)


@pytest.mark.parametrize("metric", [cross_entropy, logit_difference])
def test_pairs_of_edges_are_patched_as_they_are_defined(metric):
    model, pairs = network(ModelConfig(d_model=8, n_layers=1, n_heads=1)), pairs_of(DATA, EVERY, n_rows=4)
    edges, runs = all_edges(model.config), run_both(model, pairs)

    def change(*patched):
        return float(metric(run_patched(model, pairs, runs, patched), runs.logits, pairs)) - base

    base = float(metric(runs.logits, runs.logits, pairs))
    whole = abs(change(*(edge for edge in edges if edge.reader == LOGITS)))
    alone = [change(edge) for edge in edges]
    harmless = [edge for edge, c in zip(edges, alone, strict=True) if abs(c) < HARMLESS * whole]
    found = pair_patching(model, pairs, edges, metric).scores.abs().tolist()
    for edge, own, score in zip(edges, alone, found, strict=True):
        together = [change(edge, other) - change(other) for other in harmless if other != edge]
        assert score == pytest.approx(max(map(abs, [own, *together])), abs=1e-9)


@pytest.mark.parametrize(
    ("scorer", "name"),
    [
        (subset_patching, "two of three"),
        pytest.param(pair_patching, "two of three", marks=pytest.mark.slow),
    ],
)
def test_what_single_edges_cannot_see_is_seen_together(scorer, name):
    built = build_hard_case(name, Parity(), max_length=3)
    pairs = pairs_of(built.data, EVERY, n_rows=8)
    edges = all_edges(built.model.config)
    single = grade(exact(built.model, pairs, edges), built.edges)
    together = grade(scorer(built.model, pairs, edges), built.edges)
    assert single.auc_all < 0.95
    assert together.auc_all == 1
    assert together.top_is_truth


def test_an_edge_by_spans_has_its_largest_change():
    model, pairs = network(SMOOTH), pairs_of(DATA, Switch.TOKEN, n_rows=4)
    edges = all_edges(model.config)
    parts = [[Edge(*edge[:2], span) for span in WHOLE_SPANS] for edge in edges]
    expected = [exact(model, pairs, part).scores.abs().max() for part in parts]
    torch.testing.assert_close(exact_by_span(model, pairs, edges).scores.abs(), torch.stack(expected))


@pytest.fixture
def counted(monkeypatch):
    """The forward passes that were run, a backward pass being two."""
    n, plain = [0], blocks.logits

    def logits(model, stream):
        n[0] += 3 if torch.is_grad_enabled() and stream.requires_grad else 1
        return plain(model, stream)

    monkeypatch.setattr(blocks, "logits", logits)
    return n


AT_MOST = {"pair patching", "subset patching", "ACDC"}


def test_a_scorer_costs_what_is_said(counted):
    config = ModelConfig(d_model=8, n_layers=1)
    model, pairs = random_model(config, DATA), pairs_of(DATA, EVERY, n_rows=3)
    edges = all_edges(config)
    assert COSTS.keys() == SCORERS.keys()
    for name, scorer in SCORERS.items():
        counted[0] = 0
        scorer(model, pairs, edges, cross_entropy, None)
        said = COSTS[name](config, len(edges))
        assert counted[0] == said or (name in AT_MOST and 0.1 * said < counted[0] < said), name


@pytest.mark.parametrize("seed", range(3))
def test_every_scorer_takes_every_kind_of_network(seed):
    config = random_config(seed)
    model = random_network(config, seed)
    pairs, edges = prompts_of(model, n_rows=2), all_edges(config)
    edges = edges[:: max(1, len(edges) // 6)]
    for name, scorer in (SCORERS | {"edge pruning": partial(edge_pruning, n_steps=2)}).items():
        found = scorer(model, pairs, edges, logit_difference, None)
        assert found.edges == tuple(edges), name
        assert found.scores.isfinite().all(), name
        whole = scorer(model, pairs, edges[:1], logit_difference, None).scores[0]
        if name in ("exact", "exact by span", "EAP", "IG 5", "IG 20", "IG 5, activations", "AtP*", "RelP"):
            torch.testing.assert_close(whole, found.scores[0], msg=name)  # whatever else is asked


@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
def test_every_scorer_takes_attention_both_ways(attention):
    config = SMOOTH.model_copy(update={"attention_dir": attention})
    model = random_network(config, 0)
    pairs, edges = prompts_of(model, n_rows=2), [Edge(TOK, Reader("v", 0, 0)), Edge(Writer("mlp", 1), LOGITS)]
    for name, scorer in (SCORERS | {"edge pruning": partial(edge_pruning, n_steps=2)}).items():
        assert scorer(model, pairs, edges, logit_difference, None).scores.isfinite().all(), name


def test_a_score_of_zero_is_a_claim_only_where_it_is_a_change_of_the_metric():
    """Below its lowest threshold ACDC drops an edge that moves the metric, and pruning shuts every gate in the end."""
    model, pairs = network(SMOOTH), pairs_of(DATA, EVERY, n_rows=2)
    edges = [Edge(TOK, Reader("q", 0, 0)), Edge(TOK, Reader("v", 1, 1))]
    assert exact(model, pairs, edges).scores.abs().min() > 1e-6
    found = acdc(model, pairs, edges, thresholds=[100.0])
    assert found.scores.tolist() == [0, 0]
    for scores in (found, edge_pruning(model, pairs, edges, n_steps=1)):
        assert scores.no_effect == (False, False)
        assert scores.zero_gradient == ()


def test_what_scorers_refuse():
    model, pairs = network(SMOOTH), pairs_of(DATA, EVERY, n_rows=2)
    edges = all_edges(model.config)
    for scorer in (eap_ig_activations, atp_star, relp, edge_pruning):
        with pytest.raises(ValueError, match="metric = one without a gradient: goes with exact patching alone"):
            scorer(model, pairs, edges, METRICS["inaccuracy"])
    for scorer in (eap_ig_activations, edge_pruning):
        with pytest.raises(ValueError, match="n_steps = 0: must be at least 1"):
            scorer(model, pairs, edges, n_steps=0)
    with pytest.raises(ValueError, match=r"threshold = 0\.0: must be above 0"):
        acdc(model, pairs, edges, thresholds=(0.1, 0.0))
    for scorer in (acdc, pair_patching, subset_patching, edge_pruning):
        with pytest.raises(ValueError, match=r"score of tok .* = nan: must|metric with gated edges = .*finite"):
            scorer(model, pairs, edges[:1], lambda *args: cross_entropy(*args) * float("nan"))
    tokens = pairs.clean_tokens[:, :4]
    unnamed = Pairs.of(model, tokens, tokens.flip(0), [[0]] * 2, [[1]] * 2)
    with pytest.raises(ValueError, match="pairs = without spans: must name some"):
        exact_by_span(model, unnamed, edges)
    for scorer in SCORERS.values():
        with pytest.raises(ValueError, match="edges = none: there must be at least one"):
            scorer(model, pairs, [], cross_entropy, None)
