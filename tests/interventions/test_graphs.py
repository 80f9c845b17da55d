"""Patched activations and edge scores of every architecture are those of a HookedTransformer with hooks.

The default tests draw a few configurations; the slow ones those of `SEEDS`, more than 200.
"""

import random
from typing import get_args

import pytest
import torch
from architectures import random_config
from helpers import generator, pairs_of, random_model
from torch.testing import assert_close

from compo_mech.causal.row_patching import ROW_KINDS, continued
from compo_mech.circuits.circuit import Circuit, from_json, to_json
from compo_mech.circuits.circuit_runs import CircuitRuns
from compo_mech.circuits.exact import exact
from compo_mech.circuits.gradient_scorers import eap
from compo_mech.circuits.scores import EdgeScores
from compo_mech.circuits.selection import connected, greedy
from compo_mech.data.config import DataConfig
from compo_mech.interventions import traces
from compo_mech.interventions.ablation import ablated_logits, ablation_values
from compo_mech.interventions.edges import (
    TOK,
    Edge,
    all_edges,
    all_readers,
    heads_reading,
    readers_of,
    writers_before,
)
from compo_mech.interventions.graph import embeddings, run_both, run_graph, run_patched
from compo_mech.interventions.metrics import cross_entropy
from compo_mech.interventions.pairs import Switch
from compo_mech.interventions.patching import patched_logits, sweep
from compo_mech.interventions.row_traces import row_trace
from compo_mech.model.forward import forward
from compo_mech.model.hooked import to_hooked
from compo_mech.model.sites import HEAD_KINDS, Kind, Site, check_site, heads_of_kind
from compo_mech.plots.circuits import circuit_graph
from compo_mech.reference.hooked_edges import loop_eap, loop_exact
from compo_mech.weights.qk_ov import direct_logit_attribution

FEW, SEEDS = range(7), range(7, 220)
few_and_many = pytest.mark.parametrize("seed", [*FEW, *(pytest.param(seed, marks=pytest.mark.slow) for seed in SEEDS)])
DATA = DataConfig(max_length=3)
NEAR = {"atol": 1e-9, "rtol": 1e-7}


def network(seed):
    config = random_config(seed)
    return random_model(config, DATA, seed, torch.float64), pairs_of(DATA, Switch.TOKEN | Switch.LENGTH, 6, seed)


def kinds_of(config):
    """The kinds of sites that the network has, and those that it does not have."""
    missing = {"resid_mid", "mlp_out"} if config.attn_only else {"resid_mid"} if config.parallel_attn_mlp else set()
    return [kind for kind in get_args(Kind) if kind not in missing], missing


def hooked_logits(hooked, tokens, site, where, corrupt):
    """The obvious way: the corrupt run's value, hooked into the clean one."""

    def put(value, hook):
        other, value = corrupt[site.hook_name], value.clone()
        if site.kind == "pattern":
            value[:, site.head] = torch.where(where[:, :, None], other[:, site.head], value[:, site.head])
        elif site.head is not None:
            value[:, :, site.head] = torch.where(where[..., None], other[:, :, site.head], value[:, :, site.head])
        else:
            value = torch.where(where[..., None], other, value)
        return value

    with torch.no_grad():
        return hooked.run_with_hooks(tokens, fwd_hooks=[(site.hook_name, put)])


@few_and_many
def test_patched_values_at_every_kind_of_site_are_those_of_hooks(seed):
    model, pairs = network(seed)
    config, draws = model.config, random.Random(seed)
    hooked = to_hooked(model)
    hooked.set_use_attn_result(True)
    _, cache = hooked.run_with_cache(pairs.corrupt_tokens)
    clean, corrupt = traces.both_traces(model, pairs)
    scattered = torch.rand(pairs.clean_tokens.shape, generator=generator(seed)) < 0.4
    kinds, missing = kinds_of(config)
    for kind in kinds:
        heads = heads_of_kind(kind, config)
        for layer, head in {(0, heads[-1]), (draws.randrange(config.n_layers), draws.choice(heads))}:
            site = Site(kind, layer, head)
            if kind not in ("pattern", "result"):
                theirs = cache[site.hook_name] if head is None else cache[site.hook_name][:, :, head]
                assert_close(corrupt.at(site), theirs, **NEAR)
            expected = hooked_logits(hooked, pairs.clean_tokens, site, scattered, cache)[pairs.row, pairs.position]
            assert_close(patched_logits(model, clean, corrupt, site, scattered, pairs), expected, **NEAR)
    for kind in missing:
        with pytest.raises(ValueError, match=f"site.kind = '{kind}': must be one that the network has, which has "):
            check_site(Site(kind, 0), config)


@few_and_many
def test_a_row_goes_on_as_with_hooks(seed):
    model, pairs = network(seed)
    config, draws = model.config, random.Random(seed)
    hooked = to_hooked(model)
    tokens, index = pairs.clean_tokens, torch.arange(len(pairs.clean_tokens))
    position = torch.randint(tokens.shape[1], (len(tokens),), generator=generator(seed))
    where = torch.zeros_like(pairs.read)
    where[index, position] = True
    clean, other = (
        row_trace(model, *run, position)
        for run in ((tokens, pairs.clean_position_ids), (pairs.corrupt_tokens, pairs.corrupt_position_ids))
    )
    _, cache = hooked.run_with_cache(pairs.corrupt_tokens)
    for kind in set(ROW_KINDS) & set(kinds_of(config)[0]):
        site = Site(kind, draws.randrange(config.n_layers), draws.choice(heads_of_kind(kind, config)))
        expected = hooked_logits(hooked, tokens, site, where, cache)[index, position]
        assert_close(continued(model, clean, site, other.at(site)), expected, **NEAR)


