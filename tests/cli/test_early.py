"""Where results go is asked before anything is computed; what cannot be tracked or resumed is refused as early."""

import errno
import os
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from rich.console import Console

from compo_mech.cli.command import call
from compo_mech.cli.commands import watch_command
from compo_mech.cli.output import check_out
from compo_mech.launch import main as training
from compo_mech.launch import run as launching
from compo_mech.launch.how import How
from compo_mech.launch.run import launch
from compo_mech.launch.settings import Launch, parse
from compo_mech.launch.sweep import sweep
from compo_mech.launch.tracker import check_tracking, tracked_as
from compo_mech.runs import recipes
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.folder import building_place
from compo_mech.runs.names import folder_problem, well_spelled
from compo_mech.studies.study import Options

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


@pytest.mark.parametrize("below", ["file", "file/runs"])
@pytest.mark.parametrize("on", ["here", "processes", "stacks"])
def test_a_folder_of_runs_that_cannot_be_is_told_before_anything_is_timed(tmp_path, tiny, monkeypatch, below, on):
    monkeypatch.setattr("compo_mech.launch.sweep.check_cost", never)
    monkeypatch.setattr("compo_mech.launch.stack_sweep.check_cost", never)
    (tmp_path / "file").write_text("a file", encoding="utf-8")
    told = f"runs_dir = {tmp_path / below}: cannot be made a folder (Not a directory)"
    with pytest.raises(ValueError, match=re.escape(told)):
        sweep({"one": tiny}, How(on=on, runs_dir=tmp_path / below), QUIET)
    settings = {name: getattr(tiny, name) for name in type(tiny).model_fields}
    with pytest.raises(ValueError, match=re.escape(told)):
        launch(Launch(**settings, runs_dir=tmp_path / below), QUIET)


def test_a_folder_of_runs_that_cannot_be_written_is_told_and_not_the_disks_room(tmp_path, tiny, monkeypatch):
    def read_only(folder):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("compo_mech.launch.machine.check_writable", read_only)
    monkeypatch.setattr("shutil.disk_usage", never)
    settings = {name: getattr(tiny, name) for name in type(tiny).model_fields}
    for runs_dir, what in ((tmp_path, "written"), (tmp_path / "runs", "made a folder")):
        told = f"runs_dir = {runs_dir}: cannot be {what} (Read-only file system)"
        with pytest.raises(ValueError, match=re.escape(told)):
            launch(Launch(**settings, runs_dir=runs_dir), QUIET)


SPELLED = "must be UTF-8 without control characters and line breaks"
PATHS = {
    "not UTF-8": ("q\udcff", SPELLED),
    "escape": ("a\x1bb", SPELLED),
    "line": ("a\nb", SPELLED),
    "separator": ("a\u2028b", SPELLED),
    "name": ("x" * 256, "must have at most 255 bytes a name and 4000 in all"),
    "letters": ("é" * 128, "must have at most 255 bytes a name and 4000 in all"),
    "path": ("a/" * 2000 + "a", "must have at most 255 bytes a name and 4000 in all"),
}


@pytest.mark.parametrize(("path", "told"), PATHS.values(), ids=PATHS)
def test_a_path_that_none_can_have_is_refused_wherever_one_is_taken(path, told, tiny, capsys):
    settings = {name: getattr(tiny, name) for name in type(tiny).model_fields}
    for taken in (
        lambda: Launch(**settings, runs_dir=path),
        lambda: How(runs_dir=path),
        lambda: Options(out=path),
        lambda: well_spelled("out", Path(path)),
    ):
        with pytest.raises(ValueError, match=f"^(runs_dir|out) = .*: {told}$") as caught:
            taken()
        assert str(caught.value).isprintable()
    for command, words in ((watch_command, [path]), (watch_command, ["run", "--out", path])):
        with pytest.raises(SystemExit) as stop:
            call(command, words)
        assert stop.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {'out' if '--out' in words else 'run'} = ")
        assert line.endswith(told)


@pytest.mark.parametrize("path", ["x" * 255, "é" * 127, "a/" * 1999 + "ab", "a\u00a0b", "..", "-"])
def test_a_path_that_one_can_have_is_taken(path):
    assert well_spelled("out", Path(path)) == Path(path) == How(runs_dir=path).runs_dir


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["run", "--out", ""], "out"),
        (["run", "--out="], "out"),
        ([""], "argument"),
        (["run", "--n-workers", "", "--every", "1"], "n_workers"),
    ],
)
def test_what_is_empty_is_refused_and_is_not_the_working_directory(words, name, capsys):
    with pytest.raises(SystemExit) as stop:
        call(watch_command, words)
    assert stop.value.code == 2
    assert capsys.readouterr().err == f"error: {name} = '': must not be empty\n"
    with pytest.raises(SystemExit) as stop:
        parse(recipes.parity(), ["--runs-dir", ""])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: runs_dir = '': must not be empty\n"


