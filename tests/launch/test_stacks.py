"""Stacks: a run of one is the run trained with the same others as a folder of its own, however it was stopped."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from rich.console import Console

from compo_mech.launch import machine, stack_sweep
from compo_mech.launch.ensemble import launch_together, new_members
from compo_mech.launch.how import How
from compo_mech.launch.settings import Launch
from compo_mech.launch.stack import train_stack
from compo_mech.launch.sweep import sweep
from compo_mech.runs import recipes, rules, stack
from compo_mech.runs.config import RunConfig
from compo_mech.runs.locks import recorded_failure
from compo_mech.runs.run import Run
from compo_mech.runs.stack import Stack
from compo_mech.runs.stack_members import of_seeds
from compo_mech.runs.stacked_run import StackedRun, open_run, stack_table
from compo_mech.runs.vouched import RunError
from compo_mech.settings import changed
from compo_mech.studies import measures
from compo_mech.studies.run import run_study
from compo_mech.studies.run_scores import run_scores
from compo_mech.studies.study import Arm, Study

SMALL = {
    "data.max_length": 4,
    "data.batch_size": 8,
    "model.d_model": 8,
    "train.n_steps": 12,
    "train.snapshot_every": 6,
    "n_test_strings": 8,
}
QUIET = Console(quiet=True)


class Watched:
    """Is told of steps; stops training at one."""

    def __init__(self, stop_at=None):
        self.stop_at = stop_at

    def __call__(self, step):
        if step == self.stop_at:
            raise KeyboardInterrupt


def small(**changes):
    return changed(recipes.parity_alone(), SMALL | changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Stacks of two seeds that were left in peace, by what they keep; tests look at them or change a copy."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("whole")
    return {
        keep: train_stack(folder / keep, of_seeds(small(), [0, 1]), "cpu", Watched(), keep)
        for keep in ("every", "last")
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize(
    "changes",
    [{}, pytest.param({"data.n_train_strings": 4, "train.label_noise": 0.2}, marks=pytest.mark.slow)],
    ids=["fresh", "fixed"],
)
def test_a_run_of_a_stack_is_that_of_runs_trained_at_once_to_the_bit(tmp_path, changes):
    config = small(**changes)
    trained = train_stack(tmp_path / "stack", of_seeds(config, [3, 5]), "cpu", Watched())
    fields = {name: getattr(config, name) for name in RunConfig.model_fields}
    alone = [Launch(**fields | {"seed": seed, "name": f"seed{seed}", "runs_dir": tmp_path / "runs"}) for seed in (3, 5)]
    for run, seed in zip(launch_together(alone, QUIET), (3, 5), strict=True):
        assert isinstance(run, Run)
        cut = open_run(tmp_path / "stack" / f"seed{seed}")
        assert isinstance(cut, StackedRun)
        pd.testing.assert_frame_equal(cut.metrics, run.metrics)
        assert contents(cut.write_run(tmp_path / "cut" / f"seed{seed}").path) == contents(run.path)
    assert len(stack_table(trained)) == 2 * len(StackedRun(trained, "seed3").metrics)


@pytest.mark.parametrize("keep", ["every", "last"])
def test_a_stack_that_was_stopped_goes_on_to_the_same_bits(whole, tmp_path, keep):
    for stop_at in (1, 4, 6):
        with pytest.raises(KeyboardInterrupt):
            train_stack(tmp_path / "stopped", of_seeds(small(), [0, 1]), "cpu", Watched(stop_at), keep)
    stopped = train_stack(tmp_path / "stopped", of_seeds(small(), [0, 1]), "cpu", Watched(), keep)
    assert contents(stopped.folder) == contents(whole[keep].folder)
    assert stopped.steps == ([0, 1, 2, 4, 6, 12] if keep == "every" else [12])


def test_what_was_measured_after_the_networks_that_it_goes_on_from_is_forgotten(tmp_path):
    for stop_at, measured in ((4, [0, 1, 2, 4]), (1, [0, 1])):
        with pytest.raises(KeyboardInterrupt):
            train_stack(tmp_path / "stack", of_seeds(small(), [0, 1]), "cpu", Watched(stop_at), "last")
        assert [step for step, _ in Stack.open(tmp_path / "stack").measured()] == measured


def test_of_networks_that_are_not_kept_the_rows_are(whole):
    every, last = whole["every"], whole["last"]
    pd.testing.assert_frame_equal(stack_table(every), stack_table(last))
    for name, tensor in every.params().items():
        torch.testing.assert_close(last.params()[name], tensor, rtol=0, atol=0)


def test_a_network_that_diverges_is_named_and_does_not_touch_the_others(whole, tmp_path):
    config = small()
    with pytest.raises(KeyboardInterrupt):
        train_stack(tmp_path / "second", of_seeds(config, [0, 1]), "cpu", Watched(6))
    damaged = Stack.open(tmp_path / "second")
    step, params, resume = damaged.resumable()
    params["embed.W_E"][1, config.data.vocabulary.beginning_id] = float("nan")  # which no string reads
    damaged.save_networks(step, params, resume, "every")
    second = train_stack(tmp_path / "second", of_seeds(config, [0, 1]), "cpu", Watched())
    assert second.diverged() == {"seed1": 12}
    pd.testing.assert_frame_equal(StackedRun(second, "seed0").metrics, StackedRun(whole["every"], "seed0").metrics)
    with pytest.raises(RunError, match="seed1: training diverged by step 12"):
        _ = StackedRun(second, "seed1").metrics
    with pytest.raises(RunError, match=r"seed1: weight .* = nan: must be finite"):
        StackedRun(second, "seed1").params()


def test_what_a_stack_is_not_is_said_in_one_line(whole, tmp_path, monkeypatch):
    trained = Stack.open(shutil.copytree(whole["every"].path, tmp_path / "stack"))
    for match, config, seeds in (
        ("optim.lr = 0.1: seed0 in .* has 0.003", small(**{"optim.lr": 0.1}), [0, 1]),
        ("runs = seed0 seed2: the stack in .* has other ones", small(), [0, 2]),
    ):
        with pytest.raises(RunError, match=match):
            train_stack(tmp_path / "stack", of_seeds(config, seeds), "cpu", Watched())
    with pytest.raises(RunError, match="run = seed7: must be one of seed0 seed1"):
        open_run(tmp_path / "stack" / "seed7")
    with pytest.raises(RunError, match=r"stack = .*: must be a folder that holds a stack.json"):
        Stack.open(tmp_path)
    monkeypatch.setattr(machine, "available_memory", lambda device: 1.0)
    with pytest.raises(RunError, match="n_at_once = 2: must be at most 1, which this machine's memory holds"):
        train_stack(tmp_path / "large", of_seeds(small(), [0, 1]), "cpu", Watched())
    assert not (tmp_path / "large").exists()
    rows = trained.folder / "000006.rows.safetensors"
    rows.write_bytes(rows.read_bytes()[:-1] + b"x")
    with pytest.raises(RunError, match=r"000006.rows.safetensors: is damaged, its checksum differs"):
        _ = StackedRun(Stack.open(trained.path), "seed0").metrics


def test_a_stack_is_there_whole_or_not(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(stack, "write_sums", full)
        with pytest.raises(RunError, match="cannot be written"):
            Stack.create(tmp_path / "stack", of_seeds(small(), [0, 1]))
    assert not (tmp_path / "stack").exists()
    assert train_stack(tmp_path / "stack", of_seeds(small(), [0, 1]), "cpu", Watched(), "last").is_done


def test_a_stack_of_another_rule_is_not_opened(whole, monkeypatch):
    monkeypatch.setattr(rules, "rule_checksum", lambda task: "another")
    with pytest.raises(RunError, match=r"data.tasks = parity: must have the rule that .* was trained on"):
        open_run(whole["last"].path / "seed0")


def test_the_newest_networks_are_kept_by_their_number(tmp_path):
    kept = Stack.create(tmp_path / "stack", of_seeds(small(), [0, 1]))
    params = new_members(small(), [0, 1], "cpu").params
    for step in (999_998, 999_999, 1_000_000, 1_000_001):
        kept.save_networks(step, params, {"generator": torch.zeros(2, 1)}, "last")
    assert kept.steps == [1_000_000, 1_000_001]
    assert sorted(kept.resume_tensors()) == kept.steps


def brief(d_model, seed):
    """Settings of a run of which only its folder and its state matter."""
    return small(**{"model.d_model": d_model, "seed": seed, "train.n_steps": 2, "train.snapshot_every": 2})


def test_a_sweep_by_stacks_goes_on_in_the_same_folders(tmp_path):
    runs = {f"p,d_model={d},seed={s}": brief(d, s) for d in (8, 4) for s in range(3)}
    how = How(on="stacks", n_at_once=2, runs_dir=tmp_path)
    first, again = sweep(runs, how, QUIET), sweep(runs, how, QUIET)
    pd.testing.assert_frame_equal(first, again)
    assert list(first["state"]) == ["done"] * 6
    folders = {path.name for path in tmp_path.iterdir() if (path / "stack.json").exists()}
    assert folders == {f"p,d_model={d}-seeds{seeds}" for d in (8, 4) for seeds in ("0-1", "2-2")}
    assert [open_run(path).config.seed for path in first["path"]] == [0, 1, 2] * 2


def test_two_names_of_the_same_settings_are_two_runs(tmp_path):
    runs = {f"{name}-seed{s}": brief(4, s) for name in ("p", "q") for s in range(2)}
    how = How(on="stacks", runs_dir=tmp_path)
    first, again = sweep(runs, how, QUIET), sweep(runs, how, QUIET)
    assert list(first["run"]) == list(again["run"]) == list(runs)
    assert first["path"].nunique() == again["path"].nunique() == len(runs)


def test_what_goes_wrong_with_a_stack_is_recorded_and_stops_no_other(tmp_path, monkeypatch):
    train = stack_sweep.train_stack

    def failing(path, members, *rest):
        if members["seed0"].model.d_model == 4:
            raise MemoryError("too much")
        return train(path, members, *rest)

    monkeypatch.setattr(stack_sweep, "train_stack", failing)
    monkeypatch.setattr(Stack, "diverged", lambda own: {"seed1": 6})
    runs = {f"p,d_model={d},seed={s}": brief(d, s) for d in (4, 8) for s in range(2)}
    table = sweep(runs, How(on="stacks", keep="last", runs_dir=tmp_path), QUIET)
    assert list(table["state"]) == ["failed", "failed", "done", "failed"]
    assert list(table["error"]) == ["MemoryError: too much"] * 2 + ["", "Diverged: training diverged by step 6"]
    assert recorded_failure(tmp_path / "p,d_model=4-seeds0-1") == "MemoryError: too much"


@pytest.mark.slow
def test_each_run_of_a_study_starts_from_that_of_its_seed(tmp_path):
    arms = {"first": Arm(small()), "second": Arm(small(**{"model.freeze": ("blocks.0",)}), start="first")}
    study = Study("two", "?", "?", measures.ACCURACY, arms, run_scores, n_seeds=2)
    table = run_study(study, range(2), How(on="stacks", runs_dir=tmp_path, n_workers=1), QUIET)
    assert table["error"].isna().all()
    for seed in (0, 1):
        first, second = (open_run(tmp_path / f"{name}-seeds0-1" / f"seed{seed}") for name in arms)
        start, frozen = first.params(), second.params()["blocks.0.mlp.W_in"]
        assert torch.equal(second.params(0)["unembed.W_U"], start["unembed.W_U"])
        assert torch.equal(frozen, start["blocks.0.mlp.W_in"])
    own = json.loads((tmp_path / "second-seeds0-1" / "stack.json").read_text())["members"]
    assert own["seed1"] == {"seed": 1, "start_from": str(tmp_path / "first-seeds0-1" / "seed1")}
