import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from rich.console import Console

from compo_mech.launch import group_size, slurm, slurm_commands
from compo_mech.launch import sweep as sweeps
from compo_mech.launch import sweep_command as sweep_commands
from compo_mech.launch.grid import grid, read_axis
from compo_mech.launch.how import How
from compo_mech.launch.settings import Launch
from compo_mech.launch.sweep import sweep
from compo_mech.launch.sweep_command import sweep_command
from compo_mech.runs import recipes
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.config import RunConfig
from compo_mech.runs.locks import locked, record_failure, recorded_failure
from compo_mech.runs.run import Run
from compo_mech.settings import changed

QUIET = Console(quiet=True)
SMALL = changed(
    recipes.polynomial(),
    {"train.n_steps": 6, "train.snapshot_every": 2, "data.max_length": 3, "model.d_model": 8, "n_test_strings": 8},
)


def seeds(n: int) -> dict[str, RunConfig]:
    return {f"seed{seed}": changed(SMALL, {"seed": seed}) for seed in range(n)}


def sums(path):
    return {run.parent.parent.name: run.read_text() for run in sorted(path.glob("*/checkpoints/SHA256SUMS"))}


def test_a_grid_is_every_combination_under_a_name():
    found = grid(SMALL, {"model.d_model": [8, 16], "seed": [0, 1, 2]})
    assert list(found) == [f"d_model={d},seed={s}" for d in (8, 16) for s in (0, 1, 2)]
    assert found["d_model=16,seed=2"] == changed(SMALL, {"model.d_model": 16, "seed": 2})
    same = grid(SMALL, {"model.n_layers": [1], "data.max_length": [2], "data.min_length": [1]})
    assert list(same) == ["n_layers=1,max_length=2,min_length=1"]
    assert grid(SMALL, {}) == {"base": SMALL}


def test_a_grid_of_too_many_runs_is_refused_before_any_is_made(monkeypatch):
    made = []
    monkeypatch.setattr("compo_mech.launch.grid.changed", lambda *given: made.append(given) or changed(*given))
    monkeypatch.setattr("compo_mech.launch.grid.MAX_RUNS", 12)
    assert len(grid(SMALL, {"optim.lr": [1, 2, 3], "seed": range(4)})) == len(made) == 12
    with pytest.raises(ValueError, match=r"^axes = optim\.lr seed: must make at most 12 runs, not 13$"):
        grid(SMALL, {"optim.lr": [1], "seed": range(13)})
    assert len(made) == 12


def test_runs_of_one_name_are_refused():
    told = r"^axes = start_from: must give each run a name of its own, two would be start_from=a-b$"
    with pytest.raises(ValueError, match=told):
        grid(SMALL, {"start_from": ["a/b", "a-b"]})


DEEP = {"some": "-" * 30_000 + "1", "more": "-" * 100_000 + "1"}
"""Python's parser raises MemoryError, or RecursionError."""


@pytest.mark.parametrize("deep", DEEP.values(), ids=DEEP)
@pytest.mark.parametrize("values", ["{}", "1,{}", "word,{}"])
def test_what_is_nested_too_deep_for_pythons_parser_is_refused(deep, values):
    with pytest.raises(ValueError, match=r"^axis = 'model.d_model=[-a-z1,]{,60}…: must be nested less deep$"):
        read_axis(f"model.d_model={values.format(deep)}")


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"model.width": [8]}, "model.width = 8: there is no such setting"),
        ({"width.model": [8]}, "width.model = 8: there is no such setting"),
        ({"seed.x": [8]}, "seed.x = 8: there is no such setting"),
        ({"model.d_model": [0]}, "model.d_model = 0"),
        ({"model.d_model": []}, r"model.d_model = \(\): must have at least one value"),
        ({"model.d_model": [8, 8]}, "^model.d_model = 8: must be named once$"),
        ({"model.attn_only": [True, "true"]}, "^model.attn_only = 'true': must be named once, True is the same$"),
        ({"seed": [0, 1], "model.d_model": [8, "8"]}, "^model.d_model = '8': must be named once, 8 is the same$"),
        ({"optim.lr": [1, 1.0]}, "^optim.lr = 1.0: must be named once, 1 is the same$"),
        ({"data.tasks": [1]}, r"^data.tasks = 1: must be several values, such as \(1, 2\)$"),
        ({"data.tasks": [(1,)]}, "^data.tasks.0 = 1: must be a task, or how one is spelled$"),
        ({"seed": ["x"]}, "^seed = 'x': must be an integer$"),
        ({"seed": ["1" * 5000]}, "1…: must be an integer of fewer digits$"),
        ({"optim.lr": ["x"]}, "^optim.lr = 'x': must be a number$"),
        ({"model.d_model": [0]}, "^model.d_model = 0: must be greater than 0$"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(axes, words):
    with pytest.raises(ValueError, match=words):
        grid(SMALL, axes)


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("model.d_model=32,64", "model.d_model", [32, 64]),
        ("model.d-model=32", "model.d_model", [32]),
        ("--model.d-model=32", "model.d_model", [32]),
        ("optim.lr=1e-3", "optim.lr", [1e-3]),
        ("optim.optimizer=muon,sgd", "optim.optimizer", ["muon", "sgd"]),
        ("data.n_train_strings=None,64", "data.n_train_strings", [None, 64]),
        ("data.tasks=('parity',),('copy','parity')", "data.tasks", [("parity",), ("copy", "parity")]),
    ],
)
def test_axes_as_the_command_line_spells_them(text, name, values):
    assert read_axis(text) == (name, values)


