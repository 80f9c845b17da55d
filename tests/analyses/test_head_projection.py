"""Which head is which, by what it writes: the law of the measure, and circuits whose truth is known."""

import numpy as np
import pytest
import torch
from helpers import control, generator, random_model

from compo_mech.analyses.head_projection import Assignment, Projections, explained, head_projections
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Parity, Polynomial
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.model.config import ModelConfig
from compo_mech.studies import measures
from compo_mech.studies.assignment import head_assignment_scores


def test_explained_is_epsilon_squared_of_one_way_analysis_of_variance():
    draws = np.random.default_rng(0)
    labels = draws.integers(0, 4, 60)
    values = draws.normal(size=60) + 0.7 * labels
    total = ((values - values.mean()) ** 2).sum()
    within = sum(((values[labels == k] - values[labels == k].mean()) ** 2).sum() for k in range(4))
    f = ((total - within) / 3) / (within / 56)
    epsilon = 3 * (f - 1) / (3 * f + 56)
    found = explained(torch.tensor(values)[:, None], torch.tensor(labels))
    assert found == pytest.approx(epsilon)
    turned = torch.linalg.qr(torch.randn(5, 5, generator=generator(0), dtype=torch.float64))[0]
    padded = torch.cat([torch.tensor(values)[:, None], torch.zeros(60, 4, dtype=torch.float64)], 1)
    assert explained(3 * padded @ turned + 7, torch.tensor(labels)) == pytest.approx(epsilon)  # whatever the basis


def test_labels_that_say_nothing_explain_nothing_in_the_mean():
    draws = generator(1)
    found = [
        explained(torch.randn(40, 6, generator=draws), torch.randint(8, (40,), generator=draws)) for _ in range(200)
    ]
    assert abs(sum(found) / 200) < 0.01
    assert explained(torch.ones(9, 3), torch.arange(9) % 2) == 0


@pytest.mark.parametrize("task", [Parity(), Polynomial(modulus=5)], ids=str)
@pytest.mark.parametrize(
    "rungs", [BuildOptions(), BuildOptions(rotated=True, distractors=True), BuildOptions(layer_norm=True)], ids=str
)
def test_heads_of_hand_built_circuits_are_assigned(task, rungs):
    built = build(task, max_length=6, rungs=rungs)
    found = head_projections(built.model, built.data, generator(0))
    names = {role: name for name, role in built.roles.items()}
    assert found.assignment() == Assignment((0, 0), (1, 0)), names
    assert found.x[1, 0] > 0.95
    assert found.end[0, 0] > 0.95
    assert max(float(found.permuted_x.abs().max()), float(found.permuted_end.abs().max())) < 0.05
    scores = {score.measure: score.value for score in head_assignment_scores(built.model, built.data, task, 0)}
    assert scores[measures.ASSIGNED_CARRIES_X] == scores[measures.ASSIGNED_CARRIES_EOI] == 1
    assert scores[measures.X_CARRIED_BY_ASSIGNED] == scores[measures.X_CARRIED]


def test_of_two_heads_that_share_each_has_a_part_of_it():
    built = build(Parity(), max_length=6, rungs=BuildOptions(split=True))
    found = head_projections(built.model, built.data, generator(0))
    assert ((found.x[1] > 0.1) & (found.x[1] < 0.5)).all()
    assert found.x[0].max() < 0.02
    scores = {score.measure: score.value for score in head_assignment_scores(built.model, built.data, Parity(), 0)}
    assert scores[measures.X_PROJECTED_ELSEWHERE] == pytest.approx(float(found.x[1].min()), abs=0.02)


def test_a_later_layer_is_assigned_to_x():
    x, end = torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([[0.3, 0.7], [0.9, 0.9]])
    assert Projections(x, end, x, end).assignment() == Assignment((0, 1), (1, 1))
    assert Projections(x[:1], end[:1], x, end).assignment() is None


def test_a_network_that_carries_nothing_names_none():
    data = DataConfig(tasks=(Parity(),), max_length=5)
    model = control(ModelConfig(d_model=32, n_heads=2), data)
    model.params["unembed.W_U"].zero_()
    scores = {score.measure: score.value for score in head_assignment_scores(model, data, Parity(), 0)}
    assert scores[measures.ASSIGNED_CARRIES_X] == scores[measures.ASSIGNED_CARRIES_EOI] == 0
    one = random_model(ModelConfig(d_model=32, n_layers=1), data)
    assert list(head_assignment_scores(one, data, Parity(), 0)) == []
