import itertools
from dataclasses import replace
from functools import cache
from typing import get_args

import pytest
import torch
from helpers import pairs_of, random_model

from compo_mech.data.config import DataConfig
from compo_mech.data.layout import Span
from compo_mech.data.tasks import Parity
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.interventions import ablation, graph, patching, traces
from compo_mech.interventions.ablation import ablated_logits, baseline_outputs
from compo_mech.interventions.edges import TOK, Writer
from compo_mech.interventions.graph import embeddings, run_graph
from compo_mech.interventions.metrics import METRICS, cross_entropy
from compo_mech.interventions.pairs import Switch, make_pairs
from compo_mech.interventions.patching import patched_logits
from compo_mech.model.config import ModelConfig
from compo_mech.model.hooked import to_hooked
from compo_mech.model.params import Model
from compo_mech.model.sites import Site

DATA = DataConfig(max_length=4)
UNSHIFTED = Switch.TOKEN | Switch.LENGTH
CONFIGS = [
    ModelConfig(d_model=16, n_heads=2),
    ModelConfig(d_model=16, n_heads=2, n_layers=3, biases=True),
    ModelConfig(d_model=8, n_layers=1, normalization="none", act_fn="relu"),
]
KINDS = ["resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out", "q", "k", "v", "z", "pattern", "result"]
HEADED = ("q", "k", "v", "z", "pattern", "result")


def random_setting(config):
    return random_model(config, DATA), pairs_of(DATA, UNSHIFTED)


@cache
@torch.no_grad()
def hooked_setting(config):
    """The same network as a HookedTransformer, which hooks leave as it is, and what it has in its corrupt run."""
    model, pairs = random_setting(config)
    hooked = to_hooked(model)
    hooked.set_use_attn_result(True)
    return hooked, hooked.run_with_cache(pairs.corrupt_tokens)[1]


@torch.no_grad()
def by_hooks(config, pairs, site, where):
    """The obvious way: cache the corrupt run, hook its value into the clean one."""
    hooked, corrupt = hooked_setting(config)

    def hook(value, hook):
        other = corrupt[site.hook_name]
        value = value.clone()
        if site.kind == "pattern":
            value[:, site.head] = torch.where(where[:, :, None], other[:, site.head], value[:, site.head])
        elif site.head is not None:
            value[:, :, site.head] = torch.where(where[..., None], other[:, :, site.head], value[:, :, site.head])
        else:
            value = torch.where(where[..., None], other, value)
        return value

    logits = hooked.run_with_hooks(pairs.clean_tokens, fwd_hooks=[(site.hook_name, hook)])
    return logits[pairs.row, pairs.position]


@pytest.mark.parametrize("config", CONFIGS, ids=["two layers", "three layers, biases", "one layer, no norm"])
@pytest.mark.parametrize("kind", KINDS)
def test_patching_against_hooks(config, kind):
    model, pairs = random_setting(config)
    clean, corrupt = traces.both_traces(model, pairs)
    scattered = torch.rand(pairs.clean_tokens.shape, generator=torch.Generator().manual_seed(3)) < 0.3
    places = [torch.zeros_like(scattered), torch.ones_like(scattered), scattered]
    for position in (0, 4, pairs.clean_tokens.shape[1] - 1):
        where = torch.zeros_like(scattered)
        where[:, position] = True
        places.append(where)
    heads = range(config.n_heads) if kind in HEADED else [None]
    for layer, head, where in itertools.product(range(config.n_layers), heads, places):
        site = Site(kind, layer, head)
        fast = patched_logits(model, clean, corrupt, site, where, pairs)
        torch.testing.assert_close(fast, by_hooks(config, pairs, site, where), atol=1e-5, rtol=1e-5)


def test_patching_one_residual_site_everywhere_is_corrupt_and_nowhere_is_clean():
    pairs = pairs_of(DATA)
    model = random_model(CONFIGS[1], DATA)
    model = Model({name: param.double() for name, param in model.params.items()}, model.config)
    clean, corrupt = traces.both_traces(model, pairs)
    everywhere = torch.ones_like(pairs.clean_tokens, dtype=torch.bool)
    for kind, layer in itertools.product(("resid_pre", "resid_mid", "resid_post"), range(3)):
        full = patched_logits(model, clean, corrupt, Site(kind, layer), everywhere, pairs)
        torch.testing.assert_close(full, corrupt.logits[pairs.row, pairs.position], atol=1e-6, rtol=0)
        none = patched_logits(model, clean, corrupt, Site(kind, layer), ~everywhere, pairs)
        torch.testing.assert_close(none, clean.logits[pairs.row, pairs.position], atol=1e-6, rtol=0)