@pytest.mark.parametrize("text", ["seed", "seed=", "=1", ""])
def test_what_is_no_axis_is_refused(text):
    with pytest.raises(ValueError, match="must be written as setting=value,value"):
        read_axis(text)


@pytest.mark.slow
def test_processes_and_this_process_give_the_same_bits_and_only_what_is_missing_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(group_size, "best_group", lambda config, n, device: 1)  # at once they differ in the last bits
    runs = seeds(3)
    here = sweep(runs, How(on="here", runs_dir=tmp_path / "here"), QUIET)
    assert here["state"].tolist() == ["done"] * 3
    elsewhere = How(runs_dir=tmp_path / "there")
    sweep({"seed1": runs["seed1"]}, elsewhere, QUIET)
    before = (tmp_path / "there" / "seed1" / "metrics.csv").stat().st_mtime_ns
    there = sweep(runs, elsewhere, QUIET)
    assert there["run"].tolist() == list(runs)
    assert (tmp_path / "there" / "seed1" / "metrics.csv").stat().st_mtime_ns == before
    assert sums(tmp_path / "here") == sums(tmp_path / "there")


def test_a_failed_run_is_recorded_and_tried_again_and_does_not_stop_the_others(tmp_path):
    runs = seeds(2) | {"wild": changed(SMALL, {"optim.lr": 1e12, "optim.optimizer": "sgd", "optim.n_warmup_steps": 0})}
    how = How(runs_dir=tmp_path, on="here")
    (tmp_path / "seed0").mkdir()
    (tmp_path / "seed0" / "config.json").write_text("{")
    table = sweep(runs, how, QUIET).set_index("run")
    assert table["state"].to_dict() == {"seed0": "failed", "seed1": "done", "wild": "failed"}
    assert "config.json" in table["error"]["seed0"]
    assert table["error"]["wild"].startswith("Diverged: training diverged by step")
    (tmp_path / "seed0" / "config.json").unlink()
    (tmp_path / "seed0").rmdir()
    again = sweep(runs, how, QUIET).set_index("run")
    assert again["state"].to_dict() == {"seed0": "done", "seed1": "done", "wild": "failed"}
    assert again["error"]["seed0"] == ""


def die(settings):
    """Stands for a run that takes its process with it."""
    if settings.name == "seed1":
        os.kill(os.getpid(), signal.SIGKILL)
    sweeps.train_one(settings)


@pytest.mark.slow
def test_a_process_that_dies_costs_its_own_run_only(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps, "train_one", die)
    table = sweep(seeds(3), How(runs_dir=tmp_path), QUIET).set_index("run")
    assert table["state"].to_dict() == {"seed0": "done", "seed1": "failed", "seed2": "done"}
    assert table["error"]["seed1"] == "its process died"


def test_what_cannot_be_is_told_before_anything_is_trained(tmp_path):
    sweep(seeds(1), How(runs_dir=tmp_path, on="here"), QUIET)
    other = {"new": SMALL, "seed0": changed(SMALL, {"optim.lr": 0.5})}
    with pytest.raises(RunError, match=r"optim.lr = 0.5: the run in .*seed0 has 0.003"):
        sweep(other, How(runs_dir=tmp_path, on="here"), QUIET)
    orphan = {"new": SMALL, "next": changed(SMALL, {"start_from": tmp_path / "nowhere"})}
    with pytest.raises(RunError, match=r"nowhere: must be a folder that holds a config.json"):
        sweep(orphan, How(runs_dir=tmp_path, on="here"), QUIET)
    assert not (tmp_path / "new").exists()


