"""Laws of the scorers that use gradients: when they equal exact patching, and what they add up to."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from architectures import prompts_of, random_config, random_network
from helpers import EVERY, pairs_of, random_model

from compo_mech.circuits.atp_star import atp_star
from compo_mech.circuits.attribution import reader_gradients
from compo_mech.circuits.exact import exact
from compo_mech.circuits.gradient_scorers import eap, eap_ig, eap_ig_activations, relp, writer_groups
from compo_mech.data.config import DataConfig
from compo_mech.interventions.edges import LOGITS, POS, TOK, all_edges
from compo_mech.interventions.graph import embeddings, run_both, run_graph, run_patched
from compo_mech.interventions.metrics import cross_entropy, logit_difference
from compo_mech.interventions.streams import total_of
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


@pytest.mark.parametrize("is_parallel", [False, True])
def test_atp_star_is_eap_where_little_changes(is_parallel):
    """One layer and one row: nothing to drop, nothing to cancel, and attention that is linear in so small a change."""
    config = SMOOTH.model_copy(update={"n_layers": 1, "parallel_attn_mlp": is_parallel})
    model, pairs = network(config), pairs_of(DATA, EVERY, n_rows=1)
    edges, runs = all_edges(config), run_both(model, pairs)
    near = {writer: own + 1e-6 * (runs.corrupt[writer] - own) for writer, own in runs.clean.items()}
    found, expected = (1e6 * s(model, pairs, edges, corrupt=near).scores.abs() for s in (atp_star, eap))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert expected.min() < 1e-2 < expected.max()


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


@pytest.mark.parametrize("seed", range(5))
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


@pytest.mark.parametrize("seed", range(2))
def test_ig_over_activations_adds_up_to_patches_of_all_that_a_group_writes(seed):
    config = random_config(seed)
    model = random_network(config, seed, torch.float64)
    pairs, edges = prompts_of(model), all_edges(config)
    runs, scores = run_both(model, pairs), eap_ig_activations(model, pairs, edges, n_steps=40).scores
    base = cross_entropy(runs.logits, runs.logits, pairs)
    for group in writer_groups(config):
        out = [edge for edge in edges if edge.writer in group]
        whole = cross_entropy(run_patched(model, pairs, runs, out), runs.logits, pairs) - base
        total = sum(score for edge, score in zip(edges, scores, strict=True) if edge in out)
        torch.testing.assert_close(total, whole, atol=3e-3, rtol=3e-3)
