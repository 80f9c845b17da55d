"""Stacks of runs that differ in more than their seed: which runs share one, and what comes of each."""

import itertools
import json

import pandas as pd
import pytest
from rich.console import Console
from test_stacks import Watched, contents, small

from compo_mech.data.config import Stage
from compo_mech.launch.how import How
from compo_mech.launch.run import launch
from compo_mech.launch.settings import Launch
from compo_mech.launch.stack import train_stack
from compo_mech.launch.stack_groups import stack_groups
from compo_mech.launch.sweep import sweep
from compo_mech.runs import recipes
from compo_mech.runs.stack import Stack, is_stack
from compo_mech.runs.stack_members import OWN, shared_settings
from compo_mech.runs.stacked_run import StackedRun, open_run
from compo_mech.runs.vouched import RunError
from compo_mech.settings import changed

QUIET = Console(quiet=True)
MIXED = {"data.tasks": ("parity", "copy"), "data.task_weights": (1, 1)}
OTHERS = {
    "a": {},
    "b": {"optim.lr": 1e-2, "optim.weight_decay": 0.3, "seed": 1},
    "c": {"model.init": "transformer_lens", "train.label_noise": 0.3, "seed": 1},
    "d": {"data.curriculum": (Stage(n_steps=3, max_length=2, task_weights=(1, 3)),), "data.task_weights": (3, 1)},
}


def mixed():
    return {name: small(**MIXED | own) for name, own in OTHERS.items()}


def seeds_of(lr=3e-3, n=2, **more):
    return {f"p,lr={lr},seed={s}": small(**{"optim.lr": lr, "seed": s} | more) for s in range(n)}


@pytest.mark.slow
def test_a_run_of_a_mixed_stack_is_measured_and_trained_as_alone(tmp_path):
    stack = train_stack(tmp_path / "stack", mixed(), "cpu", Watched())
    assert {name: config.seed for name, config in Stack.open(stack.path).members.items()} == {
        "a": 0,
        "b": 1,
        "c": 1,
        "d": 0,
    }
    for name, config in mixed().items():
        fields = {field: getattr(config, field) for field in type(config).model_fields}
        alone = launch(Launch(**fields, name=name, runs_dir=tmp_path / "runs"), QUIET)
        cut = open_run(stack.path / name)
        assert cut.config == config == alone.config
        pd.testing.assert_frame_equal(cut.metrics, alone.metrics, atol=2e-4, rtol=1e-3)
        written = cut.write_run(tmp_path / "cut" / name)
        for step in alone.steps:
            one, two = written.params(step), alone.params(step)
            assert all((one[key] - two[key]).abs().max() < 12 * 1e-5 for key in one if "b_K" not in key)


@pytest.mark.slow
def test_a_mixed_stack_that_was_stopped_goes_on_to_the_same_bits(tmp_path):
    whole = train_stack(tmp_path / "whole", mixed(), "cpu", Watched(), "last")
    for stop_at in (2, 6):
        with pytest.raises(KeyboardInterrupt):
            train_stack(tmp_path / "stopped", mixed(), "cpu", Watched(stop_at))
    train_stack(tmp_path / "stopped", mixed(), "cpu", Watched(), "last")
    for name in mixed():
        one, two = (open_run(tmp_path / stack / name).params() for stack in ("whole", "stopped"))
        assert all((one[key] == two[key]).all() for key in one)
    assert whole.is_done


def test_runs_that_can_share_a_stack_do_and_the_others_have_their_own(tmp_path):
    runs = {
        **seeds_of(1e-3),
        **seeds_of(3e-3),
        "wide": small(**{"model.d_model": 16}),
        "sgd": small(**{"optim.optimizer": "sgd"}),
        "longer": small(**{"train.n_steps": 24}),
        "batch": small(**{"data.batch_size": 4}),
        "copy": small(**{"data.tasks": ("copy",)}),
        "shorter": small(**{"data.length_weights": (1, 1, 1, 0)}),
    }
    groups = stack_groups(runs, 256, tmp_path)
    assert [list(group.asked.values()) for group in groups] == [
        [*seeds_of(1e-3), *seeds_of(3e-3)],
        *([n] for n in list(runs)[4:]),
    ]
    assert groups[0].folder.startswith("p-mixed-")
    assert stack_groups(runs, 256, tmp_path) == groups
    assert [len(group.members) for group in stack_groups(runs, 3, tmp_path)][:2] == [3, 1]


