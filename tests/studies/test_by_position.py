import pytest
import torch

from compo_mech.data.tasks import Counter, Parity
from compo_mech.evaluation.measure import run_set
from compo_mech.evaluation.sets import drawn_sets
from compo_mech.ground_truth.build import build
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model, init_params
from compo_mech.settings import changed
from compo_mech.studies import by_position as by_positions
from compo_mech.studies import measures
from compo_mech.studies.by_position import by_position, right_positions_of

TASK = Counter(modulus=5)
BUILT = build(TASK, max_length=6)


def without(*t: int) -> Model:
    """The hand-built circuit, which cannot find these inputs: their positions have no embedding."""
    params = dict(BUILT.model.params)
    positions = params["pos_embed.W_pos"].clone()
    positions[list(t)] = 0  # x_t is at position t
    return Model(params | {"pos_embed.W_pos": positions}, BUILT.model.config)


def scores(model: Model) -> dict:
    return {(s.measure, s.position): s.value for s in right_positions_of(model, BUILT.data, TASK, 0)}


def test_a_whole_circuit_looks_at_every_input_and_is_right():
    found = scores(BUILT.model)
    assert found[measures.POSITIONS_RIGHT, ""] == found[measures.POSITIONS_LOOKED_AT, ""] == 1
    assert found[measures.SOME_POSITIONS, ""] == found[measures.POSITIONS_WRONG, ""] == 0
    assert found[measures.WEIGHT_ON_X, "states right"] > 0.99
    assert (measures.WEIGHT_ON_X, "states wrong") not in found


@pytest.mark.parametrize("lost", [(3,), (2, 5), (6,), (1, 4)])
def test_where_some_inputs_cannot_be_found_their_states_alone_are_wrong(lost):
    model = without(*lost)
    found, by_t = scores(model), by_position(model, BUILT.data, TASK)
    wrong = [t for t in range(1, 7) if by_t.right[t - 1] < 0.5]
    assert wrong == list(lost)
    assert [t for t in range(1, 7) if by_t.weight[t - 1] < 0.5] == list(lost)
    assert found[measures.SOME_POSITIONS, ""] == found[measures.ROW_ACCURACY, "looked at"] == 1
    assert found[measures.ROW_ACCURACY, "not looked at"] < 0.5
    assert found[measures.POSITIONS_WRONG, ""] == pytest.approx(len(lost) / 6)
    assert found[measures.POSITIONS_RIGHT, ""] == pytest.approx(1 - len(lost) / 6)
    assert found[measures.POSITIONS_LOOKED_AT, ""] == pytest.approx(1 - len(lost) / 6)
    for t, position in ((1, "first"), (6, "last")):
        assert (found[measures.ROW_ACCURACY, position] < 0.5) == (t in lost)
        assert (found[measures.WEIGHT_ON_X, position] < 0.5) == (t in lost)
    assert found[measures.WEIGHT_ON_X, "states wrong"] < 0.5 < found[measures.WEIGHT_ON_X, "states right"]


def test_a_random_network_is_wrong_everywhere_and_looks_at_no_input():
    config = ModelConfig(d_model=16, n_ctx=20)
    model = Model(init_params(config, len(BUILT.data.vocabulary), 20, torch.Generator().manual_seed(0)), config)
    found = scores(model)
    assert found[measures.POSITIONS_WRONG, ""] == 1
    assert found[measures.POSITIONS_RIGHT, ""] == found[measures.SOME_POSITIONS, ""] == 0
    assert found[measures.POSITIONS_LOOKED_AT, ""] == 0
    assert (measures.ROW_ACCURACY, "looked at") not in found


def test_an_input_is_looked_at_by_whichever_head_looks_there_most():
    config = ModelConfig(d_model=24, n_heads=3, n_ctx=20)
    model = Model(init_params(config, len(BUILT.data.vocabulary), 20, torch.Generator().manual_seed(1)), config)
    test = drawn_sets(BUILT.data, TASK, by_positions.N_STRINGS)[-1]
    _, patterns = run_set(model, test)
    by_hand = []
    for t in range(1, 7):  # the row of s_t is the t-th scored one, x_t is at position t
        by_hand.append(max(float(layer[:, head, t - 1, t].mean()) for layer in patterns for head in range(3)))
    assert by_position(model, BUILT.data, TASK).weight.tolist() == pytest.approx(by_hand, abs=1e-6)


def test_without_a_chain_of_thought_there_are_no_positions_to_ask_about():
    data = changed(BUILT.data, {"tasks": (Parity(),), "chain_of_thought": False})
    assert list(right_positions_of(BUILT.model, data, Parity(), 0)) == []


def test_right_and_wrong_are_told_by_nine_tenths_and_a_half(monkeypatch):
    """At 0.7 a position is neither."""
    right, weight = torch.tensor([1.0, 0.9, 0.89, 0.7, 0.5, 0.49]), torch.tensor([0.9, 0.7, 0.5, 0.49, 0.0, 0.1])
    monkeypatch.setattr(by_positions, "by_position", lambda *given: by_positions.ByPosition(right, weight))
    found = scores(BUILT.model)
    assert found[measures.POSITIONS_RIGHT, ""] == pytest.approx(2 / 6)
    assert found[measures.POSITIONS_WRONG, ""] == pytest.approx(1 / 6)
    assert found[measures.POSITIONS_LOOKED_AT, ""] == 0.5
    assert found[measures.SOME_POSITIONS, ""] == 1
    assert found[measures.ROW_ACCURACY, "looked at"] == pytest.approx((1.0 + 0.9 + 0.89) / 3)
    assert found[measures.ROW_ACCURACY, "not looked at"] == pytest.approx((0.7 + 0.5 + 0.49) / 3)
    thirds = [found[measures.ROW_ACCURACY, position] for position in by_positions.THIRDS]
    assert thirds == pytest.approx([0.895, 0.7, 0.5])  # of the four between, two, one and one
    assert found[measures.WEIGHT_ON_X, "first"] == pytest.approx(0.9)
    assert found[measures.WEIGHT_ON_X, "last"] == pytest.approx(0.1)
    assert found[measures.WEIGHT_ON_X, "states right"] == pytest.approx(0.8)
    assert found[measures.WEIGHT_ON_X, "states wrong"] == pytest.approx(0.1)
