"""What tells that a string has ended, on circuits whose truth is known."""

import pytest
from helpers import control, generator

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Copy, Parity, Polynomial
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.hard_cases import build_hard_case
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.interventions.end_row import EndRow, end_row
from compo_mech.model.config import ModelConfig
from compo_mech.stats.intervals import Interval, wilson


def ends_of(built, n=512):
    return end_row(built.model, built.data, built.data.tasks[0], generator(), n)


@pytest.mark.parametrize("task", [Parity(), Copy(), Polynomial(modulus=5)], ids=str)
def test_the_textbook_circuit_finds_the_end_of_the_input_by_attention(task):
    found = ends_of(build(task, max_length=6))
    assert found.verdict == "attention"
    assert found.tellers["attention"].mean == found.end_found.mean == found.only_end_found.mean == 1
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
    assert found.tellers["stream"].mean == 1
    assert found.end_found.mean == 0
    assert found.only_end_found.mean == 1


def test_fractions_add_up_and_most_of_them_is_the_verdict():
    found = ends_of(build_hard_case("prefix counts", Parity()))
    assert sum(share.mean for share in found.tellers.values()) == pytest.approx(1)
    nothing, half = wilson(0, 100), wilson(50, 100)
    shared = {"attention": half, "stream": half, "both needed": nothing, "either enough": nothing}
    assert EndRow(shared, {}, half, half).verdict == "mixed"
    for teller in shared:
        own = dict.fromkeys(shared, nothing) | {teller: Interval(0.9, 0.8, 0.95)}
        assert EndRow(own, {}, half, half).verdict == teller


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
    with pytest.raises(ValueError, match="attention_dir = bidirectional"):
        end_row(control(ModelConfig(attention_dir="bidirectional"), data), data, Parity(), generator())
