"""Many networks measured at once: what is said of each is what it is alone."""

import math

import pytest
import torch
from helpers import generator

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Parity, Polynomial
from compo_mech.evaluation import stacked
from compo_mech.evaluation.measure import measure
from compo_mech.evaluation.sets import eval_sets
from compo_mech.evaluation.stacked import measure_each, rows_of
from compo_mech.ground_truth.build import build
from compo_mech.model.config import ModelConfig
from compo_mech.model.finite import NotFinite
from compo_mech.model.params import Model, init_params

DATA = DataConfig(max_length=6)


def random_params(config, data, n):
    return [init_params(config, len(data.vocabulary), 20, generator(seed)) for seed in range(n)]


def stack(members):
    return {name: torch.stack([params[name] for params in members]) for name in members[0]}


def assert_same_rows(found, expected):
    assert [row[:-1] for row in found] == [row[:-1] for row in expected]
    for one, other in zip(found, expected, strict=True):
        assert math.isclose(one.value, other.value, abs_tol=1e-6, rel_tol=1e-6), (one, other)


@pytest.mark.parametrize(
    ("config", "data"),
    [
        (ModelConfig(d_model=16), DATA),
        (ModelConfig(d_model=16, n_heads=2, n_layers=3, biases=True), DATA),
        (ModelConfig(d_model=16), DataConfig(max_length=5, tasks=(Parity(), Polynomial(modulus=3)))),
        (ModelConfig(d_model=16), DataConfig(max_length=4, chain_of_thought=False)),
        (ModelConfig(d_model=16, positional_embedding="rotary", normalization="RMS", gated_mlp=True), DATA),
    ],
)
def test_each_is_measured_as_it_is_alone(config, data, monkeypatch):
    monkeypatch.setattr(stacked, "N_NUMBERS", 30_000)  # several groups
    members, sets = random_params(config, data, 3), eval_sets(data, 24)
    found = measure_each(stack(members), config, data, sets)
    for i, params in enumerate(members):
        assert_same_rows(rows_of(found, i), measure(Model(params, config), data, sets))


def test_networks_that_are_right_and_wrong_are_told_apart():
    """One that never errs beside two with noise, each of which has to write another number of strings anew."""
    built = build(Parity(), max_length=5)
    config, data, sets = built.model.config, built.data, eval_sets(built.data, 16)
    members = [built.model.params, _noisy(built.model.params, 0.6, seed=2), _noisy(built.model.params, 0.5, seed=0)]
    found = measure_each(stack(members), config, data, sets)
    for i, params in enumerate(members):
        assert_same_rows(rows_of(found, i), measure(Model(params, config), data, sets))
    right = [value for what, value in found if what.metric == "generated_accuracy"]
    assert all(of_length[0] == 1 for of_length in right)
    assert min(of_length[1] for of_length in right) < 0.5
    assert any(0 < of_length[2] < 1 and of_length[1] != of_length[2] for of_length in right)


def _noisy(params, scale, seed):
    noise = generator(seed)
    return {
        name: param + scale * param.std(correction=0) * torch.randn(param.shape, generator=noise)
        for name, param in params.items()
    }


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_network_that_is_not_finite_is_refused_and_touches_no_other(value):
    config = ModelConfig(d_model=16)
    members, sets = random_params(config, DATA, 3), eval_sets(DATA, 4)
    members[1]["ln_final.w"][0] = value
    found = measure_each(stack(members), config, DATA, sets)
    with pytest.raises(NotFinite, match="logits = nan or infinite: must be finite"):
        rows_of(found, 1)
    for i in (0, 2):
        assert_same_rows(rows_of(found, i), measure(Model(members[i], config), DATA, sets))