LONGEST = 236
"""Bytes of a run's name: while it is built, its folder is called `.NAME.` and 12 digits and `.part`, 255 in all."""


@pytest.mark.parametrize("name", ["x" * (LONGEST + 1), "é" * (LONGEST // 2 + 1), "x" * 256])
def test_a_name_that_is_too_long_is_refused_before_there_is_a_folder(name):
    told = f"must have at most {LONGEST} bytes, it has {len(name.encode())}"
    assert folder_problem(name) == told
    assert len(building_place(Path("x" * LONGEST)).name) == 255


@pytest.mark.parametrize("name", ["CON", "con", "NUL.txt", "aux", "Prn", "com1", "lpt9.a.b", "con .txt"])
def test_a_name_that_windows_cannot_have_is_refused(name):
    assert folder_problem(name).startswith("must not be that of a device")


@pytest.mark.parametrize(
    "name", ["x" * LONGEST, "é" * (LONGEST // 2), "console", "com0", "com10", "x.con", "a=1,b=(2, 3)"]
)
def test_a_name_that_a_folder_can_have_is_taken(name):
    assert folder_problem(name) is None


PLACE = "watch-000040-parity"


@pytest.mark.parametrize("inside", [True, False])
def test_a_place_that_results_must_not_replace(tiny_run, monkeypatch, tmp_path, capsys, inside):
    monkeypatch.setattr("compo_mech.cli.watch.watch", never)
    folder, out = (tiny_run.path / "analysis", None) if inside else (tmp_path / "out", tmp_path / "out")
    folder.mkdir()
    place = folder / PLACE
    for target in (tmp_path, tmp_path / "nowhere"):
        place.symlink_to(target)
        assert refused(capsys, tiny_run.path, out=out) == f"analysis = {place}: must be no link, since it is replaced"
        place.unlink()
    place.touch()
    assert refused(capsys, tiny_run.path, out=out) == f"analysis = {place}: must be a folder, or not be there yet"
    place.unlink()
    for name in ("section.html", "SHA256SUMS"):
        (place / name).mkdir(parents=True)
        told = f"analysis = {place / name}: must be a file, or not be there yet"
        assert refused(capsys, tiny_run.path, out=out) == told
        (place / name).rmdir()


def test_a_page_that_cannot_be_replaced(tiny_run, monkeypatch, capsys):
    monkeypatch.setattr("compo_mech.cli.watch.watch", never)
    monkeypatch.setattr(launching, "launch", never)
    page = tiny_run.path / "report.html"
    page.unlink(missing_ok=True)
    words = ["--runs-dir", str(tiny_run.path.parent), "--name", "one", "--resume"]
    for make, undo in ((page.mkdir, page.rmdir), (lambda: os.mkfifo(page), page.unlink)):
        make()
        told = f"page = {page}: must be a file, or not be there yet"
        assert refused(capsys, tiny_run.path) == told
        with pytest.raises(SystemExit) as stop:
            training.main(tiny_run.config, words)
        assert stop.value.code == 2
        assert capsys.readouterr().err == f"error: {told}\n"
        undo()


def test_an_output_that_is_a_file_of_a_run_or_a_link(tiny_run, tmp_path):
    folder = tiny_run.write_analysis("look-000040-parity", {"a.csv": "x"})
    tiny_run.remember("norm-0123456789abcdef", pd.DataFrame({"x": [1]}))
    (tiny_run.path / "report.html").unlink(missing_ok=True)
    for own in ("metrics.csv", "report.html", "analysis/look-000040-parity/a.csv",
                "analysis/.cache/norm-0123456789abcdef.csv"):  # fmt: skip
        with pytest.raises(ValueError, match=f"{own}: must not be a file of the run one"):
            check_out(tiny_run.path / own, ".csv", ".html")
    for free in ("mine.csv", "analysis/mine.csv", "analysis/look-000040-parity/b.csv"):
        check_out(tiny_run.path / free, ".csv")
    (folder / "mine.csv").write_text("years of work")
    link = tmp_path / "sweep.csv"
    for target in (folder / "mine.csv", tmp_path / "nowhere.csv"):
        link.symlink_to(target)
        with pytest.raises(ValueError, match=f"must be no link; {target} has to be named itself"):
            check_out(link, ".csv")
        link.unlink()
