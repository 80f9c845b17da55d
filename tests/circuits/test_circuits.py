import itertools
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compo_mech.circuits.circuit import Circuit, from_json, to_json
from compo_mech.circuits.grade import grade
from compo_mech.circuits.scores import EdgeScores
from compo_mech.circuits.selection import at_least, connected, graph_order, greedy, ranked, score_order, top
from compo_mech.data.layout import Span
from compo_mech.interventions.edges import LOGITS, POS, TOK, Edge, Reader, Writer, all_edges, check_edges
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model, init_params

CONFIG = ModelConfig(d_model=8, n_heads=2)
EVERY = all_edges(CONFIG)
HEAD, MLP = Writer("head", 0, 1), Writer("mlp", 0)


def scores_of(values, edges=EVERY, hidden=()):
    flags = tuple(edge in hidden for edge in edges)
    return EdgeScores(tuple(edges), torch.tensor(values), flags, (False,) * len(edges))


def scored(by_edge):
    """Every edge of the network, at 0 unless named."""
    return scores_of([float(by_edge.get(edge, 0.0)) for edge in EVERY])


SUBSETS = st.sets(st.sampled_from(EVERY)).map(frozenset)
VALUES = st.lists(st.sampled_from([0.0, 1.0, 1.0 + 1e-9, -2.0, 3.5]), min_size=len(EVERY), max_size=len(EVERY))


def test_selection_by_hand():
    out, into, deep = Edge(MLP, LOGITS), Edge(HEAD, Reader("mlp", 0)), Edge(TOK, Reader("v", 0, 1))
    stray = Edge(POS, Reader("q", 1, 0))  # head 0 of layer 1 leads nowhere below
    scores = scored({deep: -9.0, stray: 5.0, into: 3.0, out: 1.0})
    assert score_order(scores)[:4] == [deep, stray, into, out]
    assert top(scores, 0) == frozenset()
    assert top(scores, 2) == {deep, stray}
    assert at_least(scores, 3.0) == {deep, stray, into}
    assert at_least(scores, 3.0 + 1e-3) == {deep, stray}
    assert greedy(scores, 1, CONFIG) == {out}  # the only way to the logits with a score
    assert greedy(scores, 3, CONFIG) == {out, into, deep}
    assert connected(top(scores, 4), CONFIG) == {out, into, deep}
    assert connected({deep, out}, CONFIG) == frozenset()
    for wrong in (-1, len(EVERY) + 1):
        for select in (top, lambda scores, n: greedy(scores, n, CONFIG)):
            with pytest.raises(ValueError, match=f"n_edges = {wrong}: must be 0 .. {len(EVERY)}"):
                select(scores, wrong)


def test_graph_order_is_the_order_of_the_graph():
    for config in (CONFIG, ModelConfig(d_model=8, n_heads=4, n_layers=3)):
        edges = all_edges(config)
        backwards = edges[::-1]
        assert sorted(backwards, key=graph_order) == edges
    assert sorted(all_edges(CONFIG, by_span=True), key=graph_order)[::4] == [
        edge._replace(span=Span("end")) for edge in EVERY
    ]


@given(VALUES, st.permutations(range(len(EVERY))), st.integers(0, len(EVERY)))
@settings(max_examples=15, deadline=None)
def test_ties_fall_in_the_order_of_the_graph_however_edges_come(values, order, n_edges):
    one, other = scores_of(values), scores_of([values[i] for i in order], [EVERY[i] for i in order])
    assert score_order(one) == score_order(other)
    assert greedy(one, n_edges, CONFIG) == greedy(other, n_edges, CONFIG)
    for before, after in itertools.pairwise(score_order(one)):
        a, b = (float(ranked(one)[EVERY.index(edge)]) for edge in (before, after))
        assert a > b or (a == b and EVERY.index(before) < EVERY.index(after))


