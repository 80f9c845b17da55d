"""What signals that a string has ended, on circuits whose truth is known."""

import importlib
from dataclasses import replace

import pytest
import torch
from helpers import control, generator, random_model

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Copy, Parity, Polynomial
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.hard_cases import build_hard_case
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.interventions.end_row import EndRow, end_row
from compo_mech.model.config import ModelConfig
from compo_mech.stats.intervals import Interval, wilson

module = importlib.import_module("compo_mech.interventions.end_row")  # the package has its function under this name


def ends_of(built, n=512):
    return end_row(built.model, built.data, built.data.tasks[0], generator(), n)


@pytest.mark.parametrize("task", [Parity(), Copy(), Polynomial(modulus=5)], ids=str)
def test_the_textbook_circuit_finds_the_end_of_the_input_by_attention(task):
    found = ends_of(build(task, max_length=6))
    assert found.verdict == "attention"
    assert found.signals["attention"].mean == found.end_found.mean == found.only_end_found.mean == 1
    assert set(found.by_length.values()) == {"attention"}
    assert set(found.by_length) == set(range(2, 7))


@pytest.mark.parametrize("route", ["neighbour", "state"])
def test_the_end_may_be_brought_from_elsewhere(route):
    found = ends_of(build(Parity(), max_length=6, rungs=BuildOptions(route=route)))
    assert found.verdict == "attention"
    assert found.end_found.mean == 0  # [EoI] was moved, and what stands at its own position is not read


@pytest.mark.parametrize("name", ["table of strings", "taken back", "inert diagonal"])
def test_the_stream_tells_where_a_layer_before_the_last_decides(name):
    found = ends_of(build_hard_case(name, Parity()))
    assert found.verdict == "stream"
    assert found.signals["stream"].mean == 1
    assert found.end_found.mean == 0
    assert found.only_end_found.mean == 1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_heads": 4, "n_key_value_heads": 2},
        {"positional_embedding": "rotary"},
        {"parallel_attn_mlp": True},
        {"n_layers": 1},
        {"attn_only": True, "n_layers": 3},
    ],
    ids=str,
)
def test_rows_that_are_not_mixed_are_those_of_the_network(changes, monkeypatch):
    """Where both rows are the same, either mixed row says what the network does."""
    data = DataConfig(max_length=6)
    model = random_model(ModelConfig(d_model=16, **changes), data)
    seen = []

    def always_right(logits):
        seen.append(logits)
        return torch.full(logits.shape[:-1], data.vocabulary.end_of_states_id)

    monkeypatch.setattr(module, "likeliest", always_right)
    monkeypatch.setattr(module, "_middle", lambda length, generator: length + 1)  # the last row once more
    monkeypatch.setattr(module, "_answers", lambda states, t: torch.full_like(t, data.vocabulary.end_of_states_id))
    found = end_row(model, data, Parity(), generator(), 32)
    assert found.signals["either enough"].mean == 1
    last, _, *mixed = seen
    for logits in mixed[:2]:
        torch.testing.assert_close(logits, last)


def test_a_row_is_drawn_from_the_second_state_to_the_last():
    length = torch.tensor([2, 3, 5]).repeat(300)
    t = module._middle(length, generator())
    for own in (2, 3, 5):
        assert t[length == own].unique().tolist() == list(range(2, own + 1))


def test_most_of_the_strings_are_the_verdict():
    nothing, half = wilson(0, 100), wilson(50, 100)
    shared = {"attention": half, "stream": half, "both needed": nothing, "either enough": nothing}
    assert EndRow(shared, {}, half, half).verdict == "mixed"
    for signal in shared:
        own = dict.fromkeys(shared, nothing) | {signal: Interval(0.9, 0.8, 0.95)}
        assert EndRow(own, {}, half, half).verdict == signal


def test_of_one_length_alone_it_is_told_as_of_that_length():
    built = build(Parity(), max_length=6)
    data = built.data.model_copy(update={"min_length": 4, "max_length": 4})
    found = end_row(built.model, data, Parity(), generator(), 256)
    assert found.by_length == {4: found.verdict}


def test_nothing_is_said_where_nothing_can_be_asked():
    data = DataConfig(max_length=6)
    random = control(ModelConfig(d_model=16, n_heads=1), data)
    assert end_row(random, data, Parity(), generator()) is None
    at_once = build(Parity(), max_length=4, rungs=BuildOptions(chain_of_thought=False))
    assert ends_of(at_once) is None
    built = build(Parity(), max_length=6)
    single = built.data.model_copy(update={"min_length": 1, "max_length": 1})
    assert end_row(built.model, single, Parity(), generator()) is None
    spoilt = built.model.params | {"pos_embed.W_pos": torch.full_like(built.model.params["pos_embed.W_pos"], torch.nan)}
    with pytest.raises(ValueError, match="W_pos"):
        end_row(replace(built.model, params=spoilt), built.data, Parity(), generator())
    with pytest.raises(ValueError, match="attention_dir = bidirectional"):
        end_row(control(ModelConfig(attention_dir="bidirectional"), data), data, Parity(), generator())