def test_members_of_the_same_lengths_and_of_the_same_data_stand_beside_each_other(tmp_path):
    weights = {"x": (1, 1), "y": (1, 2)}, {"s": (1, 2, 3, 4), "l": (4, 3, 2, 1)}
    runs = {
        f"{task}{lengths}{seed}": small(**MIXED | {"data.task_weights": w, "data.length_weights": by, "seed": seed})
        for seed in (0, 1)
        for (task, w), (lengths, by) in itertools.product(*(of.items() for of in weights))
    }
    (group,) = stack_groups(runs, 256, tmp_path)
    assert list(group.members) == ["xs0", "xs1", "ys0", "ys1", "xl0", "xl1", "yl0", "yl1"]


def test_stages_that_leave_lengths_as_they_are_do_not_part_members(tmp_path):
    stages = {n: (Stage(n_steps=n, task_weights=(1, 1)),) for n in (100, 200)}
    weights = {"equal": None, "rising": tuple(range(1, 13))}
    runs = {
        f"{n} {name}": changed(recipes.parity(), {"data.curriculum": stages[n], "data.length_weights": weights[name]})
        for n, name in itertools.product(stages, weights)
    }
    (group,) = stack_groups(runs, 256, tmp_path)
    assert list(group.members) == ["100 equal", "200 equal", "100 rising", "200 rising"]


@pytest.mark.slow
def test_what_is_in_a_stack_stays_there_when_more_is_asked(tmp_path):
    how = How(on="stacks", keep="last", runs_dir=tmp_path)
    first = sweep(seeds_of(1e-3) | seeds_of(3e-3), how, QUIET).set_index("run")
    before = {path: contents(path) for path in tmp_path.iterdir() if is_stack(path)}
    more = sweep(seeds_of(1e-3, 3) | seeds_of(3e-3) | seeds_of(1e-2), how, QUIET).set_index("run")
    assert more["state"].tolist() == ["done"] * 7
    assert more.loc[first.index, "path"].tolist() == first["path"].tolist()
    assert {path: contents(path) for path in before} == before
    assert sorted(len(Stack.open(path).members) for path in tmp_path.iterdir() if is_stack(path)) == [3, 4]
    for row in more.itertuples():
        assert open_run(str(row.path)).config == (seeds_of(1e-3, 3) | seeds_of(3e-3) | seeds_of(1e-2))[row.Index]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model.d_model": 16}, "model.d_model = 16: must be 8, as of the other runs of its stack"),
        ({"optim.momentum": 0.5}, "optim.momentum = 0.5: must be 0.95"),
        ({"data.length_weights": (1, 1, 1, 0)}, "data of b: must ask about parity at lengths 1 2 3 4"),
    ],
)
def test_runs_that_cannot_share_a_stack_are_refused(tmp_path, change, told):
    with pytest.raises(RunError, match=told):
        train_stack(tmp_path / "stack", {"a": small(), "b": small(**change)}, "cpu", Watched())
    assert not (tmp_path / "stack").exists()


def test_a_stack_says_what_each_run_has_of_its_own(tmp_path):
    stack = Stack.create(tmp_path / "stack", mixed())
    own = json.loads((stack.path / "stack.json").read_text())["members"]
    assert own["b"] == {"seed": 1, "optim.lr": 0.01, "optim.weight_decay": 0.3}
    assert Stack.open(stack.path).members == mixed()
    assert len({shared_settings(config) for config in mixed().values()}) == 1
    assert StackedRun(stack, "d").config == mixed()["d"]
    assert set().union(*own.values()) <= set(OWN)
