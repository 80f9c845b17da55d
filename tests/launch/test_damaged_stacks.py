"""Stacks whose files were changed or lost: of one whose list is not whole nothing is believed, and nothing lost."""

import io
import os
import shutil

import pytest
from rich.console import Console
from test_stacks import Watched, contents, small

from compo_mech.launch import stack as stacks
from compo_mech.launch.how import How
from compo_mech.launch.stack import train_stack
from compo_mech.launch.stack_groups import stack_groups
from compo_mech.launch.sweep import sweep
from compo_mech.runs.outcome import summary_or_failure
from compo_mech.runs.stack import SETTINGS, Stack
from compo_mech.runs.stack_members import of_seeds
from compo_mech.runs.stacked_run import StackedRun, open_run
from compo_mech.runs.start import starting_params
from compo_mech.runs.sums import NAME, read_sums, write_sums
from compo_mech.runs.vouched import RunError

FOLDER = "p-seeds0-1"


def asked(n=2):
    return {f"p-seed{seed}": small(seed=seed) for seed in range(n)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_stack(tmp_path_factory.mktemp("whole") / FOLDER, of_seeds(small(), [0, 1]), "cpu", Watched()).path


@pytest.fixture
def path(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / FOLDER)


def swept(folder, n=2):
    """The table of a sweep, and the lines that it said."""
    said = io.StringIO()
    table = sweep(asked(n), How(on="stacks", runs_dir=folder), Console(file=said, width=1000))
    return table, [line for line in said.getvalue().splitlines() if line]


def flip(file):
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def instead(make):
    def harm(file):
        file.unlink()
        make(file)

    return harm


def without(*words):
    def harm(file):
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(line for line in lines if not any(word in line for word in words)))

    return harm


def signed_without_settings(file):
    write_sums(file.parent, {name: own for name, own in read_sums(file.parent).known.items() if name != SETTINGS})


HARMS = {
    "is missing": lambda file: file.unlink(),
    "it is empty": lambda file: file.write_text(""),
    "1 of its lines cannot be read": lambda file: file.write_text(file.read_text().replace("  000006.rows", " 000006")),
    "its own checksum is missing": without("#", "000012", "000006.rows"),
    "its own checksum differs": without("000006.rows"),
    "it does not list ../stack.json": signed_without_settings,
    "no plain file": instead(os.mkfifo),
    "cannot be read": instead(os.mkdir),
}


@pytest.mark.parametrize("told", HARMS)
def test_a_stack_whose_list_is_not_whole_is_refused_and_left_as_it_is(path, told):
    opened = Stack.open(path)
    step, params, resume = opened.resumable()
    HARMS[told](path / "checkpoints" / NAME)
    before = contents(path)
    table, _ = swept(path.parent)
    assert set(table["state"]) == {"failed"}
    assert all(f"RunError: {path / 'checkpoints' / NAME}: " in error and told in error for error in table["error"])
    reads = {
        "opening": lambda: Stack.open(path),
        "a run": lambda: open_run(path / "seed0"),
        "a start": lambda: starting_params(small(start_from=path)),
        "steps": lambda: opened.steps,
        "the end": lambda: opened.is_done,
        "networks": opened.params,
        "rows": opened.all_rows,
        "rows by step": lambda: list(opened.measured()),
        "resuming": opened.resumable,
        "forgetting": lambda: opened.forget(0),
        "saving rows": lambda: opened.save_rows(step, []),
        "saving networks": lambda: opened.save_networks(step, params, resume, "last"),
        "writing out": lambda: StackedRun(opened, "seed0").write_run(path.parent / "one"),
    }
    for read in reads.values():
        with pytest.raises(RunError, match=NAME):
            read()
    assert NAME in str(summary_or_failure(path / "seed0")["failed"])
    assert contents(path) == before
    assert not (path.parent / "one").exists()


