import pytest
import torch

from compo_mech.analyses.probe_trajectory import PROBE_OF_STATE, PROBE_OF_T, probe_accuracies
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Parity, Polynomial
from compo_mech.ground_truth.build import build
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model, init_params


@pytest.mark.parametrize("task", [Parity(), Polynomial(modulus=5)], ids=str)
def test_both_are_decoded_from_the_circuit_built_by_hand(task):
    built = build(task)
    found = {
        row.quantity._replace(layer=None): row.value for row in probe_accuracies(built.data, task, 1, 0, built.model)
    }
    assert found[PROBE_OF_T] >= 0.99
    if task != Parity():  # which has four pairs: with one left out, s_{t-1} in the same stream misleads a line
        assert found[PROBE_OF_STATE] == 1


def test_neither_is_decoded_from_the_control():
    data, config = DataConfig(), ModelConfig()
    params = init_params(config, len(data.vocabulary), 27, torch.Generator().manual_seed(0))
    for row in probe_accuracies(data, Parity(), 1, 0, Model(params, config)):
        assert row.value < 0.3