def test_the_sweep_is_the_loop():
    model, pairs = random_setting(CONFIGS[0])
    found = patching.sweep(model, pairs, "z", cross_entropy)
    n_pos = pairs.clean_tokens.shape[1]
    assert found.shape == (2, 2, n_pos)
    for layer, head, position in ((0, 1, 3), (1, 0, n_pos - 1), (1, 1, 6)):
        where = torch.zeros_like(pairs.clean_tokens, dtype=torch.bool)
        where[:, position] = True
        slow = by_hooks(CONFIGS[0], pairs, Site("z", layer, head), where)
        torch.testing.assert_close(found[layer, head, position], cross_entropy(slow, slow, pairs), atol=1e-5, rtol=1e-5)


def test_patching_a_hand_built_model_shows_its_heads_where_they_work():
    built = build(Parity(), rungs=BuildOptions(distractors=True))
    pairs = make_pairs(built.data, Switch.TOKEN | Switch.LENGTH, 48, torch.Generator().manual_seed(0))
    effect = patching.sweep(built.model, pairs, "z", METRICS["kl"])
    assert effect[0, 0].max() > 0.1
    assert effect[1, 0].max() > 0.1
    assert effect[:, 1].max() < 1e-6  # live distractors, which no one reads


def test_ablation_against_hooks():
    model, pairs = random_setting(CONFIGS[0])
    inputs = embeddings(model, pairs.clean_tokens, pairs.clean_position_ids)
    outputs, _ = graph.run_graph(model, inputs)
    values = baseline_outputs(model, inputs, "mean")
    torch.testing.assert_close(values[Writer("head", 1, 0)][3], outputs[Writer("head", 1, 0)].mean(0))
    hooked = to_hooked(model)
    hooked.set_use_attn_result(True)
    _, cache = hooked.run_with_cache(pairs.clean_tokens)

    def hook_head(value, hook):
        value = value.clone()
        value[:, :, 1] = cache["blocks.0.attn.hook_result"][:, :, 1].mean(0)
        return value

    def hook_mlp(value, hook):
        return cache["blocks.1.hook_mlp_out"].mean(0).expand_as(value)

    expected = hooked.run_with_hooks(
        pairs.clean_tokens, fwd_hooks=[("blocks.0.attn.hook_result", hook_head), ("blocks.1.hook_mlp_out", hook_mlp)]
    )
    found = ablated_logits(model, inputs, [Writer("head", 0, 1), Writer("mlp", 1)], values)
    torch.testing.assert_close(found, expected.detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("site", "complaint"),
    [
        (Site("resid_pre", 2), r"site\.layer = 2: must be 0 \.\. 1"),
        (Site("z", 0), "belongs to a head"),
        (Site("z", 0, 2), r"site\.head = 2: must be 0 \.\. 1"),
        (Site("mlp_out", 0, 0), "belongs to no head"),
    ],
)
def test_sites_that_are_not_there_are_refused(site, complaint):
    model, pairs = random_setting(CONFIGS[0])
    clean, corrupt = traces.both_traces(model, pairs)
    where = torch.ones_like(pairs.clean_tokens, dtype=torch.bool)
    with pytest.raises(ValueError, match=complaint):
        patched_logits(model, clean, corrupt, site, where, pairs)


def test_positions_that_do_not_fit_and_resampling_without_a_source_are_refused():
    model, pairs = random_setting(CONFIGS[0])
    clean, corrupt = traces.both_traces(model, pairs)
    with pytest.raises(ValueError, match="where = "):
        patched_logits(model, clean, corrupt, Site("resid_pre", 0), torch.ones(5, 3, dtype=torch.bool), pairs)
    inputs = embeddings(model, pairs.clean_tokens, pairs.clean_position_ids)
    with pytest.raises(ValueError, match="generator = None"):
        baseline_outputs(model, inputs, "resample")


def test_the_sweep_over_spans_is_patching_where_they_lie():
    model, pairs = random_setting(CONFIGS[1])
    positions = [Span("inputs"), Span("end"), Span("state", 2), Span("input", 1), 3]
    found = patching.sweep(model, pairs, "z", cross_entropy, positions=positions)
    assert found.shape == (3, 2, 5)
    end = torch.zeros_like(pairs.read)
    end[torch.arange(len(end)), pairs.lengths + 1] = True
    second = torch.zeros_like(pairs.read)
    for row, length in enumerate(pairs.lengths.tolist()):
        if length >= 2:
            second[row, length + 3] = True
    for place, where in ((1, end), (2, second)):
        slow = by_hooks(CONFIGS[1], pairs, Site("z", 1, 1), where)
        torch.testing.assert_close(found[1, 1, place], cross_entropy(slow, slow, pairs), atol=1e-5, rtol=1e-5)
    by_position = patching.sweep(model, pairs, "z", cross_entropy)
    torch.testing.assert_close(found[:, :, 3:], by_position[:, :, [1, 3]])


