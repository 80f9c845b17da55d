from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from helpers import SEEDS, generator

from compo_mech.analyses import state_update
from compo_mech.analyses.examine import Answer
from compo_mech.analyses.state_update import examine_update
from compo_mech.analyses.update_probe import update_verdict
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Automaton, Copy, Parity, Polynomial, Symmetric
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.hard_cases import build_hard_case
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model, init_params
from compo_mech.probing import sites
from compo_mech.probing.grid import state_grid
from compo_mech.probing.probes import linear_probe
from compo_mech.stats.intervals import Interval

TASKS = [Parity(), Polynomial(modulus=5), Symmetric(n=3)]
FLAGS = ("decodable", "separates", "holds", "followed", "needed")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Small MLPs as probes take most of the time, and no verdict rests on them; builds are judged by fewer pairs."""
    monkeypatch.setattr(sites, "mlp_probe", lambda values, split, generator: linear_probe(values, split))
    monkeypatch.setattr(state_update, "N_SWAPS", 100)


def flags(found):
    """Every property that a verdict can rest on."""
    named = {name: getattr(found, name) for name in FLAGS[:-1] if name != "separates" or "separable" in found.probes}
    return named | {"needed": found.additive.needed}


@lru_cache
def examined(task, rungs, seed=0, thorough=True):
    built = build(task, max_length=8 if thorough else 6, rungs=rungs)
    with pytest.MonkeyPatch.context() as patch:
        if not thorough:  # a verdict does with fewer rows, which are too few for subspaces of class means
            patch.setattr("compo_mech.probing.grid.N_ROWS", 256)
        return examine_update(built.model, built.data, task, seed, 1 + int(rungs.three_layers), thorough)


def held(found, variable, context="matched"):
    return found.interchanges.set_index(["variable", "context"]).loc[(variable, context)]


def untrained(data, seed):
    settings = ModelConfig()
    n_ctx = data.layout.n_tokens(data.max_length)
    return Model(init_params(settings, len(data.vocabulary), n_ctx, generator(seed)), settings)


# ------------------------------------------------------------------------------------ the grid


@pytest.mark.parametrize(
    ("task", "pairs"),
    [
        (Parity(), [(s, x) for s in range(2) for x in range(2)]),
        (Polynomial(modulus=5), [(s, x) for s in range(5) for x in range(1, 5)]),
        (Automaton(transitions=((1, 0), (1, 0), (2, 2))), [(s, x) for s in range(2) for x in range(2)]),  # 2: never
    ],
    ids=["parity", "polynomial", "a state that is not reached"],
)
def test_the_grid_has_every_pair_that_strings_have(task, pairs):
    data = DataConfig(tasks=(task,), max_length=6)
    grid = state_grid(data, task, generator())
    rows, groups = grid.rows, grid.split.groups
    assert list(zip(grid.s.tolist(), grid.x.tolist(), strict=True)) == pairs
    assert torch.equal(grid.s[groups], rows.s)
    assert torch.equal(grid.x[groups], rows.x)
    assert torch.equal(task.table[rows.s, rows.x], grid.split.labels)
    assert groups.bincount().min() >= 8
    assert (rows.t > 1).all()
    assert (grid.start.t == 1).all()
    assert len(grid.start)


# -------------------------------------------------------------------------- builds that update


@pytest.mark.parametrize("rungs", [BuildOptions(), BuildOptions(rotated=True)], ids=["pristine", "rotated"])
@pytest.mark.parametrize("task", TASKS, ids=str)
def test_builds_update(task, rungs):
    found = examined(task, rungs)
    assert found.computed
    assert found.probe("MLP output")["linear"] == 1
    assert found.probe("MLP output")["separable"] == 1
    for before in ("raw embeddings", "MLP input"):
        assert found.probe(before)["linear"] <= (0 if task != Polynomial(modulus=5) else 0.2)  # (0, x): 1, whatever x
        assert found.probe(before)["separable"] < 0.9
    for context in ("matched", "independent"):
        assert held(found, "answer", context)["iia"] == 1
        assert held(found, "x", context)["iia"] == 1
    assert held(found, "s")["iia"] == 1
    assert found.interchanges["site"].tolist() == ["attn_out1", "attn_out1", "resid_pre0", "mlp_out1", "mlp_out1"]
    assert found.additive.whole.mean == found.additive.placebo.mean == 1
    assert found.additive.additive.mean < 0.65
    assert flags(found) == dict.fromkeys(FLAGS, True)
    assert update_verdict(found).answer == Answer.YES


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_s_and_x_lie_in_subspaces_of_their_own(task):
    found = examined(task, BuildOptions(rotated=True))
    rows = found.subspaces.set_index("variable")
    n_inputs = task.n_inputs - task.first_input
    assert rows["n_dims"].to_dict() == {"s": task.n_states - 1, "x": n_inputs - 1}
    assert (rows["iia"] == 1).all()
    for control in ("random", "placebo", "permuted"):
        assert (rows[control] < 0.7).all()
    assert (rows["share"].between(0.1, 0.4)).all()  # position, [EoI] and pointer take the rest
    assert found.overlap == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    "rungs",
    [
        BuildOptions(layer_norm=True, rotated=True),
        BuildOptions(sharpness=8, rotated=True),
        BuildOptions(noise=0.01, rotated=True),
        BuildOptions(distractors=True, rotated=True),
        BuildOptions(three_layers=True, rotated=True),
    ],
    ids=["LayerNorm", "soft", "noise", "distractors", "three layers"],
)
def test_harder_builds_update_too(rungs):
    for task in TASKS[:2]:
        found = examined(task, rungs, thorough=False)
        assert found.probe("MLP output")["linear"] >= 0.99
        for variable, context in (("answer", "independent"), ("x", "independent"), ("s", "matched")):
            assert held(found, variable, context)["iia"] >= 0.99
        assert update_verdict(found).answer == Answer.YES


def test_four_neurons_make_parity():
    found = examined(Parity(), BuildOptions())
    neurons, table = found.neurons, found.activations
    assert set(neurons["fires on (s, x)"].head(4)) == {"0,0", "0,1", "1,0", "1,1"}
    assert neurons["share"].head(4).to_numpy() == pytest.approx(1 / 4)
    assert neurons["added"].head(4).to_numpy() == pytest.approx(10 / 4)  # half of it on each of two logits, ten times
    assert neurons["added"].iloc[4:].abs().max() < 1e-6
    assert neurons["share beyond s and x"].head(4).to_numpy() == pytest.approx(1 / 3)  # of 3/4: 1/4 is beyond sums
    assert list(zip(table["s"], table["x"], strict=True)) == [(s, x) for s in range(3) for x in range(2)]
    assert found.starts
    for row in neurons.head(4).to_dict("records"):
        s, x = map(int, str(row["fires on (s, x)"]).split(","))
        fires = (table["s"] == s) & (table["x"] == x)
        assert table[str(row["neuron"])].to_numpy() == pytest.approx(fires.to_numpy().astype(float), abs=1e-5)
    starting = table[table["s"] == 2].drop(columns=["s", "x"])
    assert (starting > 0.5).sum(axis=1).tolist() == [1, 1]  # [EoI] and x have neurons of their own
    assert found.curve is not None
    assert found.curve["chosen"].head(4).tolist() == pytest.approx([1, 1, 1, 0.5])  # 0, 1, 2, 4 neurons


def test_few_pairs_are_left_out_one_by_one():
    few, many = examined(Parity(), BuildOptions()), examined(Polynomial(modulus=5), BuildOptions())
    assert few.left_out is not None
    assert many.left_out is None
    rows = few.left_out
    assert rows[["s", "x", "answer"]].to_numpy().tolist() == [[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]
    assert (rows["MLP output"] == 1).all()
    assert (rows["MLP input"] == 0).all()  # the others with its s, and those with its x, have the other answer


def test_copy_has_nothing_to_compute():
    for rungs in (BuildOptions(), BuildOptions(rotated=True)):
        found = examined(Copy(), rungs, thorough=False)
        assert not found.computed
        assert not found.additive.needed
        assert found.additive.additive == found.additive.whole
        assert found.overlap is None
        assert found.guess_from_x == 1
        assert found.subspaces["variable"].tolist() == ["x"]
        assert update_verdict(found).answer == Answer.NOTHING
        assert update_verdict(found).answer != Answer.YES


def test_the_same_seed_gives_the_same_findings_and_another_others():
    built = build(Parity(), max_length=4, rungs=BuildOptions(rotated=True))
    first, again, other = (examine_update(built.model, built.data, Parity(), n, thorough=False) for n in (0, 0, 1))
    for name in ("probes", "interchanges", "subspaces", "neurons", "activations"):
        assert getattr(first, name).equals(getattr(again, name))
    assert not first.interchanges.equals(other.interchanges)


# ---------------------------------------------------------------------------- and that do not


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("task", [*TASKS, Copy()], ids=str)
def test_builds_with_a_broken_update_get_a_no(task, seed):
    found = examined(task, BuildOptions(broken="update", rotated=True, seed=seed), seed, thorough=False)
    assert found.probe("MLP output")["linear"] == 1  # another state, but as good a label
    assert not found.holds
    assert not found.followed
    assert not found.additive.needed
    if task != Copy():
        assert str(update_verdict(found)).startswith("no; answers do not follow its output")


def test_without_x_there_is_no_update():
    for broken, task in (("subtraction", TASKS[0]), ("lookup", TASKS[0]), ("iteration", TASKS[1])):
        found = examined(task, BuildOptions(broken=broken, rotated=True), thorough=False)
        assert not found.decodable
        assert not found.holds
        assert update_verdict(found).answer == Answer.NO


@pytest.mark.parametrize("name", ["prefix counts", "prefix sums"])
def test_an_mlp_that_makes_s_t_of_the_prefix_does_not_update_the_state(name):
    built = build_hard_case(name, Parity(), max_length=6)
    found = examine_update(built.model, built.data, Parity(), 0, thorough=False)
    assert found.holds  # its output is s_t
    assert found.unread == ["s", "x"]
    assert update_verdict(found).answer == Answer.NO


def test_what_is_missing_is_said():
    found = examined(Parity(), BuildOptions())
    most = found.interchanges.copy()
    most.loc[most["variable"] == "answer", ["iia", "low"]] = 0.85, 0.8
    assert update_verdict(replace(found, interchanges=most)).answer == Answer.IN_PART
    most.loc[most["variable"] == "answer", "low"] = 0.74
    assert str(update_verdict(replace(found, interchanges=most))) == "no; answers do not follow its output"
    for control in ("placebo", "permuted"):
        passing = found.interchanges.copy()
        passing[control] = 0.95
        assert not replace(found, interchanges=passing).holds
        assert not replace(found, interchanges=passing).followed
    cut = found.additive._replace(additive=Interval(0.95, 0.94, 0.96))
    assert str(update_verdict(replace(found, additive=cut))).startswith("no; answers do not need")
    for variable, name in (("s", "s_{t-1}"), ("x", "x_t")):
        for low, reads in ((0.7501, True), (0.75, False)):
            half = found.reads.copy()
            half.loc[half["variable"] == variable, ["iia", "low"]] = 0.8, low
            verdict = update_verdict(replace(found, reads=half))
            assert (verdict.answer == Answer.YES) == reads
            assert reads or str(verdict) == f"no; answers do not follow {name} alone through its output"
    unread = found.probes.copy()
    unread[["linear", "low"]] = 0.0
    assert str(update_verdict(replace(found, probes=unread))).startswith("no; s_t is not decodable")


# ----------------------------------------------------------------------------- controls


def counted(task, seeds, thorough):
    """How many controls have each property, and means over networks of what is decoded of permuted labels."""
    data = DataConfig(tasks=(task,))
    found = [examine_update(untrained(data, seed), data, task, seed, 1, thorough) for seed in seeds]
    assert all(str(update_verdict(one)).startswith("no") for one in found)
    permuted = sum(one.probes.set_index("site")[["by_chance", "permuted"]].astype(float) for one in found) / len(found)
    return {name: sum(flags(one)[name] for one in found) for name in flags(found[0])}, permuted


@pytest.mark.parametrize("task", [Parity(), Polynomial()], ids=str)
def test_a_control_has_none_of_it(task):
    named, _ = counted(task, range(1), thorough=False)
    assert not any(named.values())


@pytest.mark.slow
@pytest.mark.parametrize(("task", "n"), [(Parity(), 20), (Polynomial(), 10)], ids=str)
def test_many_controls_hardly_ever_have_any_of_it(task, n):
    named, permuted = counted(task, range(n), thorough=True)
    assert set(named) == set(FLAGS)
    assert max(named.values()) <= 0.1 * n, named
    if task == Parity():  # 4 of the 6 ways to deal two 0 and two 1 to 4 pairs are s, x or their opposites
        assert permuted["permuted"]["raw embeddings"] == pytest.approx(4 / 6, abs=0.05)
    assert (permuted["by_chance"] >= 0.9).all(), permuted


# ------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("data", "settings", "asked", "message"),
    [
        ({}, {"n_layers": 1}, None, "n_layers = 1: must be at least 2"),
        ({"chain_of_thought": False}, {}, None, "chain_of_thought = False"),
        ({"max_length": 1}, {}, None, "max_length = 1: must be at least 2"),
        ({"length_weights": (1.0, 0, 0, 0, 0, 0)}, {}, None, "max_length = 1: must be at least 2"),
        ({}, {}, Copy(), "task = copy: must be one of parity"),
        ({"tasks": (Automaton(transitions=((1,), (0,))),)}, {}, None, "task = automaton.* whose states depend"),
        ({"tasks": (Automaton(transitions=((1, 1), (0, 0))),)}, {}, None, "task = automaton.* whose states depend"),
        ({"tasks": (Automaton(transitions=((0, 1, 1), (1, 1, 1)), start=1),)}, {}, None, "pairs .* = 3: must be"),
    ],
)
def test_what_cannot_be_asked_gets_one_line(data, settings, asked, message):
    data, config = DataConfig(**{"max_length": 6, **data}), ModelConfig(d_model=16, **settings)
    params = init_params(config, len(data.vocabulary), data.layout.n_tokens(data.max_length), generator())
    model, task = Model(params, config), asked or data.tasks[0]
    with pytest.raises(ValueError, match=f"^{message}") as error:
        examine_update(model, data, task, 0)
    assert "\n" not in str(error.value)