@given(VALUES, st.integers(1, len(EVERY)))
@settings(max_examples=30, deadline=None)
def test_greedy_takes_the_best_edge_that_touches_what_it_has(values, n_edges):
    scores = scores_of(values)
    before, after = greedy(scores, n_edges - 1, CONFIG), greedy(scores, n_edges, CONFIG)
    (new,) = after - before
    parts = {edge.writer for edge in before}

    def touches(edge):
        reader = edge.reader
        kind = "head" if reader.kind in "qkv" else reader.kind
        return reader == LOGITS or Writer(kind, reader.layer, reader.head) in parts

    assert touches(new)
    size = dict(zip(EVERY, ranked(scores).tolist(), strict=True))
    assert size[new] == max(size[edge] for edge in EVERY if edge not in before and touches(edge))


def paths(edges, writer):
    """All paths from a writer to the logits, one by one."""
    for edge in edges:
        if edge.writer != writer:
            continue
        if edge.reader == LOGITS:
            yield [edge]
            continue
        kind = "head" if edge.reader.kind in "qkv" else edge.reader.kind
        yield from ([edge, *rest] for rest in paths(edges, Writer(kind, edge.reader.layer, edge.reader.head)))


@given(SUBSETS)
@settings(max_examples=60, deadline=None)
def test_connected_is_the_union_of_all_paths(edges):
    on_paths = {edge for start in (TOK, POS) for path in paths(edges, start) for edge in path}
    kept = connected(edges, CONFIG)
    assert kept == on_paths
    assert connected(kept, CONFIG) == kept


def test_grades_by_hand():
    edges = tuple(Edge(TOK, Reader("mlp", layer)) for layer in range(4))
    scores = scores_of([3.0, -2.0, 1.0, 0.0], edges, hidden={edges[3]})
    found = grade(scores, {edges[0], edges[2]})
    assert found.auc == pytest.approx(0.5)  # of the seen: true 3 and 1, false 2
    assert found.auc_all == pytest.approx(0.75)
    assert found.auprc == found.auprc_all == pytest.approx((1 + 2 / 3) / 2)  # precision 1/1 and 2/3 at the true ones
    assert found.coverage == 1
    assert not found.top_is_truth
    hidden = grade(scores, {edges[0], edges[3]})
    assert hidden.auprc == 1
    assert hidden.auprc_all == pytest.approx((1 + 2 / 4) / 2)  # the unseen one comes last
    assert hidden.coverage == 0.5
    assert grade(scores, {edges[0], edges[1], edges[2]}).auprc is None  # no false edge is seen
    tied = scores_of([1.0, 1.0 + 1e-8, 1.0, 0.0], edges)
    found = grade(tied, {edges[0], edges[1]})
    assert found.auc_all == pytest.approx(0.75)
    assert found.auprc_all == pytest.approx(2 / 3)  # the three come at once: 2 of 3 are true
    assert not found.top_is_truth
    with pytest.raises(ValueError, match="has no score"):
        grade(scores, {Edge(POS, LOGITS)})
    with pytest.raises(ValueError, match="some but not all"):
        grade(scores, set())


@given(SUBSETS, st.dictionaries(st.sampled_from(EVERY), st.floats(allow_nan=False, allow_infinity=False)))
@settings(max_examples=60, deadline=None)
def test_json_gives_back_the_circuit_exactly(edges, scores):
    circuit = Circuit(CONFIG, edges, scores)
    back = from_json(to_json(circuit), CONFIG)
    assert (back.edges, back.scores, back.config) == (edges, scores, CONFIG)
    assert to_json(back) == to_json(circuit)


def test_json_has_the_fields_of_the_benchmark():
    edges = {Edge(TOK, Reader("q", 1, 1)), Edge(Writer("head", 1, 1), LOGITS)}
    data = json.loads(to_json(Circuit.of(CONFIG, edges, scores_of([0.5] * len(EVERY)))))
    assert data["cfg"] == {"n_layers": 2, "n_heads": 2, "parallel_attn_mlp": False, "d_model": 8}
    assert len(data["edges"]) == len(EVERY)
    assert {name for name, edge in data["edges"].items() if edge["in_graph"]} == {"tok->a1.h1<q>", "a1.h1->logits"}
    assert data["edges"]["a0.h0->m0"] == {"in_graph": False, "score": 0.5}
    assert data["nodes"]["m0"] == {"in_graph": False}
    names = ["tok", "pos", "a0.h0", "a0.h1", "m0", "a1.h0", "a1.h1", "m1", "logits"]
    assert list(data["nodes"]) == names
    assert {name for name in names if data["nodes"][name]["in_graph"]} == {"tok", "a1.h1", "logits"}