def test_a_stack_with_a_damaged_end_or_row_is_no_success_and_with_anything_else_damaged_is_named(path):
    for file, state in (
        ("checkpoints/000012.safetensors", "failed"),
        ("checkpoints/000001.rows.safetensors", "failed"),
        ("checkpoints/000006.safetensors", "done"),
        ("checkpoints/000012.resume.safetensors", "done"),
        ("environment.json", "done"),
    ):
        whole = (path / file).read_bytes()
        for content in (b"[]", b"{}", bytes([whole[0] ^ 1]) + whole[1:], None):
            (path / file).unlink()
            if content is not None:
                (path / file).write_bytes(content)
            table, said = swept(path.parent)
            assert set(table["state"]) == {state}, (file, content)
            assert [str(path / file) in line for line in said] == [True], said
            assert state == "done" or table["error"].str.contains(file).all()
            (path / file).write_bytes(whole)
    table, said = swept(path.parent)
    assert (set(table["state"]), set(table["error"]), said) == ({"done"}, {""}, [])


@pytest.mark.parametrize("file", ["000000.safetensors", "000006.safetensors", "000012.resume.safetensors"])
def test_a_run_is_written_out_whole_or_not_at_all(path, file):
    flip(path / "checkpoints" / file)
    with pytest.raises(RunError, match=f"{file}: is damaged"):
        StackedRun(Stack.open(path), "seed0").write_run(path.parent / "one")
    assert not (path.parent / "one").exists()


@pytest.fixture(scope="module")
def stopped_at_6(tmp_path_factory):
    path = tmp_path_factory.mktemp("stopped") / FOLDER
    with pytest.raises(KeyboardInterrupt):
        train_stack(path, of_seeds(small(), [0, 1]), "cpu", Watched(6))
    return path


@pytest.fixture
def stopped(stopped_at_6, tmp_path):
    return shutil.copytree(stopped_at_6, tmp_path / FOLDER)


def test_a_damaged_checkpoint_that_is_passed_over_is_named_and_made_anew(trained, stopped):
    path = stopped
    assert Stack.open(path).steps == [0, 1, 2, 4, 6]
    flip(path / "checkpoints" / "000006.safetensors")
    table, said = swept(path.parent)
    assert set(table["state"]) == {"done"}
    damaged = path / "checkpoints" / "000006.safetensors"
    assert said == [f"{damaged}: is damaged, its checksum differs; it was made anew"]
    assert contents(path / "checkpoints") == contents(trained / "checkpoints")


@pytest.mark.parametrize(("step", "goes_on"), [(6, True), (4, False), (1, False)])
def test_a_stack_goes_on_only_where_every_row_before_is_whole(stopped, step, goes_on):
    """At steps 4 and 6 it can go on."""
    path = stopped
    flip(path / "checkpoints" / f"{step:06d}.rows.safetensors")
    before = contents(path)
    table, _ = swept(path.parent)
    assert set(table["state"]) == {"done" if goes_on else "failed"}
    if not goes_on:
        assert all(error.count(f"{step:06d}.rows.safetensors: is damaged") == 1 for error in table["error"])
        assert contents(path) == before


@pytest.mark.parametrize("harm", [lambda path: flip(path / "stack.json"), lambda path: (path / "stack.json").unlink()])
def test_a_stack_that_cannot_be_read_is_named_where_its_runs_are_trained_anew(path, harm):
    told = []
    assert len(stack_groups(asked(3), 256, path.parent, told.append)) == 2
    assert told == []
    harm(path)
    before = contents(path)
    assert [group.folder for group in stack_groups(asked(3), 256, path.parent, told.append)] == ["p-seeds0-2"]
    (line,) = told
    assert line.startswith(f"{path / 'stack.json'}: is ")
    assert line.endswith("; whatever runs it holds are trained anew elsewhere if they are asked for")
    stack_groups(asked(2), 256, path.parent, told.append)  # which are its own: that it is damaged is their failure
    assert told == [line]
    assert set(swept(path.parent)[0]["state"]) == {"failed"}
    assert contents(path) == before


def test_what_a_killed_process_had_begun_is_no_stack(path):
    path.rename(path.with_name(f".{FOLDER}.0123456789ab.part"))
    told = []
    assert [group.folder for group in stack_groups(asked(), 256, path.parent, told.append)] == [FOLDER]
    assert told == []


def test_a_full_disk_is_told_as_one_line_without_a_number(path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "/somewhere")

    Stack.open(path).forget(6)
    monkeypatch.setattr(stacks.Stack, "save_rows", full)
    table, _ = swept(path.parent)
    assert set(table["error"]) == {f"RunError: stack = {path}: cannot be written (No space left on device)"}
