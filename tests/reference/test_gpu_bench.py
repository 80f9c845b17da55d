"""The bench of a device, at small size on the CPU: its checks hold, and its seeds are those that are trained alone."""

import math

import pandas as pd
import pytest
import torch

from compo_mech.circuits.scorers import SCORERS
from compo_mech.evaluation.measure import measure
from compo_mech.evaluation.sets import eval_sets
from compo_mech.launch.machine import repeating
from compo_mech.launch.run import new_state
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model
from compo_mech.reference import gpu_bench as bench
from compo_mech.reference.gpu_bench import gpu_bench, step_operations
from compo_mech.reference.gpu_checks import DECIDED_BY_THRESHOLDS, Check, _most, checks
from compo_mech.runs import recipes
from compo_mech.training import loop

N_STEPS = 12


@pytest.fixture
def small(monkeypatch):
    """The recipe for short strings, and few steps timed."""
    recipe = recipes.parity()
    data = recipe.data.model_copy(update={"max_length": 5})
    small = recipe.model_copy(update={"data": data, "model": ModelConfig(d_model=16), "n_test_strings": 16})
    monkeypatch.setattr(recipes, "parity", lambda: small)
    for name in ("N_WARM", "N_TIMED", "N_BLOCKS"):
        monkeypatch.setattr(bench, name, 1)
    return small.model_copy(update={"train": small.train.model_copy(update={"n_steps": N_STEPS})})


def test_what_is_trained_at_once_is_what_is_trained_alone(tmp_path, capsys, small):
    out = tmp_path / "seeds.csv"
    gpu_bench(sizes=(2,), n_seeds=3, n_at_once=2, n_steps=N_STEPS, device="cpu", out=out)
    shown = capsys.readouterr().out
    assert "False" not in shown.split()
    assert shown.split().count("True") == 6 + len(SCORERS.keys() - DECIDED_BY_THRESHOLDS)
    assert max(map(len, shown.splitlines()[:-1])) <= 80  # the last says where the table is
    table = pd.read_csv(out)
    assert table["seed"].tolist() == [0, 1, 2]
    config = small.model_copy(update={"seed": 2})
    state = new_state(config, "cpu")
    for _ in loop.train(state, loop.TrainingStream(config.data, 2), config.model, config.optim, config.train):
        pass
    sets = eval_sets(config.data, config.n_test_strings)
    rows = measure(Model({n: p.detach() for n, p in state.params.items()}, config.model), config.data, sets)
    alone = {row.metric: row.value for row in rows if row.split == "mean" and row.layer == 1 and row.head is not None}
    assert table["L1H0 iteration"][2] == pytest.approx(alone["iteration"], rel=1e-3)
    right = [row.value for row in rows if row.metric == "generated_accuracy"]
    assert table["accuracy"][2] == pytest.approx(sum(right) / len(right), abs=1e-3)


def test_a_step_takes_at_least_three_forward_passes():
    """Each weight of a linear map is used once a token forward and twice backward."""
    config = recipes.parity()
    stream = loop.TrainingStream(config.data, 0)
    d, n_tokens = config.model.d_model, len(stream.batch(2, torch.Generator()).packing.row)
    one_layer_in_full = 2 * n_tokens * (4 * d * d + 8 * d * d)
    assert 3 * one_layer_in_full < step_operations(config) < 12 * one_layer_in_full


def test_a_difference_that_is_no_number_is_no_agreement():
    assert not Check("losses", float("nan"), 1.0).holds
    assert Check("losses", 1.0, 1.0).holds


def test_a_number_that_is_none_is_not_left_out_of_a_comparison():
    one = {"a": torch.zeros(2), "b": torch.tensor([0.0, torch.nan])}
    assert math.isnan(_most(one, one))
    assert math.isnan(_most(dict(reversed(one.items())), one))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_does_what_the_cpu_does():
    found = list(checks(recipes.parity(), "cuda"))
    assert [check for check in found if not check.holds] == []


def test_a_gpu_adds_up_in_a_fixed_order_while_a_run_is_trained():
    assert not torch.are_deterministic_algorithms_enabled()
    with repeating("cuda:0"):
        assert torch.are_deterministic_algorithms_enabled()
    with repeating("cpu"):
        assert not torch.are_deterministic_algorithms_enabled()