@pytest.mark.parametrize(
    ("positions", "complaint"),
    [([40], r"position = 40: must be 0 \.\. "), ([Span("state", 9)], "span = s9"), ([Span("state")], "needs a number")],
)
def test_positions_out_of_range_are_refused(positions, complaint):
    model, pairs = random_setting(CONFIGS[0])
    with pytest.raises(ValueError, match=complaint):
        patching.sweep(model, pairs, "z", cross_entropy, positions=positions)


def test_positions_that_the_model_does_not_have_are_refused():
    pairs = pairs_of(DATA, UNSHIFTED)
    far = replace(pairs, clean_position_ids=pairs.clean_position_ids + 16)
    with pytest.raises(ValueError, match=r"pairs\.position_ids = "):
        traces.both_traces(random_model(CONFIGS[0], DATA), far)


def test_baselines_by_hand():
    model, pairs = random_model(CONFIGS[0], DATA), pairs_of(DATA, UNSHIFTED, 9)
    inputs = embeddings(model, pairs.clean_tokens, pairs.clean_position_ids)
    outputs, _ = run_graph(model, inputs)
    writer, read = Writer("mlp", 0), pairs.read
    own = outputs[writer]
    assert not read.all()

    def of(baseline):
        return baseline_outputs(model, inputs, baseline, torch.Generator().manual_seed(5), read)

    for baseline in get_args(ablation.Baseline):
        torch.testing.assert_close(of(baseline)[writer][~read], own[~read])  # padding stays
    assert (of("zero")[writer][read] == 0).all()
    torch.testing.assert_close(of("mean_over_positions")[writer][read][7], own[read].mean(0))
    for position in (2, read.shape[1] - 1):
        counted = read[:, position]
        torch.testing.assert_close(of("mean")[writer][counted][0, position], own[counted, position].mean(0))
        drawn = of("resample")[writer][counted, position]
        matches = (drawn[:, None] == own[counted, position]).all(-1)
        assert (matches.sum(1) >= 1).all()  # each is some string's at this position
        if counted.sum() > 1:
            assert not matches.diagonal().all()
    anywhere = of("resample_over_positions")
    place = (anywhere[writer][0, 1] == own).all(-1).nonzero()[0]
    torch.testing.assert_close(anywhere[Writer("head", 1, 1)][0, 1], outputs[Writer("head", 1, 1)][*place])


def test_each_string_is_resampled_from_another_and_each_is_used_once():
    model = random_model(CONFIGS[0], DATA)
    read = torch.ones(6, 6).tril().bool()  # n - p strings have the position p: from 6 down to one
    own = torch.arange(36.0).view(6, 6, 1)
    for seed in range(5):
        drawn = ablation.ablation_values(model, {TOK: own}, "resample", torch.Generator().manual_seed(seed), read)[TOK]
        for position in range(5):
            had, put = (values[position:, position, 0].tolist() for values in (own, drawn))
            assert sorted(put) == had
            assert all(one != other for one, other in zip(had, put, strict=True))
        assert drawn[5, 5].equal(own[5, 5])  # the only string that has it


def test_what_lies_behind_every_scored_row_changes_nothing():
    built = build(Parity())
    pairs = make_pairs(built.data, Switch.TOKEN, 1, torch.Generator().manual_seed(0))
    assert int(pairs.position.max()) < pairs.clean_tokens.shape[1] - 1
    for kind in ("resid_pre", "z", "k", "mlp_out"):
        found = patching.sweep(built.model, pairs, kind, METRICS["kl"])
        assert found[..., int(pairs.position.max()) + 1 :].abs().max() < 1e-6, kind


def test_zero_ablation_leaves_the_bias_that_belongs_to_no_head():
    model, pairs = random_setting(CONFIGS[1])
    inputs = embeddings(model, pairs.clean_tokens, pairs.clean_position_ids)
    hooked = to_hooked(model)
    for head in (0, 1):

        def silence(z, hook, head=head):
            z = z.clone()
            z[:, :, head] = 0
            return z

        expected = hooked.run_with_hooks(pairs.clean_tokens, fwd_hooks=[("blocks.1.attn.hook_z", silence)])
        found = ablated_logits(model, inputs, [Writer("head", 1, head)], baseline_outputs(model, inputs, "zero"))
        torch.testing.assert_close(found, expected.detach(), atol=1e-4, rtol=1e-4)
