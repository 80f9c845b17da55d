from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers import EVERY, pairs_of, random_model

from compo_mech.circuits.exact import exact
from compo_mech.circuits.grade import grade
from compo_mech.circuits.gradient_scorers import eap, eap_ig
from compo_mech.circuits.scores import EdgeScores
from compo_mech.data.config import DataConfig
from compo_mech.data.layout import WHOLE_SPANS, Span
from compo_mech.data.tasks import Parity, Polynomial
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.interventions.ablation import baseline_outputs
from compo_mech.interventions.edges import POS, TOK, Edge, Reader, Writer, all_edges
from compo_mech.interventions.graph import Runs, embeddings, run_both, run_graph, run_patched
from compo_mech.interventions.metrics import METRICS, cross_entropy
from compo_mech.interventions.pairs import Pairs, Switch
from compo_mech.model.config import ModelConfig
from compo_mech.model.forward import forward
from compo_mech.model.hooked import to_hooked
from compo_mech.model.params import Model

DATA = DataConfig(max_length=5)
CONFIGS = [
    ModelConfig(d_model=16, n_heads=2),
    ModelConfig(d_model=16, n_heads=2, n_layers=3, biases=True, normalization="none", act_fn="relu"),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_the_graph_is_the_network(config):
    model, pairs = random_model(config, DATA), pairs_of(DATA)
    _, logits = run_graph(model, embeddings(model, pairs.clean_tokens, pairs.clean_position_ids))
    expected = forward(model, pairs.clean_tokens)
    torch.testing.assert_close(logits.flatten(0, 1), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("config", CONFIGS)
def test_patching_nothing_is_clean_and_everything_is_corrupt(config):
    model, pairs = random_model(config, DATA, dtype=torch.float64), pairs_of(DATA)
    runs = run_both(model, pairs)
    _, corrupt = run_graph(model, embeddings(model, pairs.corrupt_tokens, pairs.corrupt_position_ids))
    nothing = run_patched(model, pairs, runs, [])
    everything = run_patched(model, pairs, runs, all_edges(config))
    by_parts = run_patched(model, pairs, runs, all_edges(config, by_span=True))
    torch.testing.assert_close(nothing, runs.logits, atol=1e-6, rtol=0)
    torch.testing.assert_close(everything, corrupt[pairs.row, pairs.position], atol=1e-6, rtol=0)
    torch.testing.assert_close(by_parts, everything, atol=1e-6, rtol=0)  # padding is never seen
    assert (runs.logits - everything).abs().max() > 0.01


def test_exact_patching_against_hooks_on_the_hooked_transformer():
    """The obvious way: TransformerLens' own inputs of each reader, one hook an edge."""
    config = CONFIGS[0]
    model, pairs = random_model(config, DATA), pairs_of(DATA, Switch.TOKEN | Switch.LENGTH)
    hooked = to_hooked(model)
    hooked.set_use_split_qkv_input(True)
    hooked.set_use_hook_mlp_in(True)
    hooked.set_use_attn_result(True)
    clean_logits, clean = hooked.run_with_cache(pairs.clean_tokens)
    _, corrupt = hooked.run_with_cache(pairs.corrupt_tokens)

    def written(cache, writer):
        match writer:
            case Writer("tok"):
                return cache["hook_embed"]
            case Writer("pos"):
                return cache["hook_pos_embed"]
            case Writer("head", layer, head):
                return cache[f"blocks.{layer}.attn.hook_result"][:, :, head]
            case Writer("mlp", layer):
                return cache[f"blocks.{layer}.hook_mlp_out"]

    def patched_logits(edge):
        change = written(corrupt, edge.writer) - written(clean, edge.writer)
        kind, layer, head = edge.reader

        def hook(value, hook):
            value = value.clone()
            if kind in "qkv":
                value[:, :, head] += change
            else:
                value += change
            return value

        name = {"mlp": f"blocks.{layer}.hook_mlp_in", "logits": f"blocks.{config.n_layers - 1}.hook_resid_post"}.get(
            kind, f"blocks.{layer}.hook_{kind}_input"
        )
        return hooked.run_with_hooks(pairs.clean_tokens, fwd_hooks=[(name, hook)])

    edges = all_edges(config)
    found = exact(model, pairs, edges, cross_entropy).scores
    scored = clean_logits[pairs.row, pairs.position]
    base = cross_entropy(scored, scored, pairs)
    for edge, score in zip(edges, found, strict=True):
        slow = cross_entropy(patched_logits(edge)[pairs.row, pairs.position], scored, pairs) - base
        torch.testing.assert_close(score, slow.detach(), atol=1e-5, rtol=1e-4, msg=lambda m, e=edge: f"{e}: {m}")


def test_attribution_is_exact_patching_to_first_order():
    """Between inputs that differ ever less, the score and the effect agree ever better."""
    model = random_model(CONFIGS[0], DATA, dtype=torch.float64)
    pairs = pairs_of(DATA, Switch.SHIFT)
    edges = all_edges(CONFIGS[0])
    near = {name: param.clone() for name, param in model.params.items()}
    mean = near["pos_embed.W_pos"].mean(0, keepdim=True)
    near["pos_embed.W_pos"] = mean + 1e-4 * (near["pos_embed.W_pos"] - mean)  # positions differ by a hair
    close = Model(near, model.config)
    slow, fast = exact(close, pairs, edges).scores, eap(close, pairs, edges).scores
    assert slow.abs().max() > 1e-7
    torch.testing.assert_close(fast, slow, atol=0.01 * slow.abs().max().item(), rtol=0.01)


def test_integrated_gradients_add_up_where_one_path_is_all_there_is():
    """Edges into the logits of a network whose blocks write nothing: their scores sum to the change."""
    model = random_model(ModelConfig(d_model=16, normalization="none"), DATA, dtype=torch.float64)
    for name, param in model.params.items():
        if name.endswith(("W_O", "W_out")):
            param.zero_()
    pairs = pairs_of(DATA)
    edges = [Edge(TOK, Reader("logits")), Edge(POS, Reader("logits"))]
    total = eap_ig(model, pairs, edges, n_steps=100).scores.sum()
    runs = run_both(model, pairs)
    both = run_patched(model, pairs, runs, edges)
    change = cross_entropy(both, runs.logits, pairs) - cross_entropy(runs.logits, runs.logits, pairs)
    torch.testing.assert_close(total, change, atol=1e-4, rtol=1e-3)


def test_the_default_counterfactual_of_the_field_misses_true_edges():
    for task in (Parity(), Polynomial()):
        built = build(task, rungs=BuildOptions(sharpness=150))
        edges = all_edges(built.model.config)
        expected = {Switch.TOKEN: 0.70, Switch.TOKEN | Switch.LENGTH: 0.85, EVERY: 1.0}
        for switch, area in expected.items():
            found = grade(exact(built.model, pairs_of(built.data, switch, 24), edges), built.edges)
            assert found.auc_all == pytest.approx(area, abs=1e-9)
            assert found.top_is_truth == (area == 1.0)
        plain = grade(eap(built.model, pairs_of(built.data, EVERY, 24), edges), built.edges)
        assert plain.auc_all < 0.9
        graded = grade(eap_ig(built.model, pairs_of(built.data, EVERY, 24), edges, n_steps=20), built.edges)
        assert graded.auc_all == 1.0
        assert graded.top_is_truth


def test_edges_that_pairs_cannot_move_are_flagged():
    built = build(Parity())
    edges = all_edges(built.model.config)
    found = exact(built.model, pairs_of(built.data, Switch.TOKEN, 32), edges)
    for edge, hidden, idle, score in zip(edges, found.unidentifiable, found.no_effect, found.scores, strict=True):
        assert not (hidden and idle)
        if edge.writer == POS:
            assert hidden
            assert score == 0
        if hidden or idle:
            assert abs(score) < 1e-6
    assert grade(found, built.edges).coverage < 1
    assert grade(exact(built.model, pairs_of(built.data, EVERY, 32), edges), built.edges).coverage == 1


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_still_where_nothing_is_patched(metric):
    built = build(Parity())
    pairs = pairs_of(built.data, EVERY, 32)
    runs, measure = run_both(built.model, pairs), METRICS[metric]
    scored = runs.logits
    same = Runs(runs.clean, runs.clean, scored)
    again = run_patched(built.model, pairs, same, all_edges(built.model.config))
    assert measure(again, scored, pairs) == pytest.approx(float(measure(scored, scored, pairs)), abs=1e-6)
    worse = run_patched(built.model, pairs, runs, built.edges)
    assert measure(worse, scored, pairs) > measure(scored, scored, pairs) + 0.1


@pytest.mark.parametrize("scorer", [eap, partial(eap_ig, n_steps=5)], ids=["eap", "eap_ig"])
def test_a_gradient_that_vanishes_is_not_called_no_effect(scorer):
    """Where attention is saturated no gradient passes, though a patch of the edge ruins the answers."""
    built = build(Parity(), max_length=5, rungs=BuildOptions(sharpness=150))
    pairs, edges = pairs_of(built.data, EVERY, 12), all_edges(built.model.config)
    patched, attributed = exact(built.model, pairs, edges), scorer(built.model, pairs, edges)
    assert not any(attributed.no_effect)
    assert patched.zero_gradient == ()
    flat = {edge for edge, zero in zip(edges, attributed.zero_gradient, strict=True) if zero}
    moved = {edge for edge, score in zip(edges, patched.scores.tolist(), strict=True) if score > 1}
    assert moved == built.edges
    assert not {edge for edge, idle in zip(edges, patched.no_effect, strict=True) if idle} & built.edges
    assert len(flat) > 20
    if scorer is eap:
        assert len(flat & built.edges) > 3


def test_grades_by_hand():
    edges = tuple(Edge(TOK, Reader("mlp", layer)) for layer in range(4))
    scores = EdgeScores(edges, torch.tensor([3.0, -2.0, 1.0, 0.0]), (False, False, False, True), (False,) * 4)
    found = grade(scores, {edges[0], edges[2]})
    assert found.auc == pytest.approx(0.5)  # of the seen: true 3 and 1, false 2
    assert found.auc_all == pytest.approx(0.75)
    assert found.coverage == 1
    assert not found.top_is_truth
    assert grade(scores, {edges[0], edges[1]}).top_is_truth
    assert grade(scores, {edges[3], edges[0]}).coverage == 0.5
    tied = EdgeScores(edges, torch.tensor([1.0, 1.0 + 1e-8, 1.0, 0.0]), (False,) * 4, (False,) * 4)
    assert grade(tied, {edges[0], edges[1]}).auc_all == pytest.approx(0.75)
    with pytest.raises(ValueError, match="has no score"):
        grade(scores, {Edge(POS, Reader("logits"))})
    with pytest.raises(ValueError, match="some but not all"):
        grade(scores, set())


def test_pairs_that_do_not_fit_are_refused():
    pairs = pairs_of(DATA)
    parts = {name: getattr(pairs, name) for name in Pairs.__dataclass_fields__}
    with pytest.raises(ValueError, match="one shape"):
        Pairs(**parts | {"corrupt_position_ids": pairs.corrupt_position_ids[:, :-1]})
    nothing = {name: parts[name][:0] for name in ("row", "position", "target", "foil")}
    with pytest.raises(ValueError, match="no scored position"):
        Pairs(**parts | nothing)


@pytest.mark.parametrize("config", CONFIGS)
def test_exact_patching_from_the_reader_on_is_patching_the_whole_network(config):
    """The slow twin: every reader of the network by hand, nothing taken from the clean run."""
    model, pairs = random_model(config, DATA, dtype=torch.float64), pairs_of(DATA)
    runs, edges = run_both(model, pairs), all_edges(config, by_span=True)
    for edge in [*all_edges(config), *edges[::3]]:

        def read(reader, outputs, edge=edge):
            parts = dict(outputs)
            if reader == edge.reader:
                where = torch.ones_like(pairs.read) if edge.span is None else pairs.where(edge.span)
                parts[edge.writer] = torch.where(where[..., None], runs.corrupt[edge.writer], outputs[edge.writer])
            return torch.stack([*parts.values()]).sum(0)

        inputs = embeddings(model, pairs.clean_tokens, pairs.clean_position_ids)
        slow = run_graph(model, inputs, read)[1][pairs.row, pairs.position]
        torch.testing.assert_close(run_patched(model, pairs, runs, [edge]), slow, atol=1e-10, rtol=0)


def test_attribution_of_an_edge_is_the_sum_over_its_spans():
    model, pairs = random_model(CONFIGS[0], DATA, dtype=torch.float64), pairs_of(DATA, EVERY, 24)
    whole = eap_ig(model, pairs, all_edges(CONFIGS[0])).scores
    parts = eap_ig(model, pairs, all_edges(CONFIGS[0], by_span=True)).scores.view(-1, len(WHOLE_SPANS))
    torch.testing.assert_close(parts.sum(1), whole, atol=1e-10, rtol=1e-8)
    assert (parts.abs().max(1).values > 1e-9).any()


def test_edges_by_span_show_where_a_hand_built_model_works():
    built = build(Parity())
    pairs = pairs_of(built.data, EVERY, 24)
    edges = all_edges(built.model.config, by_span=True)
    found = exact(built.model, pairs, edges)
    moving = {(str(e._replace(span=None)), str(e.span)) for e, s in zip(edges, found.scores, strict=True) if s > 1e-3}
    assert ("tok → L0H0.k", "EoI") in moving
    assert ("tok → L1H0.v", "inputs") in moving
    assert ("tok → L1H0.v", "states") not in moving
    assert ("mlp0 → L1H0.q", "states") in moving
    assert ("mlp0 → L1H0.q", "inputs") not in moving
    assert ("L1H0 → mlp1", "states") in moving
    assert ("L1H0 → mlp1", "inputs") not in moving


@pytest.mark.parametrize("task", [Parity(), Polynomial()], ids=str)
@pytest.mark.parametrize(
    ("baseline", "area"),
    [("zero", 1.0), ("mean", 0.85), ("mean_over_positions", 1.0), ("resample_over_positions", 1.0)],
)
def test_baselines_show_what_the_field_has_seen(task, baseline, area):
    built = build(task, rungs=BuildOptions(sharpness=150))
    pairs = pairs_of(built.data, Switch.TOKEN | Switch.LENGTH, 32)
    inputs = embeddings(built.model, pairs.clean_tokens, pairs.clean_position_ids)
    carried = baseline_outputs(built.model, inputs, baseline, torch.Generator().manual_seed(0), pairs.read)
    found = exact(built.model, pairs, all_edges(built.model.config), cross_entropy, carried)
    assert grade(found, built.edges).auc_all == pytest.approx(area, abs=1e-9)


@pytest.mark.parametrize("scorer", [exact, eap, eap_ig])
def test_what_cannot_be_scored_is_refused(scorer):
    model, pairs = random_model(CONFIGS[0], DATA), pairs_of(DATA)
    edges = all_edges(CONFIGS[0])
    far = replace(pairs, corrupt_position_ids=pairs.corrupt_position_ids + 30)
    with pytest.raises(ValueError, match=r"pairs\.position_ids = 0 \.\. 4\d: must be 0 \.\. 19"):
        scorer(model, far, edges)
    with pytest.raises(ValueError, match=r"pairs\.tokens = "):
        scorer(model, replace(pairs, clean_tokens=pairs.clean_tokens + 50), edges)
    with pytest.raises(ValueError, match=r"edge = tok → mlp7: must be one of"):
        scorer(model, pairs, [Edge(TOK, Reader("mlp", 7))])
    with pytest.raises(ValueError, match="edges = none"):
        scorer(model, pairs, [])
    with pytest.raises(ValueError, match="span = s9: must be one that some of the rows have"):
        scorer(model, pairs, [edges[0]._replace(span=Span("state", 9))])


def test_a_metric_without_a_gradient_goes_with_exact_patching_alone():
    model, pairs = random_model(CONFIGS[0], DATA), pairs_of(DATA)
    exact(model, pairs, all_edges(CONFIGS[0]), METRICS["inaccuracy"])
    with pytest.raises(ValueError, match="n_steps = 0: must be at least 1"):
        eap_ig(model, pairs, all_edges(CONFIGS[0]), n_steps=0)
    with pytest.raises(ValueError, match="goes with exact patching alone"):
        eap(model, pairs, all_edges(CONFIGS[0]), METRICS["inaccuracy"])


def test_a_model_with_an_option_unknown_to_the_analyses_is_refused():
    config = ModelConfig.model_construct(**(dict(ModelConfig()) | {"normalization": "batch"}))
    with pytest.raises(ValueError, match="normalization = 'batch': must be one of LN, LNPre, RMS, RMSPre, none"):
        Model({}, config)
