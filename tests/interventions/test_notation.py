"""Edges, sites and components as text: there and back, and what patches of them are."""

import inspect
import re

import pytest
import torch
from helpers import EVERY, pairs_of, random_model

from compo_mech.data.config import DataConfig
from compo_mech.data.layout import WHOLE_SPANS, Span
from compo_mech.interventions.edges import Edge, Reader, Writer, all_edges
from compo_mech.interventions.graph import run_both, run_patched
from compo_mech.interventions.notation import read_edge, read_patches
from compo_mech.interventions.pairs import Switch
from compo_mech.interventions.patch_by_text import patch
from compo_mech.model.config import ModelConfig
from compo_mech.model.sites import HEAD_KINDS

DATA = DataConfig(max_length=4)
MODEL = random_model(ModelConfig(d_model=16, n_layers=2, n_heads=2, biases=True), DATA)
PAIRS = pairs_of(DATA, EVERY, n_rows=6)
SPANS = (None, *WHOLE_SPANS, Span("input", 2), Span("state", 11), Span("subject"))


def test_reading_undoes_writing():
    edges = [edge._replace(span=span) for edge in all_edges(MODEL.config) for span in SPANS]
    assert [read_edge(str(edge)) for edge in edges] == edges
    assert [read_edge(str(edge).replace(" → ", "->")) for edge in edges] == edges
    text = "L1H0.pattern @ states; L0H1\nmlp1@EoI, resid_pre0, tok → logits"
    assert (
        ", ".join(map(str, read_patches(text))) == "L1H0.pattern @ states, L0H1, mlp1 @ EoI, resid_pre0, tok → logits"
    )
    assert read_patches(read_patches(text)) == read_patches(text)


BAD = {
    "L5H1": "edge = 'L5H1': must be two ends with an arrow between, such as tok, pos, L0H1 or mlp0 → ",
    "L5H1 → L8H6": "edge = 'L5H1 → L8H6': must end in L0H1.q, L0H1.k, L0H1.v, mlp0 or logits",
    "L5H1 → L8H6.z": "edge = 'L5H1 → L8H6.z': must end in ",
    "L5H1.q → logits": "edge = 'L5H1.q → logits': must begin with tok, pos, L0H1 or mlp0",
    "logits → mlp3": "edge = 'logits → mlp3': must begin with ",
    "tok → mlp0 → logits": "edge = 'tok → mlp0 → logits': must have one arrow",
    "tok → mlp0 @": "edge = 'tok → mlp0 @': must name a span behind the @",
    "": "patch = '': must be an edge, such as L5H1 → L8H6.q, a component: ",
    "LH.z": "patch = 'LH.z': must be an edge",
    "resid0": "patch = 'resid0': must be an edge",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_not_written_like_this_is_refused_in_a_line(text):
    with pytest.raises(ValueError, match=re.escape(BAD[text])) as told:
        read_edge(text)
    assert "\n" not in str(told.value)


NOT_THERE = {
    "L1H0 → L0H0.q": "edge = L1H0 → L0H0.q: must be one of the network's, 2 layers × 2 heads",
    "L7H0": "patch = L7H0: must be one of the network's, 2 layers × 2 heads",
    "L7H0.z": "site.layer = 7: must be 0 .. 1",
    "L0H0.z, tok → mlp0": "patch = L0H0.z: must stand by itself",
    "tok → mlp0 @ subject": "span.kind = 'subject': must be one of first, inputs, end, states, input, state",
    " ,; ": "patch = '': must name an edge",
}


@pytest.mark.parametrize("text", NOT_THERE)
def test_what_the_network_does_not_have_is_refused_in_a_line(text):
    with pytest.raises(ValueError, match=re.escape(NOT_THERE[text])):
        patch(MODEL, PAIRS, text)


def test_a_metric_is_one_of_those_there_are():
    with pytest.raises(ValueError, match="metric = 'loss': must be one of cross_entropy, "):
        patch(MODEL, PAIRS, "tok → mlp0", "loss")


def test_a_patch_written_as_text_is_the_patch_of_those_edges():
    edges = [Edge(Writer("tok"), Reader("v", 1, 0)), Edge(Writer("mlp", 0), Reader("mlp", 1), Span("states"))]
    found = patch(MODEL, PAIRS, "tok -> L1H0.v, mlp0 → mlp1 @ states", "cross_entropy")
    assert torch.equal(found.patched_logits, run_patched(MODEL, PAIRS, run_both(MODEL, PAIRS), edges))
    assert found.fraction == pytest.approx((found.patched - found.clean) / (found.corrupt - found.clean))


def test_everything_is_all_of_the_way_and_what_does_not_differ_none_of_it():
    whole = patch(MODEL, PAIRS, ", ".join(map(str, all_edges(MODEL.config))))
    assert whole.fraction == pytest.approx(1, abs=1e-4)
    both = patch(MODEL, PAIRS, "tok, pos")
    assert torch.allclose(both.patched_logits, whole.corrupt_logits, atol=1e-5)
    shifted = pairs_of(DATA, Switch.SHIFT, n_rows=4)
    assert patch(MODEL, shifted, "tok", "cross_entropy").fraction == 0
    no_gap = patch(MODEL, shifted, "pos")  # no answer differs
    assert no_gap.fraction is None
    assert str(no_gap).endswith("0.000 clean, 0.000 corrupt, 0.000 patched: the corrupt input moves nothing")


@pytest.mark.parametrize("kind", [kind for kind in HEAD_KINDS if kind != "pattern"])
def test_a_site_is_what_its_edges_are(kind):
    """A head's output is all edges that begin there, its queries, keys and values are all that end there."""
    edges = [edge for edge in all_edges(MODEL.config) if edge.reader == Reader(kind, 1, 1)]
    by_edges = patch(MODEL, PAIRS, edges or "L1H1").patched_logits
    assert torch.allclose(patch(MODEL, PAIRS, f"L1H1.{kind}").patched_logits, by_edges, atol=1e-5)


def test_a_span_narrows_sites_and_components():
    by_edges, by_site = (patch(MODEL, PAIRS, f"{name} @ states").patched_logits for name in ("L1H1", "L1H1.z"))
    assert torch.allclose(by_edges, by_site, atol=1e-5)
    assert not torch.allclose(by_edges, patch(MODEL, PAIRS, "L1H1").patched_logits, atol=1e-3)


def test_the_table_tells_each_answer():
    found = patch(MODEL, PAIRS, "L1H1")
    table = found.frame()
    differ = (PAIRS.foil != PAIRS.target).numpy()
    for name in ("clean", "corrupt", "patched"):
        assert table[f"foil - answer, {name}"][differ].mean() == pytest.approx(getattr(found, name), abs=1e-5)
    assert table["answer"].tolist() == [str(i) for i in PAIRS.target.tolist()]
    for prompt, row, position in zip(table["prompt"], PAIRS.row.tolist(), PAIRS.position.tolist(), strict=True):
        assert prompt.split() == [str(i) for i in PAIRS.clean_tokens[row, : position + 1].tolist()]


@pytest.mark.parametrize(
    ("what", "line"),
    [
        (None, "patch = 'None': must be a text or a list of them, such as tok, pos, L0H1 or mlp0 → "),
        (3, "patch = '3': must be a text or a list of them"),
        (["L0H1", None], "patch = 'None': must be a text, an edge, a component or a site"),
    ],
)
def test_what_is_no_text_is_no_patch(what, line):
    with pytest.raises(ValueError, match=re.escape(line)) as told:
        inspect.unwrap(read_patches)(what)
    assert "\n" not in str(told.value)