@few_and_many
def test_edge_scores_are_those_of_hooks(seed):
    model, pairs = network(seed)
    edges = all_edges(model.config)
    some = random.Random(seed).sample(edges, min(20, len(edges)))
    for fast, slow in ((exact, loop_exact), (eap, loop_eap)):
        expected = slow(model, pairs, some, cross_entropy)
        assert_close(fast(model, pairs, some, cross_entropy).scores, expected, **NEAR)


@few_and_many
def test_the_graph_is_the_network_and_its_edges_are_all_there_is(seed):
    model, pairs = network(seed)
    config = model.config
    clean = embeddings(model, pairs.clean_tokens, pairs.clean_position_ids)
    outputs, logits = run_graph(model, clean)
    assert_close(logits.flatten(0, 1), forward(model, pairs.clean_tokens), **NEAR)
    assert list(outputs) == writers_before(all_readers(config)[-1], config)
    assert {reader for writer in outputs for reader in readers_of(writer, config)} == set(all_readers(config)[:-1])
    runs = run_both(model, pairs)
    _, corrupt = run_graph(model, embeddings(model, pairs.corrupt_tokens, pairs.corrupt_position_ids))
    everything = run_patched(model, pairs, runs, all_edges(config))
    assert_close(everything, corrupt[pairs.row, pairs.position], **NEAR)
    assert_close(run_patched(model, pairs, runs, []), runs.logits, **NEAR)


@few_and_many
def test_circuits_are_patches_of_all_other_edges_and_need_only_what_is_connected(seed):
    model, pairs = network(seed)
    config, draws = model.config, random.Random(seed)
    edges = all_edges(config)
    no = (False,) * len(edges)
    runs, circuits = run_both(model, pairs), CircuitRuns(model, pairs, edges)
    for share in (0.3, 0.8):
        circuit = frozenset(edge for edge in edges if draws.random() < share)
        logits = circuits.logits(circuit)
        assert_close(logits, run_patched(model, pairs, runs, set(edges) - circuit), **NEAR)
        assert_close(logits, circuits.logits(connected(circuit, config)), **NEAR)
        ranking = EdgeScores(tuple(edges), torch.rand(len(edges), generator=generator(seed)), no, no)
        grown = greedy(ranking, len(circuit), config)  # each of its edges leads to the logits
        assert grown <= connected([*grown, *(Edge(TOK, reader) for reader in all_readers(config))], config)


@few_and_many
def test_what_is_known_of_an_ablated_network_changes_nothing_and_logits_are_sums_over_writers(seed):
    model, pairs = network(seed)
    inputs = embeddings(model, pairs.clean_tokens, pairs.clean_position_ids)
    outputs, logits = run_graph(model, inputs)
    values = ablation_values(model, outputs, "mean")
    components = list(outputs)[len(inputs) :]
    gone = random.Random(seed).sample(components, min(2, len(components)))
    for ablated in (gone, gone[:1], gone[1:]):
        expected = ablated_logits(model, inputs, ablated, values)
        assert_close(ablated_logits(model, outputs, ablated, values), expected, **NEAR)
    parts = direct_logit_attribution(model, pairs.clean_tokens, pairs.clean_position_ids)
    assert_close(torch.stack(list(parts.values())).sum(0), logits, **NEAR)


@few_and_many
def test_circuits_are_written_and_drawn(seed):
    config, draws = random_config(seed), random.Random(seed)
    edges = draws.sample(all_edges(config), 3)
    circuit = Circuit(config, frozenset(edges), {edge: draws.gauss(0, 1) for edge in edges})
    assert from_json(to_json(circuit), config) == circuit
    lines = [trace for trace in circuit_graph(circuit).data if trace.mode == "lines" and trace.text is not None]
    assert len(lines) == sum(len(heads_reading(edge.reader, config)) or 1 for edge in edges)


def test_parts_that_a_network_does_not_have_have_no_edges():
    for seed in FEW:
        config = random_config(seed)
        edges = all_edges(config)
        assert any(edge.writer.kind == "pos" for edge in edges) == (config.positional_embedding == "standard")
        assert any("mlp" in (edge.writer.kind, edge.reader.kind) for edge in edges) == (not config.attn_only)
        own = [
            e for e in edges if e.reader.kind == "mlp" and e.writer.kind == "head" and e.writer.layer == e.reader.layer
        ]
        assert bool(own) == (not config.attn_only and not config.parallel_attn_mlp)
        for kind in ("q", "k", "v"):
            heads = {edge.reader.head for edge in edges if edge.reader.kind == kind}
            assert heads == set(heads_of_kind(kind, config))


def test_the_sweep_has_a_head_of_keys_and_values_for_each():
    config = random_config(0).model_copy(update={"n_heads": 4, "n_key_value_heads": 2, "d_head": 4})
    model, pairs = random_model(config, DATA), pairs_of(DATA, Switch.TOKEN)
    for kind in HEAD_KINDS:
        found = sweep(model, pairs, kind, cross_entropy, positions=[0])
        assert found.shape[1] == (2 if kind in "kv" else 4)