SCRIPT = """
import sys
from pathlib import Path
from rich.console import Console
from compo_mech.launch import sweep as sweeps
from tests_of_sweeps import RUNS
if __name__ == "__main__":
    sweeps.sweep(RUNS, sweeps.How(runs_dir=Path(sys.argv[1])), Console(quiet=True))
"""


def test_seeds_at_once_come_to_what_they_come_to_one_by_one(tmp_path, monkeypatch):
    runs = seeds(3) | {"other": changed(SMALL, {"model.d_model": 16})}
    asked = []
    monkeypatch.setattr(group_size, "best_group", lambda config, n, device: asked.append(n) or 2)
    table = sweep(runs, How(on="here", runs_dir=tmp_path / "together"), QUIET)
    assert table["state"].tolist() == ["done"] * 4
    assert asked == [3]
    monkeypatch.setattr(group_size, "best_group", lambda config, n, device: 1)
    sweep(runs, How(on="here", runs_dir=tmp_path / "alone"), QUIET)
    for name in runs:
        one, other = (Run.open(tmp_path / place / name) for place in ("together", "alone"))
        for key, tensor in one.params(2).items():  # two steps: differences grow from step to step
            assert tensor.allclose(other.params(2)[key], atol=2e-5), (name, key)
        assert one.steps == other.steps
    noted = {name: Run.open(tmp_path / "together" / name) for name in runs}
    noted = {name: json.loads((run.path / "environment.json").read_text()) for name, run in noted.items()}
    assert {name: found.get("trained_at_once") for name, found in noted.items()} == {
        "seed0": 2, "seed1": 2, "seed2": None, "other": None,
    }  # fmt: skip


