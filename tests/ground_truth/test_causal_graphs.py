"""Causal graphs of given circuits, and interchanges of edges in networks that have them."""

import pytest
import torch
from helpers import control, generator, random_model
from slow_twin import run_plainly

from compo_mech.data.config import DataConfig
from compo_mech.data.encode import encode
from compo_mech.data.splits import all_strings
from compo_mech.data.tasks import Automaton, Copy, Counter, Parity, Polynomial
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.causal_graph import UNDEFINED, CausalGraph, Node, fetched
from compo_mech.ground_truth.given_circuits import CIRCUITS, neighbour, textbook
from compo_mech.ground_truth.interchange import draw_chosen, interchange_loss, interchanged
from compo_mech.ground_truth.trained_in import CIRCUITS_OF
from compo_mech.ground_truth.verification import SWITCHES
from compo_mech.interventions.edges import LOGITS, TOK, Edge, Reader, Writer, all_edges
from compo_mech.interventions.pairs import make_pairs
from compo_mech.model.config import ModelConfig

AUTOMATON = Automaton(transitions=((1, 0), (2, 0), (2, 1)))
PLACES = [(task, name) for task, names in CIRCUITS_OF for name in names]


@pytest.mark.parametrize(("task", "name"), PLACES, ids=[f"{task.name} {name}" for task, name in PLACES])
def test_every_graph_solves_its_task(task, name):
    data = DataConfig(tasks=(task,), max_length=4)
    graph = CIRCUITS[name](data)
    for length in data.lengths:
        strings = encode(data, task, all_strings(task, length))
        scored = list(data.layout.scored(length))
        answers = graph.run(strings.read, strings.position_ids)["logits"][:, scored]
        assert torch.equal(answers, strings.tokens[:, [row + 1 for row in scored]]), length


def test_variables_of_one_row_worked_by_hand():
    data = DataConfig(tasks=(Parity(),), max_length=3)
    tokens = torch.tensor([[5, 1, 0, 1, 2, 1, 1, 0]])  # [parity] 1 0 1 [EoI] 1 1 0
    found = textbook(data).run(tokens, torch.arange(8)[None])
    assert found["end"][0, 3:].tolist() == [-2, 4, 4, 4, 4]  # nothing before [EoI]
    assert found["pointer"][0, 4:].tolist() == [1, 2, 3, 4]
    assert found["value"][0, 4:].tolist() == [1, 0, 1, 2]
    assert found["answer"][0, 4:].tolist() == [1, 1, 0, 3]
    shifted = textbook(data).run(tokens, torch.arange(2, 10)[None])
    assert shifted["end"][0, 4] == 6
    assert shifted["pointer"][0, 4:].tolist() == [1, 2, 3, 4]
    assert shifted["value"][0, 4:].tolist() == [UNDEFINED, 5, 1, 0]  # t = 2 is now the id of the task's token
    assert shifted["logits"][0, 4:].tolist() == [UNDEFINED, UNDEFINED, 0, 0]  # of states 1 and 0


def test_an_interchange_of_one_edge_worked_by_hand():
    """t is read from another input, in the second row alone: x_2 is fetched instead of x_1."""
    data = DataConfig(tasks=(Copy(),), max_length=2)
    graph = textbook(data)
    tokens, positions = torch.tensor([[5, 1, 0, 2]] * 2), torch.arange(4).expand(2, -1)
    other = graph.run(torch.tensor([[5, 1, 2, 1]] * 2), positions)
    edge = Edge(Writer("mlp", 0), Reader("q", 1, 0))
    found = graph.run(tokens, positions, other, {edge: torch.tensor([False, True])})
    assert found["logits"][:, 3].tolist() == [1, 0]
    assert found["pointer"][:, 3].tolist() == [1, 1]


def test_what_is_fetched_is_the_only_one_before():
    keys, values = torch.tensor([[7, 3, 7, 4]]), torch.tensor([[10, 11, 12, 13]])
    assert fetched(7, keys, values).tolist() == [[10, 10, -1, -1]]
    assert fetched(torch.tensor([[4, 3, -1, 4]]), keys, values).tolist() == [[-2, 11, -1, 13]]


