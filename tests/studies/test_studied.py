import pytest
import torch
from rich.console import Console

from compo_mech.data.tasks import Parity
from compo_mech.ground_truth.build import build
from compo_mech.launch.run import launch
from compo_mech.launch.settings import Launch
from compo_mech.model.params import Model, init_params
from compo_mech.runs import recipes
from compo_mech.settings import changed
from compo_mech.studies import probe_measures


@pytest.fixture(scope="module")
def built():
    return build(Parity())


@pytest.fixture(scope="module")
def fresh(built):
    config = built.model.config
    params = init_params(config, len(built.data.vocabulary), 20, torch.Generator().manual_seed(0))
    return Model(params, config)


def test_a_hand_built_subtraction_is_found(built, fresh):
    found = probe_measures._subtraction(built.model, built.data, Parity(), seed=0)
    assert found["t told from MLP output"] == found["t told from query"] == 1
    assert found["answers follow the t of MLP output"] == found["answers follow the t of query"] == 1
    assert found["subtraction score"] == pytest.approx(1)
    assert (found["table"], found["rule"]) == (1, 0)
    other = probe_measures._subtraction(fresh, built.data, Parity(), seed=0)
    assert other["answers follow the t of query"] < 0.7
    assert other["table"] == other["rule"] == 0


def test_a_hand_built_update_is_found(built, fresh):
    found = probe_measures._update(built.model, built.data, Parity(), seed=0)
    assert found["answers follow MLP output"] == found["s told from MLP output"] == 1
    assert found["right if additive"] < 0.7
    assert found["sets of pairs they fire for"] == 4 == found["neurons that add most"]
    other = probe_measures._update(fresh, built.data, Parity(), seed=0)
    assert other["answers follow MLP output"] < 0.7


@pytest.mark.parametrize("ask", [probe_measures.positions, probe_measures.update])
def test_every_score_stands_beside_a_fresh_one_but_what_is_read_off_the_rows(ask, tmp_path):
    small = {
        "train.n_steps": 2,
        "train.snapshot_every": 2,
        "data.max_length": 5,
        "model.d_model": 16,
        "n_test_strings": 8,
    }
    config = changed(recipes.parity_alone(), small)
    settings = {name: getattr(config, name) for name in type(config).model_fields}
    run = launch(Launch(**settings, name="one", runs_dir=tmp_path), Console(quiet=True))
    scores = ask(run)
    assert {task for task, _, _ in scores} == {"parity"}
    names = {measure for _, measure, _ in scores}
    plain = {"accuracy", "accuracy at the longest", "solved", "steps to 99%", "first step at 95%", "first step at 99%"}
    assert plain <= names
    assert all(f"{name}, fresh" in names for name in names - plain if not name.endswith(", fresh"))
    assert len(scores) == len(names)
