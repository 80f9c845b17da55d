"""What answers depend on, of answers whose dependence is known."""

import pytest
import torch
from helpers import random_model

from compo_mech.data.config import DataConfig
from compo_mech.data.splits import all_strings
from compo_mech.data.tasks import Copy, Parity, Polynomial
from compo_mech.evaluation.explained import between, explained, explained_answers
from compo_mech.ground_truth.build import build
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model

LENGTH = 6


def one_hot(states, task):
    return torch.nn.functional.one_hot(states, task.n_states).double()


@pytest.mark.parametrize("task", [Parity(), Copy(), Polynomial(modulus=3)], ids=str)
def test_right_answers_depend_on_the_next_input_alone(task):
    strings = all_strings(task, LENGTH)
    found = explained_answers(one_hot(task.states(strings), task), task)
    assert found.by_next == pytest.approx(1, abs=0.01)
    assert found.by_counts == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("task", [Parity(), Copy()], ids=str)
def test_answers_by_counts_depend_on_counts(task):
    strings = all_strings(task, LENGTH)
    ones = strings.double().mean(1)[:, None].expand(len(strings), LENGTH)
    found = explained_answers(torch.stack([1 - ones, ones], -1), task)
    # the fraction of ones has 1/L of a bit's variance, of which x_t explains 1/L, and so may the state before
    assert found.by_next == pytest.approx(1 / LENGTH**2, abs=0.02)
    assert found.by_counts == pytest.approx(1 / LENGTH - 1.5 / LENGTH**2, abs=0.02)


def test_what_depends_on_neither_is_not_explained_however_large_it_is():
    task, generator = Parity(), torch.Generator().manual_seed(0)
    strings = all_strings(task, 8)
    answers = torch.rand(40, len(strings), 8, 1, generator=generator).round().double()
    found = [explained_answers(torch.cat([1 - one, one], -1), task) for one in answers]
    for name in ("by_next", "by_counts"):
        values = torch.tensor([getattr(one, name) for one in found])
        assert abs(float(values.mean())) < 4 * float(values.std()) / len(values) ** 0.5 + 1e-3, name
    same = explained_answers(torch.full((len(strings), 8, 2), 0.5).double(), task)
    assert same == (0, 0)


def test_a_network_is_run_on_every_string_and_a_random_one_shows_nothing():
    built = build(Parity(), max_length=4)
    assert explained(built.model, built.data, Parity(), 4).by_next == pytest.approx(1, abs=0.01)
    data = DataConfig(max_length=4)
    found = explained(random_model(ModelConfig(), data), data, Parity(), 4)
    assert abs(found.by_next) < 0.02
    assert abs(found.by_counts) < 0.02


def test_what_cannot_be_asked_is_refused():
    built = build(Parity(), max_length=4)
    with pytest.raises(ValueError, match="chain_of_thought = False: must be True"):
        explained(built.model, DataConfig(max_length=4, chain_of_thought=False), Parity(), 4)
    with pytest.raises(ValueError, match="length = 15: has 32768 strings of parity, must have at most 16384"):
        explained(built.model, built.data, Parity(), 15)
    broken = Model(
        built.model.params | {"unembed.W_U": built.model.params["unembed.W_U"] * torch.nan}, built.model.config
    )
    with pytest.raises(ValueError, match="logits"):
        explained(broken, built.data, Parity(), 4)


def test_cells_of_one_value_each_explain_nothing_that_could_be_told():
    with pytest.raises(ValueError, match="must be fewer than values, which are 3"):
        between(torch.eye(3).double(), torch.arange(3))
    halves = torch.tensor([[0.0], [2.0], [1.0], [3.0]]).double()
    # means 1 and 2 about 1.5: 4 x 0.25 among, 4 within of 2 degrees of freedom: (1 - 2) / 4
    assert between(halves, torch.tensor([0, 0, 1, 1])) == pytest.approx(-0.25)