def changed(path, value):
    """A good file with one field set, or taken out."""
    data = json.loads(to_json(Circuit.of(CONFIG, {Edge(MLP, LOGITS)}, scores_of([0.5] * len(EVERY)))))
    *way, last = path
    inner = data
    for name in way:
        inner = inner[name]
    if value is KeyError:
        del inner[last]
    else:
        inner[last] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "circuit = line 1 column 1: must be JSON"),
        ("{", "circuit = line 1 column 2: must be JSON"),
        ("[" * 100_000, "circuit = something nested too deeply"),
        ("[]", "circuit = 'list': must be an object"),
        ("{}", "circuit.cfg = None: must be an object"),
        (changed(["edges"], 3), "circuit.edges = 3: must be an object"),
        (changed(["cfg", "n_heads"], 4), "cfg.n_heads = 4: must be 2, as in this network"),
        (changed(["cfg", "d_model"], KeyError), "cfg.d_model = None: must be 8"),
        (changed(["cfg", "parallel_attn_mlp"], 0), "cfg.parallel_attn_mlp = 0: must be False"),
        (changed(["nodes", "input"], {"in_graph": True}), "node = 'input': must be one of this network's"),
        (changed(["nodes", "m1"], KeyError), "node = 'm1': must be in the file"),
        (changed(["nodes", "m0", "in_graph"], False), "node m0 = 'out of the graph': must be in it"),
        (changed(["edges", "m1->m0"], {"in_graph": True}), "edge = 'm1->m0': must be one of this network's"),
        (changed(["edges", "m0->m1"], KeyError), "edge = 'm0->m1': must be in the file"),
        (changed(["edges", "m0->m1", "in_graph"], 1), "edge m0->m1 = .*: must be an object whose in_graph"),
        (changed(["edges", "m0->m1", "score"], "high"), "score of m0->m1 = 'high': must be a finite number"),
        (changed(["edges", "m0->m1", "score"], None), "score of m0->m1 = None: must be a finite number"),
        (changed(["edges", "m0->m1", "score"], float("nan")), "score = 'NaN': must be a finite number"),
        (to_json(Circuit(CONFIG, frozenset())).replace("m0->m1", "m0->m1" * 99), "edge = .{60}: must be one of"),
    ],
)
def test_bad_json_is_refused_in_one_line(text, complaint):
    with pytest.raises(ValueError, match=complaint) as caught:
        from_json(text, CONFIG)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 160


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "2 layers × 1 heads$"),
        ({"positional_embedding": "none", "n_ctx": 8, "attn_only": True}, "2 layers × 1 heads, no pos, no MLPs$"),
        ({"n_heads": 2, "n_key_value_heads": 1}, "2 layers × 2 heads with 1 of keys and values$"),
        ({"parallel_attn_mlp": True}, "2 layers × 1 heads, attention and MLP in parallel$"),
    ],
)
def test_what_edges_are_between_is_said_where_one_is_none(options, words):
    config = ModelConfig(**({"d_model": 8, "n_heads": 1} | options))
    model = Model(init_params(config, 8, 8, torch.Generator().manual_seed(0)), config)
    with pytest.raises(ValueError, match=f"edge = tok → L2H0.q: must be one of the network's, {words}"):
        check_edges(model, [Edge(TOK, Reader("q", 2, 0))])


def test_circuits_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"edge = tok → L2H0.q: must be one of the network's"):
        Circuit(CONFIG, frozenset({Edge(TOK, Reader("q", 2, 0))}))
    with pytest.raises(ValueError, match=r"score of mlp0 → logits = nan: must be a finite number"):
        Circuit(CONFIG, frozenset(), {Edge(MLP, LOGITS): float("nan")})
    with pytest.raises(ValueError, match=r"edge = mlp0 → logits @ states: must have no span"):
        to_json(Circuit(CONFIG, frozenset({Edge(MLP, LOGITS, Span("states"))})))
