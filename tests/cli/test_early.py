"""Where results go is asked before anything is computed; what cannot be tracked or resumed is refused as early."""

import pytest
import torch
from rich.console import Console

from compo_mech.cli.commands import watch_command
from compo_mech.launch import run as launching
from compo_mech.launch.run import launch
from compo_mech.launch.settings import Launch
from compo_mech.launch.tracker import check_tracking, tracked_as
from compo_mech.runs.checkpoints import RunError

QUIET = Console(quiet=True)


def refused(capsys, *given, **named):
    with pytest.raises(SystemExit) as stop:
        watch_command(*given, **named)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("error: ")


def never(*args, **kwargs):
    raise AssertionError("computed")


def test_a_run_that_cannot_be_written_is_told_before_it_is_analysed(tiny_run, monkeypatch, capsys):
    monkeypatch.setattr("compo_mech.cli.watch.watch", never)
    (tiny_run.path / "analysis").write_text("a file", encoding="utf-8")
    line = refused(capsys, tiny_run.path)
    assert line == f"run = {tiny_run.path}: cannot be written (Not a directory); --out FOLDER writes elsewhere"


@pytest.mark.parametrize("out", ["none", "file"])
def test_a_folder_for_results_that_is_none(tiny_run, monkeypatch, tmp_path, capsys, out):
    monkeypatch.setattr("compo_mech.cli.watch.watch", never)
    (tmp_path / "file").write_text("a file", encoding="utf-8")
    assert refused(capsys, tiny_run.path, out=tmp_path / out).startswith(f"out = {tmp_path / out}: must be a folder")


def test_results_go_elsewhere_and_the_run_stays_as_it_was(tiny_run, monkeypatch, tmp_path, capsys):
    def read_only(*args):
        raise RunError("analysis = cannot be written")

    for name in ("remember", "write_analysis", "write_report"):
        monkeypatch.setattr(type(tiny_run), name, read_only)
    before = sorted(tiny_run.path.rglob("*"))
    out = tmp_path / "elsewhere"
    out.mkdir()
    watch_command(tiny_run.path, n_workers=1, every=9, out=out)
    (folder,) = out.iterdir()
    assert {"by-step.csv", "section.html", "findings.txt"} <= {file.name for file in folder.iterdir()}
    assert sorted(tiny_run.path.rglob("*")) == before


def test_a_task_whose_inputs_do_not_matter_is_watched(tmp_path, tiny, capsys):
    spelled = "automaton(transitions=((1, 1), (0, 0)))"
    config = type(tiny).model_validate(tiny.model_dump() | {"data": {"tasks": (spelled,), "max_length": 4}})
    settings = {name: getattr(config, name) for name in type(config).model_fields}
    run = launch(Launch(**settings, runs_dir=tmp_path, name="one"), QUIET)
    watch_command(run.path, n_workers=1, every=9)
    assert "accuracy" in capsys.readouterr().out


def test_tracking_that_is_not_there_is_refused_before_there_is_a_folder(tmp_path, tiny, monkeypatch):
    settings = {name: getattr(tiny, name) for name in type(tiny).model_fields}
    asked = Launch(**settings, runs_dir=tmp_path / "runs", wandb="online")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RunError, match="wandb = 'online': needs the package wandb"):
        launch(asked, QUIET)
    assert not (tmp_path / "runs").exists()
    check_tracking("disabled")


def test_tracking_without_a_login_is_refused(monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setattr(type(wandb.api), "api_key", None, raising=False)
    with pytest.raises(RunError, match="wandb = 'online': must be offline, or somebody must be logged in"):
        check_tracking("online")
    check_tracking("offline")


def test_a_resumed_run_is_tracked_as_the_last_time(tmp_path):
    assert tracked_as(tmp_path) is None
    for name in ("offline-run-20250101_100000-aaa", "run-20250102_090000-bbb", "run-20241231_235959-ccc"):
        (tmp_path / "wandb" / name).mkdir(parents=True)
    assert tracked_as(tmp_path) == "bbb"


def test_resuming_on_another_kind_of_device_is_refused_and_nothing_is_forgotten(tiny_run, monkeypatch):
    resumable = type(tiny_run).resumable

    def of_a_gpu(self, at_most=None):
        step, params, tensors, damaged = resumable(self, at_most)
        return step, params, tensors | {"generator": torch.zeros(16, dtype=torch.uint8)}, damaged  # as CUDA's state is

    monkeypatch.setattr(type(tiny_run), "resumable", of_a_gpu)
    before = {file: file.read_bytes() for file in tiny_run.path.rglob("*") if file.is_file()}
    with pytest.raises(RunError, match="device = 'cpu': must be of the kind that the run was trained on"):
        launching.go_back(tiny_run, "cpu", QUIET, at_most=30)
    assert {file: file.read_bytes() for file in tiny_run.path.rglob("*") if file.is_file()} == before
