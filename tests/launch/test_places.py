"""Where runs go and by what names they are known: links, `..`, and names that other tools take for something else."""

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
from rich.console import Console

from compo_mech.cli.output import say, write_table
from compo_mech.launch import slurm
from compo_mech.launch import sweep as sweeps
from compo_mech.launch.ensemble import check
from compo_mech.launch.grid import grid, read_axis
from compo_mech.launch.how import How
from compo_mech.launch.run import begin
from compo_mech.launch.settings import Launch, parse
from compo_mech.launch.slurm_settings import SlurmConfig
from compo_mech.launch.sweep import sweep
from compo_mech.runs import recipes
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.files import write_whole
from compo_mech.runs.locks import locked
from compo_mech.runs.names import distinct, once
from compo_mech.settings import changed

QUIET = Console(quiet=True)


@pytest.fixture
def folders(tmp_path):
    """One folder by three spellings."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "runs")
    return [tmp_path / "runs", tmp_path / "link", tmp_path / "runs" / ".." / "link"]


def test_a_run_is_its_resolved_path(folders, tmp_path):
    runs, link, dotted = folders
    paths = [folder / "one" for folder in folders]
    assert once(paths) == paths[:1]
    assert once([paths[2], tmp_path / "two", paths[0]]) == [paths[2], tmp_path / "two"]
    assert distinct([runs / "a" / "x", link / "b" / "x", dotted / "b" / "y"]) == ["a/x", "b/x", "b/y"]
    names = distinct([*paths, tmp_path / "one (2)"])
    assert names[0] == "one"
    assert len(set(names)) == len(names)
    for name in ("one", "two"):
        (tmp_path / "x" / name).mkdir(parents=True)
    assert len(set(distinct([tmp_path / "x" / "one", tmp_path / "one", tmp_path / "x" / "two"]))) == 3


def test_two_spellings_of_a_folder_are_one_run(folders, tiny, tmp_path):
    settings = {name: getattr(tiny, name) for name in type(tiny).model_fields}
    launches = [Launch(**settings, runs_dir=folder, name="one") for folder in folders]
    with pytest.raises(RunError, match="is the folder of two of the runs"):
        check(launches[:2])
    assert len({slurm._key(launch) for launch in launches}) == 1
    for other in launches[1:]:
        with locked(launches[0].path), pytest.raises(RunError, match="is being trained"), locked(other.path):
            pass


def test_names_of_a_sweep_that_lead_to_one_folder_are_refused(tiny, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(ValueError, match="two of the runs share a folder"):
        sweep({"one": tiny, "two": changed(tiny, {"seed": 1})}, How(on="here", runs_dir=tmp_path), QUIET)
    assert not list((tmp_path / "one").iterdir())


@pytest.mark.parametrize("value", ["../../..", "/etc", "a/../../b"])
def test_a_sweep_stays_in_its_folder(value, tiny, tmp_path, monkeypatch):
    name, values = read_axis(f"start_from={value}")
    (folder,) = grid(tiny, {name: values})
    path = Launch(name=f"parity,{folder}", runs_dir=tmp_path).path
    assert path.parent == tmp_path
    trained = []
    monkeypatch.setattr(sweeps, "_here", trained.extend)
    with pytest.raises(ValueError, match="must be the name of one folder"):
        sweep({value: tiny}, How(on="here", runs_dir=tmp_path), QUIET)
    assert trained == []


NAMES = {
    ".r": "must begin with", ".r.part": "must begin with", "-r": "must begin with", "=1+1": "must begin with",
    "+1": "must begin with", "@r": "must begin with", " r": "must begin with", "r.part": "not end in .part",
    "r.0123.old": "not end in .part or .old", "failures": "not be failures", "a\nb": "must be printable",
    "a\x1b[31m": "must be printable", "a/b": "one folder", "a\\b": "one folder", "..": "one folder", "": "one folder",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_that_something_else_has_or_takes_are_refused(name, capsys):
    with pytest.raises(ValueError, match=NAMES[name]):
        Launch(name=name)
    with pytest.raises(SystemExit) as stop:
        parse(recipes.parity(), ["--name", name] if not name.startswith("-") else [f"--name={name}"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "name", ["parity-seed0", "automaton,transitions=((1, 0), (0, 1)),seed=0", "_1", "größe", "a[b]"]
)
def test_names_that_people_and_sweeps_give_are_taken(name):
    assert Launch(name=name).path.name == name


@pytest.mark.parametrize("field", ["partition", "account", "qos"])
@pytest.mark.parametrize("value", ["me\n#SBATCH --uid=0", "a b", "", "x\t", "a;b", "$(id)", "#"])
def test_what_goes_into_a_job_s_script_is_one_word(field, value):
    with pytest.raises(ValueError, match=f"^{field} = .*: must be one word"):
        SlurmConfig(**{field: value})
    assert getattr(SlurmConfig(**{field: "gpu,cpu@lab+1"}), field) == "gpu,cpu@lab+1"


def test_a_folder_that_would_add_a_line_to_a_job_s_script_is_refused(tmp_path):
    folder = tmp_path / "runs\n#SBATCH --uid=0"
    with pytest.raises(ValueError, match="must be UTF-8 without control characters"):
        slurm.submit([Launch(runs_dir=folder)], print, folder, SlurmConfig())
    assert not folder.exists()


def test_another_run_s_name_is_never_that_of_a_temporary_folder(tiny, tmp_path):
    """Whatever lies beside a run that is begun stays."""
    beside = [tmp_path / name for name in (".one.part", ".one.old", ".one.0123456789ab.part.txt")]
    for folder in beside:
        folder.mkdir()
        (folder / "thesis.txt").write_text("years of work")
    settings = {name: getattr(tiny, name) for name in type(tiny).model_fields}
    with contextlib.ExitStack() as held:
        begin(Launch(**settings, runs_dir=tmp_path, name="one"), held)
    assert all((folder / "thesis.txt").exists() for folder in beside)


# -------------------------------------------------------------------------------- what is written


def test_writers_at_once_leave_one_of_their_files_whole(tmp_path):
    pages = [bytes([65 + n]) * 200_000 for n in range(4)]
    read, ended = [], threading.Event()

    def write(page):
        for _ in range(25):
            write_whole(tmp_path / "page.html", page)

    def watch():
        while not ended.is_set():
            if (tmp_path / "page.html").exists():
                read.append((tmp_path / "page.html").read_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(len(pages)) as pool:
            list(pool.map(write, pages))  # raises what a writer did
    finally:
        ended.set()
        watcher.join()
    assert set(read) <= set(pages)
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_what_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch):
    page, link = tmp_path / "page.html", tmp_path / "link.html"
    page.write_text("first")
    link.symlink_to(page)
    write_whole(link, "second")
    assert link.is_symlink()
    assert page.read_text() == "second"

    def full(descriptor):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left") as caught:
            write_whole(page, "third")
    assert caught.value.filename == str(page)
    assert page.read_text() == "second"
    (tmp_path / "folder.csv").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder.csv", "pipe", "no/such.csv"):
        with pytest.raises(OSError, match=name):
            write_whole(tmp_path / name, "x")
    assert {path.name for path in tmp_path.iterdir()} == {"page.html", "link.html", "folder.csv", "pipe"}


def test_no_cell_of_a_table_is_a_formula_and_numbers_stay(tmp_path):
    table = pd.DataFrame(
        {"run": ["=1+1", "+x", "-x", "@x", "\tx", "plain", None], "n": pd.array([1, None, -3, 4, 5, 6, 7], "Int64"),
         "value": [-0.5, 1.0, float("inf"), 0.0, 1.0, 2.0, 1 / 3]}
    )  # fmt: skip
    write_table(tmp_path / "t.csv", table)
    text = (tmp_path / "t.csv").read_text()
    assert text.splitlines()[1:5] == ["'=1+1,1,-0.5", "'+x,,1.0", "'-x,-3,inf", "'@x,4,0.0"]
    plain = table.drop(columns="run")
    write_table(tmp_path / "p.csv", plain, "%.3g")
    assert (tmp_path / "p.csv").read_text() == plain.to_csv(index=False, float_format="%.3g")


def test_names_are_printed_as_they_are(capsys):
    say(Console(width=20), "Look at runs/[red]one[/red]/:bug:/a long name that does not fit the line", "yellow")
    assert "runs/[red]one[/red]/:bug:/a long name that does not fit the line\n" in capsys.readouterr().out
