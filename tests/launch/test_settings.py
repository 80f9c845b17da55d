"""What a recipe set for its own tasks does not outlive them."""

import pytest
import torch

from compo_mech.data.config import DataConfig, Stage
from compo_mech.data.stream import TrainingStream
from compo_mech.data.tasks import Copy, Counter, Parity, Polynomial
from compo_mech.launch import sweep_command
from compo_mech.launch.grid import grid
from compo_mech.launch.settings import dropped, parse
from compo_mech.runs import recipes
from compo_mech.settings import changed


def fraction_of_second_task(data, steps):
    draws = torch.Generator().manual_seed(0)
    stream = TrainingStream(data, seeds=0)
    return float(torch.cat([stream.batch(step, draws).task for step in steps]).float().mean())


def test_a_mixture_is_mixed_as_told_from_the_first_step_to_the_last(capsys):
    words = ["--data.tasks", "copy", "parity", "--data.task-weights", "1", "2"]
    data = parse(recipes.copy(), words).data
    for steps in (range(1, 40), range(1480, 1520), range(2360, 2400)):
        assert fraction_of_second_task(data, steps) == pytest.approx(2 / 3, abs=0.03)
    assert capsys.readouterr().err == "data.tasks = copy parity: drops the curriculum of copy polynomial\n"


@pytest.mark.parametrize("recipe", recipes.RECIPES)
@pytest.mark.parametrize("tasks", ["counter(modulus=3)", "copy parity", "polynomial(modulus=7)"])
def test_other_tasks_bring_nothing_of_the_recipes(recipe, tasks, capsys):
    before = recipes.RECIPES[recipe]()
    words = ["--data.tasks", *tasks.split()]
    found = parse(before, words).data
    assert found.task_weights is None
    assert found.curriculum == ()
    assert found.max_length == before.data.max_length
    assert ("drops the task_weights and the curriculum" in capsys.readouterr().err) == bool(before.data.curriculum)


@pytest.mark.parametrize("words", [[], ["--data.tasks", "copy", "polynomial(modulus=11)"], ["--data.max-length", "9"]])
def test_the_recipes_own_tasks_keep_theirs(words, capsys):
    before, found = recipes.copy().data, parse(recipes.copy(), words).data
    assert (found.task_weights, found.curriculum) == (before.task_weights, before.curriculum)
    assert capsys.readouterr().err == ""


def test_what_is_asked_for_together_with_the_tasks_is_kept(capsys):
    words = ["--data.tasks=parity", "--data.curriculum", "stage(n_steps=5, max_length=2)"]
    assert parse(recipes.copy(), words).data.curriculum == (Stage(n_steps=5, max_length=2),)
    assert capsys.readouterr().err == "data.tasks = parity: drops the task_weights of copy polynomial\n"


def test_grids_and_changes_drop_the_same():
    base = recipes.parity()
    for run in (
        *grid(base, {"data.tasks": [("copy",), (Copy(), Parity())]}).values(),
        changed(base, {"data.tasks": ("counter(modulus=5)",), "data.batch_size": 8}),
    ):
        assert (run.data.task_weights, run.data.curriculum) == (None, ())
        assert dropped(base.data, run.data).endswith("drops the task_weights and the curriculum of parity polynomial")
    same = changed(base, {"data.tasks": ("parity", "polynomial"), "data.batch_size": 8}).data
    assert (same.task_weights, same.curriculum) == (base.data.task_weights, base.data.curriculum)
    assert dropped(base.data, same) is None


def test_a_sweep_says_what_it_drops_once(monkeypatch, capsys):
    def nothing(runs, how, console):
        raise ValueError(f"runs = {len(runs)}")

    monkeypatch.setattr(sweep_command, "sweep", nothing)
    with pytest.raises(SystemExit):
        sweep_command.sweep_command("copy", ("data.tasks=('parity',),('copy',)", "optim.lr=0.1,0.2"), n_seeds=2)
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "data.tasks = parity: drops the task_weights and the curriculum of copy polynomial",
        "data.tasks = copy: drops the task_weights and the curriculum of copy polynomial",
        "error: runs = 8",
    ]


def test_stages_keep_what_is_not_of_tasks():
    stages = Stage(n_steps=3, max_length=2, task_weights=(1, 0)), Stage(n_steps=2, task_weights=(0, 1))
    data = DataConfig(tasks=(Copy(), Polynomial()), max_length=3, task_loss_weights=(1, 2), curriculum=stages)
    found = changed(data, {"tasks": (Counter(),)})
    assert found == DataConfig(tasks=(Counter(),), max_length=3, curriculum=(Stage(n_steps=3, max_length=2),))
