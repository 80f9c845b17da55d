"""Networks into which circuits were trained, and what verifies them."""

import hashlib
import shutil
from dataclasses import fields, replace
from functools import cache
from itertools import islice
from pathlib import Path

import pytest
import torch
from helpers import control, generator

from compo_mech.circuits.exact import exact
from compo_mech.circuits.grade import grade
from compo_mech.circuits.prompts import circuit_pairs
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Parity
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.given_circuits import textbook
from compo_mech.ground_truth.interchange_training import swapped, train_in
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.ground_truth.trained_in import read_table, read_trained_in, recipes, trained_in_networks
from compo_mech.ground_truth.verification import ACCURACY, MOVES, STAYS, SWITCHES, verify
from compo_mech.interventions.edges import all_edges
from compo_mech.interventions.pairs import make_pairs
from compo_mech.model.config import ModelConfig

FOLDER = Path(__file__).parents[1] / "data" / "trained_in"
NAMES = trained_in_networks(FOLDER)
DATA = DataConfig(tasks=(Parity(),), max_length=3)
SMALL = ModelConfig(n_heads=2, d_model=8, biases=True)


def verified(model):
    return verify(model, textbook(DATA), DATA, n_pairs=16)


@cache
def verified_build(**rungs):
    return verified(build(Parity(), max_length=3, rungs=BuildOptions(**rungs)).model)


def test_a_hand_built_network_is_accepted():
    found = verified_build()
    assert found.problems == ()
    assert found.accuracy == found.outside_accuracy == 1.0
    assert set(found.follows.values()) == set(found.keeps.values()) == {1.0}
    assert found.outside_change == max(found.other_changes.values()) == 0.0
    assert min(found.true_changes.values()) > 0.99


def test_a_random_network_is_refused():
    problems = " ".join(verified(control(SMALL, DATA)).problems)
    for name in ("accuracy = ", "follows.value = ", "mlp1 → logits = moves "):
        assert name in problems


def test_what_no_pair_shows_is_refused():
    found = verified_build()
    nan, edge = float("nan"), next(iter(found.true_changes))
    for unknown in (
        {"follows": {"end": nan}}, {"keeps": {"end": nan}}, {"outside_change": nan}, {"accuracy": nan},
        {"true_changes": {edge: nan}}, {"other_changes": {edge: nan}},
    ):  # fmt: skip
        (problem,) = replace(found, **unknown).problems
        assert "nan: must be at " in problem


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("lookup", "keeps.end"),
        ("subtraction", "keeps.pointer"),
        ("iteration", "keeps.value"),
        ("update", "keeps.answer"),
    ],
)
def test_decoys_are_refused(broken, told):
    found = verified_build(broken=broken)
    assert f"{told} = " in " ".join(found.problems)
    assert found.accuracy < ACCURACY


@pytest.mark.parametrize("route", ["neighbour", "state"])
def test_another_circuit_is_refused_though_it_is_always_right(route):
    found = verified_build(route=route)
    assert found.accuracy == 1.0
    assert any("must be at least" in problem and "moves" in problem for problem in found.problems)


def test_pairs_that_are_swapped_twice_are_as_they_were():
    pairs = make_pairs(DATA, SWITCHES[0], 8, generator())
    again = swapped(swapped(pairs))
    assert torch.equal(swapped(pairs).clean_tokens, pairs.corrupt_tokens)
    for field in fields(pairs):
        own, other = getattr(pairs, field.name), getattr(again, field.name)
        assert torch.equal(own, other) if isinstance(own, torch.Tensor) else own == other


def test_training_is_the_same_again_and_gets_better():
    def losses(seed):
        rounds = train_in(textbook(DATA), DATA, SMALL, n_steps=4, seed=seed)
        return [loss for _, loss in islice(rounds, 3)]

    first = losses(0)
    assert first == losses(0) != losses(1)
    assert first[-1] < first[0]


def test_the_table_has_what_was_trained():
    """Every network that is accepted and no other has weights, and the edges of its graph."""
    rows = {row["name"]: row for row in read_table(FOLDER)}
    assert set(rows) <= {recipe.name for recipe in recipes()}
    assert {file.stem for file in FOLDER.glob("*.safetensors")} == set(NAMES)
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 4_000_000
    for name in NAMES:
        network, row = read_trained_in(FOLDER, name), rows[name]
        assert sorted(map(str, network.edges)) == row["edges"]
        assert hashlib.sha256((FOLDER / f"{name}.safetensors").read_bytes()).hexdigest() == row["weights_sha256"]
        assert not row["problems"]
        assert row["least_true_change"] >= MOVES > STAYS >= row["greatest_other_change"]
    for name in set(rows) - set(NAMES):
        assert rows[name]["problems"], name


@pytest.mark.parametrize("name", [pytest.param(x, marks=[pytest.mark.slow] if i else []) for i, x in enumerate(NAMES)])
def test_a_trained_network_has_its_circuit(name):
    """Verified with other inputs than when it was accepted, and every true edge on top by exact patching."""
    network = read_trained_in(FOLDER, name)
    found = verify(network.model, network.recipe.graph, network.data, n_pairs=64, seed=1)
    assert found.accuracy == 1.0
    assert min(*found.follows.values(), *found.keeps.values(), found.outside_accuracy) >= 0.97
    assert found.outside_change < 0.03
    assert min(found.true_changes.values()) > max(found.other_changes.values())


def test_exact_patching_finds_what_was_trained_in():
    """Over all networks, with the pairs that dissections use."""
    areas = []
    for name in NAMES[:3]:
        network = read_trained_in(FOLDER, name)
        pairs = circuit_pairs(network.model, network.data, 16, generator(), network.recipe.task, network.shifts)
        areas.append(grade(exact(network.model, pairs, all_edges(network.model.config)), network.edges).auc_all)
    assert min(areas) > 0.97


def test_a_damaged_table_is_refused(tmp_path):
    table = tmp_path / "networks.json"
    for damaged in (b'[{"name": "copy', b"\xff\xfe\x00["):
        table.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"networks\.json = damaged: must be JSON \(.*\)$"):
            trained_in_networks(tmp_path)


def test_other_weights_are_refused(tmp_path):
    name = NAMES[0]
    for file in (FOLDER / "networks.json", FOLDER / f"{name}.safetensors"):
        shutil.copy(file, tmp_path)
    weights = tmp_path / f"{name}.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"1")
    with pytest.raises(ValueError, match=rf"{name}\.safetensors = other weights: must be those that networks\.json"):
        read_trained_in(tmp_path, name)
