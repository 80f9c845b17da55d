import plotly.graph_objects as go
import plotly.io
import pytest
import torch

from compo_mech.circuits.circuit import Circuit
from compo_mech.data.layout import Layout, Span
from compo_mech.data.tasks import Parity
from compo_mech.ground_truth.build import build
from compo_mech.interventions.edges import LOGITS, POS, TOK, Edge, Reader, Writer
from compo_mech.model.config import ModelConfig
from compo_mech.plots.circuits import EDGE_COLOURS, circuit_graph, circuit_on_positions
from compo_mech.plots.theme import indexed

CONFIG = ModelConfig(d_model=8, n_heads=4)
STRONG, WEAK = Edge(TOK, Reader("v", 1, 2)), Edge(POS, Reader("q", 0, 3))
UNSCORED = Edge(Writer("mlp", 1), LOGITS)
CIRCUIT = Circuit(CONFIG, frozenset({STRONG, WEAK, UNSCORED}), {STRONG: -4.0, WEAK: 1.0, Edge(TOK, LOGITS): 9.0})


def lines(figure):
    return [trace for trace in figure.data if trace.mode == "lines" and trace.text is not None]


def test_a_line_an_edge_as_wide_as_its_score():
    before = plotly.io.templates.default
    figure = circuit_graph(CIRCUIT, "a title")
    assert plotly.io.templates.default == before
    told = {trace.text[0]: trace for trace in lines(figure)}
    assert set(told) == {"tok → L1H2.v: -4", "pos → L0H3.q: 1", "mlp1 → logits: no score"}
    widths = [told[text].line.width for text in ("mlp1 → logits: no score", "pos → L0H3.q: 1", "tok → L1H2.v: -4")]
    assert widths == sorted(widths)
    assert widths[0] < widths[1] < widths[2]
    assert told["tok → L1H2.v: -4"].line.color == EDGE_COLOURS["v"]
    assert told["mlp1 → logits: no score"].line.color == EDGE_COLOURS["other"]
    assert [trace.name for trace in figure.data if trace.showlegend is not False] == list(EDGE_COLOURS)


def test_parts_lie_in_order_of_computation_and_unused_ones_are_pale():
    figure = circuit_graph(CIRCUIT)
    height = {note.text: note.y for note in figure.layout.annotations}
    assert height["tok"] == height["pos"] < height["L0H0"] == height["L0H3"] < height["mlp0"]
    assert height["mlp0"] < height["L1H0"] < height["mlp1"] < height["logits"]
    pale = {note.text for note in figure.layout.annotations if note.font.color != "#202124"} - set("qkv")
    assert pale == {"L0H0", "L0H1", "L0H2", "mlp0", "L1H0", "L1H1", "L1H3"}
    places = {(note.x, note.y) for note in figure.layout.annotations}
    assert len(places) == len(figure.layout.annotations)
    assert isinstance(circuit_graph(Circuit(CONFIG, frozenset())), go.Figure)


def on_positions(circuit, length=3, effects=None):
    """The hand-built circuit on a row, with the attention that its heads have by design."""
    layout = Layout()
    n_pos, n_heads = layout.n_read(length), circuit.config.n_heads
    patterns = [torch.zeros(n_heads, n_pos, n_pos) for _ in range(2)]
    for pattern, (queries, keys) in zip(
        patterns, (layout.lookup_edges(length), layout.iteration_edges(length)), strict=True
    ):
        pattern[0, queries, keys] = 1.0
    effects = torch.rand(6, n_pos) if effects is None else effects
    return layout, circuit_on_positions(circuit, layout, length, patterns, effects)


def test_keys_and_values_go_to_the_rows_that_attend():
    built = build(Parity())
    circuit = Circuit(built.model.config, built.edges, dict.fromkeys(built.edges, 1.0))
    layout, figure = on_positions(circuit)
    labels = layout.labels(3)
    assert list(figure.layout.xaxis.ticktext) == indexed(labels)
    assert list(figure.layout.yaxis.ticktext) == ["embed", "attn_out0", "mlp_out0", "attn_out1", "mlp_out1", "logits"]
    across = {
        (labels[round(trace.x[0])], labels[round(trace.x[-1])])
        for trace in lines(figure)
        if round(trace.y[0]) == 0 and round(trace.y[-1]) == 3
    }
    assert across == {("x1", "EoI"), ("x2", "s1"), ("x3", "s2")}  # the diagonal, and nothing else
    lookups = {labels[round(trace.x[0])] for trace in lines(figure) if round(trace.y[-1]) == 1}
    assert lookups == {"EoI"}
    upright = [trace for trace in lines(figure) if round(trace.y[-1]) in (2, 4, 5)]
    assert upright
    assert all(round(trace.x[0]) == round(trace.x[-1]) for trace in upright)


def test_only_what_leads_to_a_scored_row_is_drawn():
    edges = {Edge(TOK, Reader("mlp", 1)), Edge(Writer("mlp", 1), LOGITS), Edge(TOK, Reader("mlp", 0))}
    layout, figure = on_positions(Circuit(CONFIG, frozenset(edges)))
    columns = {round(trace.x[0]) for trace in lines(figure)}
    assert columns == set(layout.scored(3))
    assert {text for trace in lines(figure) for text in trace.text[0].split("<br>")} == {
        "tok → mlp1: 0", "mlp1 → logits: 0",
    }  # fmt: skip
    at_states = Circuit(CONFIG, frozenset(edge._replace(span=Span("states")) for edge in edges))
    _, figure = on_positions(at_states)
    assert {round(trace.x[0]) for trace in lines(figure)} == set(layout.states(3))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"effects = \(5, 8\): must be 6 stages × 8 tokens"):
        on_positions(CIRCUIT, effects=torch.rand(5, 8))
    with pytest.raises(ValueError, match=r"patterns = 1 × \(4, 8, 8\): must be 2 layers × 4 heads"):
        circuit_on_positions(CIRCUIT, Layout(), 3, [torch.rand(4, 8, 8)], torch.rand(6, 8))
