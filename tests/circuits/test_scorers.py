"""Laws of the scorers of edges: what they equal, what they add up to, and what they cost."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from architectures import D_VOCAB, random_config, random_network
from helpers import EVERY, generator, pairs_of, random_model

from compo_mech.circuits.acdc import acdc, kept_edges
from compo_mech.circuits.atp_star import atp_star
from compo_mech.circuits.attribution import reader_gradients
from compo_mech.circuits.circuit_runs import CircuitRuns
from compo_mech.circuits.edge_pruning import edge_pruning, gated_logits, hard_concrete, open_probability
from compo_mech.circuits.exact import exact, exact_by_span
from compo_mech.circuits.grade import grade
from compo_mech.circuits.gradient_scorers import eap, eap_ig, eap_ig_activations, relp, writer_groups
from compo_mech.circuits.joint_patching import HARMLESS, pair_patching, subset_patching
from compo_mech.circuits.scorers import COSTS, SCORERS
from compo_mech.data.config import DataConfig
from compo_mech.data.layout import WHOLE_SPANS
from compo_mech.data.tasks import Parity
from compo_mech.ground_truth.hard_cases import build_hard_case
from compo_mech.interventions.edges import LOGITS, POS, TOK, Edge, Reader, Writer, all_edges
from compo_mech.interventions.graph import embeddings, run_both, run_graph, run_patched
from compo_mech.interventions.metrics import METRICS, cross_entropy, logit_difference
from compo_mech.interventions.pairs import Pairs, Switch
from compo_mech.interventions.streams import total_of
from compo_mech.model import blocks
from compo_mech.model.config import ModelConfig

DATA = DataConfig(max_length=3)
ATTENTION = ModelConfig(d_model=8, n_layers=1, n_heads=4, n_key_value_heads=2, attn_only=True, normalization="none")
RELU = ModelConfig(d_model=8, n_layers=2, n_heads=2, normalization="none", act_fn="relu", biases=True)
SMOOTH = ModelConfig(d_model=8, n_layers=2, n_heads=2)
SIGNED = {
    "EAP": eap,
    "IG": partial(eap_ig, n_steps=3),
    "IG, activations": partial(eap_ig_activations, n_steps=3),
    "RelP": relp,
    "RelP, attention held": partial(relp, attention_is_held=True),
}


def network(config, scale=1.0):
    """A random one in double precision, whose queries are scaled."""
    model = random_model(config, DATA, dtype=torch.float64)
    scaled = {name: p * scale if name.endswith("W_Q") else p for name, p in model.params.items()}
    return replace(model, params=scaled)


def prompts_of(model, n_rows=5):
    """Pairs of random tokens, in rows of one length."""
    clean, corrupt = (torch.randint(D_VOCAB, (n_rows, 6), generator=generator(seed)) for seed in (1, 2))
    answer = torch.randint(D_VOCAB, (n_rows, 1), generator=generator(3))
    spans = {"begin": range(2), "rest": range(2, 6)}
    return Pairs.of(model, clean, corrupt, answer, (answer + 1) % D_VOCAB, spans=spans)


@pytest.mark.parametrize("name", SIGNED)
def test_on_a_linear_network_gradients_are_patches(name):
    """Uniform attention, no MLP, no norm: nothing is left to approximate."""
    model = network(ATTENTION.model_copy(update={"n_layers": 2}), scale=0.0)
    pairs, edges = pairs_of(DATA, EVERY, n_rows=5), all_edges(model.config, by_span=True)
    expected = exact(model, pairs, edges, logit_difference).scores
    found = SIGNED[name](model, pairs, edges, logit_difference)
    torch.testing.assert_close(found.scores, expected)
    assert expected.abs().max() > 0.1


def test_atp_star_is_exact_where_softmax_alone_is_not_linear():
    """One layer of saturated attention, a linear metric, one row."""
    model, pairs = network(ATTENTION, scale=40.0), pairs_of(DATA, EVERY, n_rows=1)
    edges = all_edges(model.config, by_span=True)
    expected = exact(model, pairs, edges, logit_difference).scores.abs()
    torch.testing.assert_close(atp_star(model, pairs, edges, logit_difference).scores, expected)
    into_scores = torch.tensor([edge.reader.kind in ("q", "k") for edge in edges])
    plain = eap(model, pairs, edges, logit_difference).scores.abs()
    assert (plain - expected)[into_scores].abs().max() > 0.1
    torch.testing.assert_close(plain[~into_scores], expected[~into_scores])


def test_atp_star_takes_sizes_row_by_row():
    model, pairs = network(SMOOTH), pairs_of(DATA, EVERY, n_rows=6)
    edges = all_edges(model.config)
    into_logits = torch.tensor([edge.reader == LOGITS for edge in edges])  # whose gradient no layer can drop
    runs = run_both(model, pairs)
    inputs = {writer: out for writer, out in runs.clean.items() if writer.layer is None}
    gradient = next(reader_gradients(model, inputs, pairs, cross_entropy, runs.logits))[LOGITS]
    by_row = [((runs.corrupt[w] - own) * gradient).sum((1, 2)).abs().sum() for w, own in runs.clean.items()]
    torch.testing.assert_close(atp_star(model, pairs, edges).scores[into_logits], torch.stack(by_row))


@pytest.mark.parametrize("dropped", [0, 1])
def test_a_dropped_layer_is_one_whose_outputs_are_given(dropped):
    model, pairs = network(ModelConfig(d_model=8, n_layers=3, n_heads=2)), pairs_of(DATA, EVERY, n_rows=3)
    runs, seen = run_both(model, pairs), {}
    given = {w: out for w, out in runs.clean.items() if w.layer is None or w.layer == dropped}

    def read(reader, outputs):
        seen[reader] = torch.zeros_like(total_of(outputs), requires_grad=True)
        return total_of(outputs) + seen[reader]

    _, logits = run_graph(model, given, read, (pairs.row, pairs.position))
    expected = torch.autograd.grad(cross_entropy(logits, runs.logits, pairs), list(seen.values()))
    inputs = {w: out for w, out in given.items() if w.layer is None}
    layers = list(reader_gradients(model, inputs, pairs, cross_entropy, runs.logits, dropped=dropped))
    found = {reader: gradient for layer in layers for reader, gradient in layer.items()}
    assert set(found) == set(seen)
    for reader, gradient in zip(seen, expected, strict=True):
        torch.testing.assert_close(found[reader], gradient)


@pytest.mark.parametrize("seed", range(8))
def test_relevance_leaves_the_forward_pass_and_adds_up(seed):
    """Without biases, and with patterns held, the relevance of the embeddings is the metric itself."""
    config = random_config(seed).model_copy(update={"biases": False, "attention_dir": "causal"})
    model = random_network(config, seed, torch.float64)
    pairs, edges = prompts_of(model), [e for e in all_edges(config) if e.writer in (TOK, POS)]
    inputs = embeddings(model, pairs.clean_tokens, pairs.clean_position_ids)
    _, logits = run_graph(model, inputs, at=(pairs.row, pairs.position))
    for backward in ("relevance", "relevance, attention held"):
        found = run_graph(replace(model, backward=backward), inputs, at=(pairs.row, pairs.position))[1]
        torch.testing.assert_close(found, logits)
    nothing = {writer: torch.zeros_like(out) for writer, out in run_both(model, pairs).clean.items()}
    scores = relp(model, pairs, edges, logit_difference, nothing, attention_is_held=True).scores
    torch.testing.assert_close(scores.sum(), -logit_difference(logits, logits, pairs))


def test_relp_of_relus_without_norms_is_eap():
    """What comes out of a relu over what goes in is its derivative: only norms and smooth activations make RelP."""
    pairs = pairs_of(DATA, EVERY, n_rows=5)
    for config, alike in ((RELU, True), (SMOOTH, False)):
        model = network(config)
        edges = all_edges(config)
        assert torch.allclose(relp(model, pairs, edges).scores, eap(model, pairs, edges).scores) == alike


@pytest.mark.parametrize("seed", range(4))
def test_ig_over_activations_adds_up_to_patches_of_all_that_a_group_writes(seed):
    config = random_config(seed)
    model = random_network(config, seed, torch.float64)
    pairs, edges = prompts_of(model), all_edges(config)
    runs, scores = run_both(model, pairs), eap_ig_activations(model, pairs, edges, n_steps=60).scores
    base = cross_entropy(runs.logits, runs.logits, pairs)
    for group in writer_groups(config):
        out = [edge for edge in edges if edge.writer in group]
        whole = cross_entropy(run_patched(model, pairs, runs, out), runs.logits, pairs) - base
        total = sum(score for edge, score in zip(edges, scores, strict=True) if edge in out)
        torch.testing.assert_close(total, whole, atol=3e-3, rtol=3e-3)


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


@pytest.mark.parametrize("by_span", [False, True])
def test_gates_that_are_open_or_closed_make_a_circuit(by_span):
    model, pairs = network(SMOOTH), pairs_of(DATA, Switch.TOKEN, n_rows=4)
    edges = all_edges(model.config, by_span)
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
        pytest.param(pair_patching, "self-repair", marks=pytest.mark.slow),
    ],
)
def test_what_single_edges_cannot_see_is_seen_together(scorer, name):
    built = build_hard_case(name, Parity(), max_length=3)
    pairs = pairs_of(built.data, EVERY, n_rows=16)
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


@pytest.mark.parametrize("config", [ModelConfig(d_model=8, n_layers=1), ModelConfig(d_model=8, attn_only=True)])
def test_a_scorer_costs_what_is_said(counted, config):
    model, pairs = random_model(config, DATA), pairs_of(DATA, EVERY, n_rows=3)
    edges = all_edges(config)
    assert COSTS.keys() == SCORERS.keys()
    for name, scorer in SCORERS.items():
        counted[0] = 0
        scorer(model, pairs, edges, cross_entropy, None)
        said = COSTS[name](config, len(edges))
        assert counted[0] == said or (name in AT_MOST and 0.1 * said < counted[0] < said), name


@pytest.mark.parametrize("seed", range(6))
def test_every_scorer_takes_every_kind_of_network(seed):
    config = random_config(seed)
    model = random_network(config, seed)
    pairs, edges = prompts_of(model, n_rows=2), all_edges(config)
    edges = edges[:: max(1, len(edges) // 12)]
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
    tokens = pairs.clean_tokens[:, :4]
    unnamed = Pairs.of(model, tokens, tokens.flip(0), [[0]] * 2, [[1]] * 2)
    with pytest.raises(ValueError, match="pairs = without spans: must name some"):
        exact_by_span(model, unnamed, edges)
    for scorer in SCORERS.values():
        with pytest.raises(ValueError, match="edges = none: there must be at least one"):
            scorer(model, pairs, [], cross_entropy, None)