def test_graphs_that_are_none():
    node = Node("value", Writer("head", 0, 0), (("v", "tok"),), lambda tok: tok)
    with pytest.raises(ValueError, match="answer = other: must be one of pos, tok, value"):
        CausalGraph((node,), "other")
    with pytest.raises(ValueError, match="node = value, L0H0: must be the only one of either"):
        CausalGraph((node, node), "value")
    with pytest.raises(ValueError, match="reads = end: must be one of pos, tok in pointer"):
        CausalGraph((Node("pointer", Writer("mlp", 0), (("mlp", "end"),), lambda end: end),), "pointer")


@pytest.mark.parametrize("task", [Copy(), Parity(), Counter(modulus=3), Polynomial(modulus=3), AUTOMATON], ids=str)
def test_a_hand_built_network_answers_every_interchange_as_its_own_graph(task):
    built = build(task, max_length=4)
    graph = textbook(built.data)
    assert graph.edges == built.edges
    for switch in SWITCHES:
        draws = generator()
        pairs = make_pairs(built.data, switch, 128, draws)
        found = interchanged(built.model, graph, pairs, draw_chosen(built.model, graph, 128, draws))
        assert interchange_loss(found) < 1e-3
        assert found.defined.double().mean() > 0.4


def test_not_as_another_graph():
    built = build(Parity(), max_length=4)
    for name in ("neighbour", "prefix sums"):
        graph, draws = CIRCUITS[name](built.data), generator()
        pairs = make_pairs(built.data, SWITCHES[1], 128, draws)
        found = interchanged(built.model, graph, pairs, draw_chosen(built.model, graph, 128, draws))
        assert interchange_loss(found) > 0.5, name


def test_interchanged_edges_are_those_of_the_slow_twin():
    """Of one row each, on a random network, and nothing is changed where nothing is chosen."""
    data = DataConfig(tasks=(Parity(),), max_length=3)
    config = ModelConfig(n_heads=2, d_model=16, biases=True, normalization="none", act_fn="relu")
    model, draws = random_model(config, data), generator()
    graph, edges = neighbour(data), all_edges(model.config)
    pairs = make_pairs(data, SWITCHES[0], 12, draws)
    chosen = draw_chosen(model, graph, 12, draws)
    chosen[0] = False
    found = interchanged(model, graph, pairs, chosen).logits
    carried, _ = run_plainly(model, pairs.corrupt_tokens, pairs.corrupt_position_ids)
    for row in range(12):
        swapped = frozenset(edge for edge, is_chosen in zip(edges, chosen[row].tolist(), strict=True) if is_chosen)
        own = slice(row, row + 1)
        other = {writer: out[own] for writer, out in carried.items()}
        _, logits = run_plainly(model, pairs.clean_tokens[own], pairs.clean_position_ids[own], swapped, other)
        here = pairs.row == row
        torch.testing.assert_close(found[here], logits[0, pairs.position[here]], atol=1e-5, rtol=1e-4)


def test_what_is_chosen_in_a_row():
    """A whole component, one true edge, some, or none; and of the others none, one, half or all."""
    data = DataConfig(tasks=(Parity(),), max_length=3)
    model, graph = control(ModelConfig(n_heads=2, d_model=16, biases=True), data), textbook(data)
    edges = all_edges(model.config)
    chosen = draw_chosen(model, graph, 4096, generator())
    true = torch.tensor([edge in graph.edges for edge in edges])
    n_true, n_other = chosen[:, true].sum(1), chosen[:, ~true].sum(1)
    is_clean = ~chosen.any(1)
    assert 0.04 < is_clean.double().mean() < 0.1  # a sixteenth, and few others
    assert 0.2 < (n_other == (~true).sum()).double().mean() < 0.3
    assert (n_true == 1).double().mean() > 0.2
    of_tok = torch.tensor([edge.writer == TOK for edge in edges])
    assert (chosen == of_tok).all(1).any()
    assert Edge(Writer("mlp", 1), LOGITS) in graph.edges