def test_a_killed_sweep_that_is_repeated_has_the_same_bits_though_timing_would_choose_otherwise(tmp_path, monkeypatch):
    runs, asked = seeds(4), []
    monkeypatch.setattr(group_size, "best_group", lambda config, n, device: asked.append(n) or 2)
    sweep(runs, How(on="here", runs_dir=tmp_path / "peaceful"), QUIET)
    save, n_saved = Run.save, 0

    def killed(self, step, *args):  # where the second group has its last checkpoints: one member is done, one is not
        nonlocal n_saved
        save(self, step, *args)
        n_saved += step == SMALL.train.n_steps
        if n_saved == 3:
            raise KeyboardInterrupt

    how = How(on="here", runs_dir=tmp_path / "killed")
    monkeypatch.setattr(Run, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        sweep(runs, how, QUIET)
    monkeypatch.setattr(Run, "save", save)
    monkeypatch.setattr(group_size, "best_group", lambda config, n, device: asked.append(n) or 3)
    assert sweep(runs, how, QUIET)["state"].tolist() == ["done"] * 4
    assert asked == [4, 4]
    assert sums(tmp_path / "killed") == sums(tmp_path / "peaceful")


def test_a_choice_is_that_of_a_device_and_of_any_seeds(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(group_size, "best_group", lambda config, n, device: asked.append(device) or 2)
    for device, order in (("cpu", 1), ("mps", 1), ("cpu", -1)):
        group = [Launch(**dict(config), runs_dir=tmp_path, device=device) for config in seeds(3).values()]
        assert group_size.group_size(group[::order]) == 2
    assert asked == ["cpu", "mps"]


def test_a_failure_that_cannot_be_recorded_is_told_and_does_not_stop_the_others(tmp_path, capsys):
    (tmp_path / "failures").write_text("a file, so that nothing can be recorded there", encoding="utf-8")
    (tmp_path / "seed0").mkdir()
    (tmp_path / "seed0" / "config.json").write_text("{", encoding="utf-8")
    table = sweep(seeds(2), How(on="here", runs_dir=tmp_path), QUIET).set_index("run")
    assert table["state"].to_dict() == {"seed0": "failed", "seed1": "done"}
    assert "config.json" in table["error"]["seed0"]


def test_one_that_fails_at_once_with_others_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(group_size, "best_group", lambda config, n, device: n)
    (tmp_path / "seed1").mkdir()
    (tmp_path / "seed1" / "config.json").write_text("{")
    table = sweep(seeds(3), How(on="here", runs_dir=tmp_path), QUIET).set_index("run")
    assert table["state"].to_dict() == {"seed0": "done", "seed1": "failed", "seed2": "done"}


def too_much(*args):
    raise RuntimeError("out of memory")


@pytest.mark.parametrize("where", ["best_group", "launch_together"])
def test_where_all_at_once_is_too_much_they_are_trained_one_by_one(tmp_path, monkeypatch, where):
    monkeypatch.setattr(group_size, "best_group", lambda config, n, device: n)
    monkeypatch.setattr(group_size if where == "best_group" else sweeps, where, too_much)
    table = sweep(seeds(2), How(on="here", runs_dir=tmp_path), QUIET)
    assert table["state"].tolist() == ["done"] * 2


@pytest.mark.parametrize("on", ["here", "processes"])
def test_a_device_that_is_not_there_is_told_first(tmp_path, on):
    with pytest.raises(ValueError, match=r"device = 'cuda:99': must be one of cpu.* on this machine"):
        sweep(seeds(2), How(on=on, device="cuda:99", runs_dir=tmp_path / "runs"), QUIET)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("below", [".", "deeper"])
def test_a_file_is_no_folder_of_runs(tmp_path, below):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(ValueError, match=r"runs_dir = .*runs.*: cannot be made a folder \("):
        sweep(seeds(1), How(on="here", runs_dir=tmp_path / "runs" / below), QUIET)


def test_a_run_that_another_process_trains_is_left_to_it(tmp_path):
    how = How(on="here", runs_dir=tmp_path)
    with locked(tmp_path / "seed0"):
        table = sweep(seeds(1), how, QUIET)
    assert table["state"].tolist() == ["failed"]
    assert table["error"][0] == f"RunError: run = {tmp_path / 'seed0'}: is being trained by another process"
    assert not (tmp_path / "seed0").exists()
    assert sweep(seeds(1), how, QUIET)["state"].tolist() == ["done"]


def test_what_slurm_refuses_leaves_failures_as_they_were(tmp_path, monkeypatch):
    how = How(on="slurm", runs_dir=tmp_path)
    for name in seeds(2):
        record_failure(tmp_path / name, "Diverged: earlier")
    monkeypatch.setattr(slurm_commands, "check", lambda config: None)
    monkeypatch.setattr(slurm, "waiting", lambda launches, folder: iter([set()]))

    def refuse(*args):
        raise slurm.SlurmError("sbatch: no")

    monkeypatch.setattr(slurm, "submit", refuse)
    with pytest.raises(RunError, match="sbatch: no"):
        sweep(seeds(2), how, QUIET)
    assert recorded_failure(tmp_path / "seed0") == recorded_failure(tmp_path / "seed1") == "Diverged: earlier"
    monkeypatch.setattr(slurm, "submit", lambda launches, *args: [launches[0].path])
    table = sweep(seeds(2), how, QUIET)  # the other has a job already, which recorded what is there
    assert table["error"].tolist() == ["its job ended before it did; it left no log", "Diverged: earlier"]


def test_the_script_tells_recipes_and_grids_apart(tmp_path, monkeypatch, capsys):
    small = {"data.max_length": 5, "train.n_steps": 2}
    monkeypatch.setitem(recipes.RECIPES, "parity", lambda: changed(SMALL, small | {"data.tasks": ("parity",)}))
    monkeypatch.setitem(recipes.RECIPES, "copy", lambda: changed(SMALL, small | {"data.tasks": ("copy",)}))
    how = How(on="here", runs_dir=tmp_path / "runs")
    sweep_command("parity", ("data.chain_of_thought=False,True",), how=how)
    assert f"Table: {tmp_path / 'runs' / 'sweep.csv'}" in capsys.readouterr().out.splitlines()
    first = pd.read_csv(tmp_path / "runs" / "sweep.csv").set_index("run")
    assert list(first.index) == [f"parity,chain_of_thought={value},seed=0" for value in (False, True)]
    assert first["accuracy"].notna().all()
    assert first["iteration"].isna().tolist() == [True, False]  # without a chain of thought no head is scored
    sweep_command("copy", out=tmp_path / "other.csv", how=how)
    assert pd.read_csv(tmp_path / "other.csv")["run"].tolist() == ["copy,seed=0"]
    assert pd.read_csv(tmp_path / "runs" / "sweep.csv").set_index("run").equals(first)
    for out in ("other.txt", "no/other.csv"):
        with pytest.raises(SystemExit):
            sweep_command("copy", out=tmp_path / out, how=how)
        assert capsys.readouterr().err.startswith(f"error: out = {tmp_path / out}: must ")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(SystemExit) as stop:
        sweep_command("copy", out=tmp_path / "folder.csv", how=how)
    assert stop.value.code == 2
    assert (
        capsys.readouterr().err
        == f"error: out = {tmp_path / 'folder.csv'}: cannot be written (must be a file, or not be there yet)\n"
    )


def test_on_a_full_disk_the_reasons_are_on_the_terminal(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device", str(tmp_path / "sweep.csv"))

    monkeypatch.setitem(recipes.RECIPES, "parity", lambda: SMALL)
    monkeypatch.setattr(sweeps, "train_one", lambda settings: "RunError: it is full")
    monkeypatch.setattr(sweep_commands, "write_table", full)
    with pytest.raises(SystemExit) as stop:
        sweep_command("parity", how=How(on="here", runs_dir=tmp_path))
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert "RunError: it is full" in out
    assert "Table:" not in out
    assert err == f"error: {tmp_path / 'sweep.csv'}: cannot be read or written (No space left on device)\n"


def test_without_slurm_nothing_is_started(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="slurm = missing"):
        sweep(seeds(1), How(on="slurm", runs_dir=tmp_path / "runs"), QUIET)
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_eight_runs_killed_five_times_end_as_if_nothing_had_happened(tmp_path):
    runs = {
        f"seed{s}": changed(SMALL, {"seed": s, "train.n_steps": 40, "train.snapshot_every": 4, "data.max_length": 5})
        for s in range(8)
    }
    undisturbed = sweep(runs, How(runs_dir=tmp_path / "calm"), QUIET)
    stored = {name: config.model_dump(mode="json") for name, config in runs.items()}
    (tmp_path / "tests_of_sweeps.py").write_text(
        "from compo_mech.runs.config import RunConfig\n"
        f"RUNS = {{name: RunConfig(**config) for name, config in {stored!r}.items()}}\n"
    )
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    folder = tmp_path / "disturbed"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])}
    n_checkpoints = 0
    for n in range(5):
        process = subprocess.Popen([sys.executable, str(script), str(folder)], env=environment)
        before = n_checkpoints
        for _ in range(6000):  # until it has come on by some checkpoints, at odd moments
            n_checkpoints = len(list(folder.glob("*/checkpoints/[0-9]*.safetensors")))
            if n_checkpoints > before + 10 + 3 * n or process.poll() is not None:
                break
            time.sleep(0.01)
        assert process.poll() is None, "it ended before it could be killed"
        process.kill()
        process.wait()
    done = sweep(runs, How(runs_dir=folder), QUIET)
    assert done.drop(columns="path").equals(undisturbed.drop(columns="path"))
    assert sums(folder) == sums(tmp_path / "calm")
    for name in runs:
        assert Run.open(folder / name).metrics.equals(Run.open(tmp_path / "calm" / name).metrics)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """The folder of a run that others start from."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("first")
    sweep({"first": SMALL}, How(runs_dir=folder, on="here"), QUIET)
    return folder / "first"


def test_weights_start_from_another_run(first, tmp_path):
    how = How(runs_dir=tmp_path, on="here")
    follow = changed(SMALL, {"start_from": first, "model.freeze": ("blocks.0", "embed"), "seed": 7})
    assert sweep({"second": follow}, how, QUIET)["state"].tolist() == ["done"]
    source, begun, ended = (
        Run.open(path).params(step) for path, step in ((first, 6), (tmp_path / "second", 0), (tmp_path / "second", 6))
    )
    for name, tensor in source.items():
        assert tensor.equal(begun[name])
        assert tensor.equal(ended[name]) == name.startswith(("blocks.0.", "embed."))
    assert not begun["embed.W_E"].equal(Run.open(tmp_path / "second").control()["embed.W_E"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data.tasks": ("parity",)}, "its vocabulary is another, data.tasks must be polynomial, and is parity"),
        ({"data.task_token": False}, "its vocabulary is another, data.task_token must be True, and is False"),
        ({"model.d_model": 16}, r"its network is another, embed.W_E is \(15, 8\) there and \(15, 16\) here"),
        ({"model.n_layers": 1}, r"its network is another, blocks.1.ln1.w is \(8,\) there and missing here"),
        ({"data.max_length": 2}, r"pos_embed.W_pos is \(9, 8\) there and \(7, 8\) here; set model.n_ctx = 9"),
    ],
)
def test_an_impossible_transfer_is_refused(first, tmp_path, changes, words):
    how = How(runs_dir=tmp_path, on="here")
    impossible = changed(SMALL, {"start_from": first} | changes)
    with pytest.raises(RunError, match=words):
        sweep({"second": impossible}, how, QUIET)
    assert not (tmp_path / "second").exists()


def test_a_run_that_did_not_end_is_nothing_to_start_from(first, tmp_path):
    how = How(runs_dir=tmp_path, on="here")
    run = Run.open(shutil.copytree(first, tmp_path / "first"))
    run.cut(2)
    with pytest.raises(RunError, match="must be trained to its end, step 6"):
        sweep({"second": changed(SMALL, {"start_from": run.path})}, how, QUIET)
