"""Edge attribution in bounded memory is the plain one: one graph of the whole network, edge by edge."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers import EVERY, generator, pairs_of, random_model
from torch import Tensor

from compo_mech.circuits import attribution
from compo_mech.circuits.attribution import reader_gradients
from compo_mech.circuits.gradient_scorers import eap, eap_ig
from compo_mech.data.config import DataConfig
from compo_mech.data.layout import WHOLE_SPANS
from compo_mech.interventions.ablation import baseline_outputs
from compo_mech.interventions.edges import all_edges, all_readers
from compo_mech.interventions.graph import embeddings, run_both, run_graph
from compo_mech.interventions.metrics import METRICS, cross_entropy
from compo_mech.interventions.streams import total_of
from compo_mech.model.config import ModelConfig

DATA = DataConfig(max_length=4)
CONFIGS = {
    "LayerNorm and biases": ModelConfig(d_model=12, n_layers=3, n_heads=2, biases=True),
    "plain": ModelConfig(d_model=8, n_layers=1, n_heads=4, normalization="none", act_fn="relu"),
}
ROWS = ("clean_tokens", "corrupt_tokens", "clean_position_ids", "corrupt_position_ids")
METRICS_WITH_GRADIENTS = [name for name in METRICS if name != "inaccuracy"]


def plainly(model, pairs, edges, metric, runs, fractions):
    """One graph of the whole network with a nudge at every reader, then each edge by itself."""
    change = {writer: runs.corrupt[writer] - own for writer, own in runs.clean.items()}
    total = torch.zeros(len(edges), dtype=torch.float64)
    for fraction in fractions:
        seen: dict[object, Tensor] = {}

        def read(reader, outputs, seen=seen):
            seen[reader] = torch.zeros_like(total_of(outputs), requires_grad=True)
            return total_of(outputs) + seen[reader]

        inputs = {w: own + fraction * change[w] for w, own in runs.clean.items() if w.layer is None}
        _, logits = run_graph(model, inputs, read)
        value = metric(logits[pairs.row, pairs.position], runs.logits, pairs)
        gradients = dict(zip(seen, torch.autograd.grad(value, list(seen.values())), strict=True))
        for i, edge in enumerate(edges):
            product = (gradients[edge.reader] * change[edge.writer]).sum(-1)
            total[i] += (product if edge.span is None else product[pairs.where(edge.span)]).sum() / len(fractions)
    return total


@pytest.mark.parametrize("name", METRICS_WITH_GRADIENTS)
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("most", [0, 2**28], ids=["layers run again", "graphs kept"])
def test_scores_are_those_of_the_plain_way(monkeypatch, config, name, most):
    monkeypatch.setattr(attribution, "MAX_KEPT", most)
    model, pairs = random_model(CONFIGS[config], DATA, dtype=torch.float64), pairs_of(DATA, EVERY, n_rows=6)
    edges, runs = all_edges(model.config), run_both(model, pairs)
    for score, fractions in ((eap, [0.0]), (partial(eap_ig, n_steps=3), [1 / 6, 3 / 6, 5 / 6])):
        expected = plainly(model, pairs, edges, METRICS[name], runs, fractions)
        assert torch.allclose(score(model, pairs, edges, METRICS[name]).scores, expected, rtol=1e-9, atol=1e-12)


def test_scores_by_span_and_of_a_few_edges_too_and_they_add_up():
    model, pairs = random_model(CONFIGS["plain"], DATA, dtype=torch.float64), pairs_of(DATA, EVERY, n_rows=6)
    whole, parts = all_edges(model.config), all_edges(model.config, by_span=True)
    by_span = eap(model, pairs, parts).scores
    assert torch.allclose(by_span, plainly(model, pairs, parts, cross_entropy, run_both(model, pairs), [0.0]))
    few = [edge for edge in whole if edge.reader.kind == "mlp"][1:3]
    index = [whole.index(edge) for edge in few]
    assert torch.allclose(eap(model, pairs, few).scores, eap(model, pairs, whole).scores[index])
    inside = torch.stack([pairs.where(span) for span in WHOLE_SPANS]).any(0)
    full = replace(pairs, **{name: torch.where(inside, getattr(pairs, name), 0) for name in ROWS})  # padding agrees
    sums = eap(model, full, parts).scores.view(len(whole), -1).sum(1)
    assert torch.allclose(sums, eap(model, full, whole).scores)


def test_a_baseline_may_take_the_place_of_the_corrupt_run():
    model, pairs = random_model(CONFIGS["plain"], DATA, dtype=torch.float64), pairs_of(DATA, EVERY, n_rows=6)
    known = embeddings(model, pairs.clean_tokens, pairs.clean_position_ids)
    mean = baseline_outputs(model, known, "mean_over_positions", generator())
    edges, runs = all_edges(model.config), run_both(model, pairs, mean)
    expected = plainly(model, pairs, edges, cross_entropy, runs, [0.25, 0.75])
    assert torch.allclose(eap_ig(model, pairs, edges, cross_entropy, mean, n_steps=2).scores, expected)


def test_gradients_come_layer_by_layer_and_are_those_of_every_reader():
    """So that nothing of one layer has to be held while another is worked on."""
    model, pairs = random_model(CONFIGS["LayerNorm and biases"], DATA), pairs_of(DATA, EVERY, n_rows=4)
    runs = run_both(model, pairs)
    inputs = {writer: out for writer, out in runs.clean.items() if writer.layer is None}
    layers = list(reader_gradients(model, inputs, pairs, cross_entropy, runs.logits))
    assert [{reader.layer for reader in found} for found in layers] == [{None}, {2}, {1}, {0}]
    assert {reader for found in layers for reader in found} == set(all_readers(model.config))


def test_a_metric_without_a_gradient_is_refused():
    model, pairs = random_model(CONFIGS["plain"], DATA), pairs_of(DATA, EVERY, n_rows=4)
    with pytest.raises(ValueError, match="metric = one without a gradient: goes with exact patching alone"):
        eap_ig(model, pairs, all_edges(model.config), METRICS["inaccuracy"])
