"""Every file of a run, damaged in every way: each tool goes on without it or says so in a line, and nothing is lost."""

import contextlib
import io
import os
import shutil
import threading

import pandas as pd
import pytest
from rich.console import Console

from compo_mech.cli import probe
from compo_mech.cli.commands import over_runs_command
from compo_mech.cli.compare import compare_command
from compo_mech.cli.draw import command_to_draw
from compo_mech.launch import group_size
from compo_mech.launch.how import How
from compo_mech.launch.run import launch
from compo_mech.launch.settings import Launch
from compo_mech.launch.sweep import sweep
from compo_mech.launch.sweep_progress import state_of
from compo_mech.report import run_page
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.files import read_plain
from compo_mech.runs.names import opened
from compo_mech.runs.outcome import summary_or_failure
from compo_mech.runs.run import Run
from compo_mech.runs.stored import altered
from compo_mech.runs.sums import NAME, write_sums
from compo_mech.runs.trajectory import Measured, Quantity, follow

QUIET = Console(quiet=True)
VOUCHED = ("config.json", "environment.json", "metrics.csv", "checkpoints/000040.safetensors",
           "checkpoints/000020.safetensors", "checkpoints/000040.resume.safetensors")  # fmt: skip
FILES = (*VOUCHED, f"checkpoints/{NAME}", "analysis/look-000040-parity/section.html")


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


HARMS = {
    "missing": lambda content: None,
    "empty": lambda content: b"",
    "cut to 35%": lambda content: content[: int(0.35 * len(content))],
    "cut by one byte": lambda content: content[:-1],
    "a bit flipped": flipped,
    "no text": lambda content: b"\xff\xfe\x00" + content,
    "a list": lambda content: b"[1, 2]",
    "nested deep": lambda content: b'{"data": ' + b"[" * 100_000,
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
}


@pytest.fixture
def run(tiny_run):
    tiny_run.write_analysis("look-000040-parity", {"section.html": "<p>seen</p>", "circuit.json": "{}"})
    return tiny_run


class Harmed:
    """Inside, one file of a run is damaged; afterwards the folder is as it was."""

    def __init__(self, path, harm):
        self.path, self.harm = path, harm

    def __enter__(self):
        self.before = self.path.read_bytes()
        self.path.unlink()
        self.ended, self.n_waited = threading.Event(), 0
        if self.harm in (os.mkfifo, os.mkdir):
            self.harm(self.path)
        elif (content := self.harm(self.before)) is not None:
            self.path.write_bytes(content)
        self.writer = threading.Thread(target=self.free_readers, daemon=True)
        if self.harm is os.mkfifo:
            self.writer.start()

    def free_readers(self):
        """Whoever opened the pipe waits for a writer: is one for a moment, and counts that."""
        while not self.ended.wait(0.01):
            with contextlib.suppress(OSError):  # nobody waits
                os.close(os.open(self.path, os.O_WRONLY | os.O_NONBLOCK))
                self.n_waited += 1

    def __exit__(self, *error):
        self.ended.set()
        if self.writer.is_alive():
            self.writer.join()
        assert self.n_waited == 0, "a pipe was waited for"
        if self.path.is_dir():
            self.path.rmdir()
        elif self.path.exists():
            self.path.unlink()
        self.path.write_bytes(self.before)


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def norm(model):
    return [Measured(Quantity("norm"), float(model.params["embed.W_E"].norm()))]


LIGHT = {
    "the last checkpoint": lambda run: Run.open(run.path).params(),
    "every checkpoint": lambda run: dict(Run.open(run.path).checkpoints()),
    "those that can be read": lambda run: Run.open(run.path).readable(3),
    "rows": lambda run: Run.open(run.path).metrics,
    "the command": lambda run: Run.open(run.path).command,
    "sections": lambda run: Run.open(run.path).sections,
    "a finding": lambda run: Run.open(run.path).found("look", "section.html"),
    "resuming": lambda run: Run.open(run.path).resumable(),
    "overwriting": lambda run: Run.create(run.path, run.config, overwrite=True),
    "a summary": lambda run: summary_or_failure(run.path),
    "many runs": lambda run: opened([run.path]),
    "the state of a sweep": lambda run: state_of(as_launch(run)),
}


def as_launch(run, **more):
    settings = {name: getattr(run.config, name) for name in type(run.config).model_fields}
    return Launch(**settings, runs_dir=run.path.parent, name=run.path.name, **more)


@pytest.mark.parametrize("file", FILES)
def test_whatever_is_wrong_with_a_file_is_one_line_and_nothing_is_lost(run, file):
    whole = contents(run.path)
    for harm in HARMS.values():
        with Harmed(run.path / file, harm):
            before = contents(run.path)
            complaints = {}
            for name, tool in LIGHT.items():
                if name == "overwriting" and file.startswith("analysis"):
                    continue  # which is replaced with the run
                try:
                    tool(run)
                except RunError as error:
                    complaints[name] = str(error)
            assert not [said for said in complaints.values() if "\n" in said or len(said) > 1000]
            assert contents(run.path) == before
            if file in VOUCHED or file.endswith(NAME):
                assert "overwriting" in complaints
            if file == "config.json":
                assert file in problem_of(run)
            else:
                assert any(file in problem for problem in Run.open(run.path).problems())
    assert contents(run.path) == whole
    assert run.problems() == []


def problem_of(run):
    with pytest.raises(RunError) as caught:
        Run.open(run.path)
    return str(caught.value)


def test_what_does_not_need_the_damaged_file_is_still_read(run):
    reads = {
        "environment.json": ("the last checkpoint", "rows", "resuming", "a summary"),
        "metrics.csv": ("the last checkpoint", "every checkpoint", "the command"),
        "checkpoints/000040.safetensors": ("rows", "the command", "those that can be read", "resuming"),
        "checkpoints/000020.safetensors": ("the last checkpoint", "rows", "resuming"),
        f"checkpoints/{NAME}": ("the command", "rows"),
    }
    for file, tools in reads.items():
        for harm in (HARMS["a bit flipped"], HARMS["missing"], HARMS["a pipe"]):
            with Harmed(run.path / file, harm):
                for name in tools:
                    LIGHT[name](run)


@pytest.mark.parametrize("file", ["config.json", "metrics.csv", "environment.json"])
def test_no_flipped_bit_is_believed(run, file):
    content = (run.path / file).read_bytes()
    for place in range(0, len(content), len(content) // 60):
        for bit in (1, 16):
            flip = content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]
            (run.path / file).write_bytes(flip)
            with pytest.raises(RunError, match=file):
                LIGHT["the command" if file == "environment.json" else "rows"](run)


def test_rows_after_the_last_checkpoint_are_not_believed_and_those_before_are(run):
    last = run.steps[-2]
    run.cut(last)
    rows = run.metrics
    with (run.path / "metrics.csv").open("ab") as file:
        file.write(b"39,train,parity,,,,loss,0.5\n39,tra\xff")
    pd.testing.assert_frame_equal(Run.open(run.path).metrics, rows)
    assert run.resumable()[0] == last


def test_without_its_list_a_run_says_that_the_list_is_missing(run):
    """Its checkpoints are all there, so that they are not what is missing."""
    list_of_sums = run.path / "checkpoints" / NAME
    list_of_sums.unlink()
    with pytest.raises(RunError, match=rf"^{list_of_sums}: is missing, so no checkpoint counts$"):
        run.params()


def test_a_list_that_lost_a_line_at_its_end_is_known_for_it(run):
    file = run.path / "checkpoints" / NAME
    lines = file.read_text().splitlines(keepends=True)
    for kept in (lines[:-1], lines[:-2], lines[:-2] + lines[-1:], lines[1:], lines[:3]):
        file.write_text("".join(kept))
        (problem,) = [line for line in Run.open(run.path).problems() if NAME in line and "own checksum" in line]
        assert problem.startswith(str(file))
        with pytest.raises(RunError, match="own checksum"):
            Run.open(run.path).resumable()


def test_a_run_of_an_earlier_version_is_read_and_says_what_is_not_vouched_for(run):
    file = run.path / "checkpoints" / NAME
    listed = [line for line in file.read_text().splitlines(keepends=True) if "../" not in line and line[0] != "#"]
    file.write_text("".join(listed))
    old = Run.open(run.path)
    assert old.params().keys() == run.params().keys()
    assert len(old.metrics) == len(run.metrics)
    (problem,) = old.problems()
    assert "config.json, environment.json, metrics.csv" in problem
    content = (run.path / "metrics.csv").read_bytes()
    (run.path / "metrics.csv").write_bytes(content[: int(0.35 * len(content))])
    with pytest.raises(RunError, match="has no rows of step 40, which has a checkpoint"):
        _ = old.metrics


def test_settings_that_contradict_the_checkpoint_are_refused(run):
    """Also where nothing vouches for them."""
    file = run.path / "checkpoints" / NAME
    listed = [line for line in file.read_text().splitlines(keepends=True) if "../" not in line and line[0] != "#"]
    file.write_text("".join(listed))
    config = (run.path / "config.json").read_text()
    for ours, theirs in (('"LN"', '"none"'), ('"n_layers": 2', '"n_layers": 1'), ('"n_heads": 1', '"n_heads": 2')):
        assert ours in config
        (run.path / "config.json").write_text(config.replace(ours, theirs))
        with pytest.raises(RunError, match="is of another network, it has"):
            Run.open(run.path).params()
    for other in ("{}", '{"architectures": ["GPT2LMHeadModel"]}'):
        (run.path / "config.json").write_text(other)
        assert "config.json" in problem_of(run)


# ------------------------------------------------------------------------------ whole tools


def drawn(runs):
    raise AssertionError("runs that cannot be opened were drawn")


@pytest.mark.parametrize("file", ["environment.json", "metrics.csv", "checkpoints/000040.safetensors"])
def test_a_page_is_written_without_what_is_damaged_and_names_it(run, file):
    with Harmed(run.path / file, HARMS["cut to 35%"]):
        page = run_page.write_page(Run.open(run.path)).read_text()
    told = page[page.index("<div class=problem>") : page.index("</ul>")]
    assert file in told


def test_a_comparison_goes_on_with_the_other_runs_and_names_the_damaged_one(run, tmp_path, capsys):
    bad = shutil.copytree(run.path, tmp_path / "bad")
    (bad / "config.json").write_text("[]")
    compare_command((bad, run.path), tmp_path / "page.html")
    assert f"{bad / 'config.json'}: must hold names and values" in capsys.readouterr().out
    assert "bad/config.json: must hold" in (tmp_path / "page.html").read_text()
    with pytest.raises(SystemExit) as stop:
        compare_command((bad,), tmp_path / "other.html")
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit) as stop:
        command_to_draw(drawn, __doc__ or "")((run.path, bad), tmp_path / "figure.html")
    assert stop.value.code == 2


def test_a_table_over_runs_names_the_damaged_one_and_tells_apart_what_is_named_alike(run, tmp_path, monkeypatch):
    places = [shutil.copytree(run.path, tmp_path / place / "seed0") for place in ("a", "b", "c")]
    (places[2] / "config.json").write_text("{")
    link = tmp_path / "again"
    link.symlink_to(places[0])
    monkeypatch.setattr(probe, "rows_of", lambda run, name, task, seed: [{"run": name, "value": 1.0}])
    over_runs_command((*places, link), tmp_path / "table.csv")
    table = pd.read_csv(tmp_path / "table.csv")
    assert table["run"].tolist() == ["a/seed0", "b/seed0", "c/seed0"]
    assert "config.json" in table["failed"][2]


@pytest.fixture
def stack():
    with contextlib.ExitStack() as entered:
        yield entered


def test_a_sweep_names_damaged_runs_and_removes_none(run, tmp_path, monkeypatch, stack):
    monkeypatch.setattr(group_size, "best_group", lambda config, n, device: 1)
    runs_dir = tmp_path / "runs"
    harms = {
        "whole": ("config.json", lambda content: content),
        "rows": ("metrics.csv", HARMS["cut to 35%"]),
        "last": ("checkpoints/000040.safetensors", HARMS["a bit flipped"]),
        "settings": ("config.json", HARMS["a bit flipped"]),
        "list": (f"checkpoints/{NAME}", HARMS["missing"]),
        "pipe": (f"checkpoints/{NAME}", HARMS["a pipe"]),
    }
    for name, (file, harm) in harms.items():
        place = shutil.copytree(run.path, runs_dir / name) / file
        stack.enter_context(Harmed(place, harm))
    (runs_dir / "model").mkdir()
    (runs_dir / "model" / "config.json").write_text('{"architectures": []}')
    before = contents(runs_dir)
    table = sweep(dict.fromkeys((*harms, "model"), run.config), How(on="here", runs_dir=runs_dir), QUIET)
    states = table.set_index("run")["state"].to_dict()
    assert states.pop("whole") == "done"
    assert set(states.values()) == {"failed"}
    for name, error in table.set_index("run")["error"].items():
        assert name == "whole" or harms.get(name, ("config.json",))[0] in error
    after = contents(runs_dir)
    assert {name: after[name] for name in before} == before


def test_a_sweep_and_resuming_name_what_is_damaged_of_a_run_that_goes_on(run):
    """Its end and its rows are whole, so the sweep calls it done."""

    def told(train):
        said = io.StringIO()
        came = train(Console(file=said, width=1000))
        return came, [line for line in said.getvalue().splitlines() if line]

    how = How(on="here", runs_dir=run.path.parent)
    for file in ("environment.json", "checkpoints/000010.safetensors", "checkpoints/000030.resume.safetensors"):
        for harm in (HARMS["a bit flipped"], HARMS["missing"], HARMS["a pipe"]):
            with Harmed(run.path / file, harm):
                table, lines = told(lambda console: sweep({run.path.name: run.config}, how, console))
                assert table["state"].tolist() == ["done"]
                assert [line.startswith(f"{run.path / file}: ") for line in lines] == [True]
                _, again = told(lambda console: launch(as_launch(run, resume=True), console))
                assert again[:1] == lines  # then that nothing is left to train, and the bar
    table, lines = told(lambda console: sweep({run.path.name: run.config}, how, console))
    assert (table["state"].tolist(), lines) == (["done"], [])


def test_a_checkpoint_that_is_passed_over_is_named_and_made_anew(run, monkeypatch):
    save = Run.save

    def killed(own, step, *args):
        save(own, step, *args)
        if step == 30:
            raise KeyboardInterrupt

    def swept():
        return sweep({"two": run.config}, How(on="here", runs_dir=run.path.parent), Console(file=said, width=1000))

    said, file = io.StringIO(), run.path.parent / "two" / "checkpoints" / "000030.safetensors"
    monkeypatch.setattr(Run, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        swept()
    monkeypatch.undo()
    whole = file.read_bytes()
    file.write_bytes(HARMS["a bit flipped"](whole))
    assert swept()["state"].tolist() == ["done"]
    lines = [line for line in said.getvalue().splitlines() if line]
    assert lines == [f"{file}: is damaged, its checksum differs; it was made anew"]
    assert file.read_bytes() == whole


def test_what_is_replaced_while_it_is_read_is_not_damaged(run, monkeypatch):
    resume = run.path / "checkpoints" / "000030.resume.safetensors"
    content = Run.content

    def replaced(own, name, sums):
        if name == resume.name and resume.exists():  # by the process that trains it
            known = dict(own.sums().known)
            del known[name]
            write_sums(own.folder, known)
            resume.unlink()
        return content(own, name, sums)

    monkeypatch.setattr(Run, "content", replaced)
    assert altered(run) == []
    monkeypatch.undo()
    (run.path / "checkpoints" / "000040.resume.safetensors").unlink()
    (line,) = altered(run)
    assert line.endswith("000040.resume.safetensors: is missing")


def test_a_choice_of_how_many_at_once_that_cannot_be_read_is_made_anew(run, monkeypatch):
    monkeypatch.setattr(group_size, "best_group", lambda config, n, device: 2)
    group = [as_launch(Run(run.path, run.config.model_copy(update={"seed": seed}))) for seed in range(3)]
    assert group_size.group_size(group) == 2
    (file,) = (run.path.parent / ".groups").iterdir()
    monkeypatch.setattr(group_size, "best_group", lambda config, n, device: 1)
    assert group_size.group_size(group) == 2
    for harm in HARMS.values():
        with Harmed(file, harm):
            assert group_size.group_size(group) == 1


def test_resuming_removes_nothing_and_ends_as_an_undisturbed_run(run):
    """Notes among the checkpoints, and one whose line was lost."""
    whole = {name: content for name, content in contents(run.path).items() if not name.startswith("report")}
    (run.path / "checkpoints" / "notes.txt").write_text("the third head is odd")
    Harmed(run.path / "checkpoints" / "000040.safetensors", HARMS["cut by one byte"]).__enter__()
    launch(as_launch(run, resume=True), QUIET)
    after = contents(run.path)
    assert after.pop("checkpoints/notes.txt") == b"the third head is odd"
    assert {name: after[name] for name in whole} == whole


def test_a_measure_over_checkpoints_leaves_out_what_is_damaged(run):
    told = {}
    with Harmed(run.path / "checkpoints" / "000020.safetensors", HARMS["a pipe"]):
        table = follow(run, "norm", {}, norm, __name__, lambda step, problem: told.update({step: problem}))
    assert "no plain file" in told[20]
    assert 20 not in table["step"].dropna().tolist()


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="no plain file"):
        read_plain(tmp_path / "pipe")


# ------------------------------------------------------------------------------ what cannot be read


def closed(*folders):
    """Inside, nobody may read these folders."""

    @contextlib.contextmanager
    def all_closed():
        for folder in folders:
            folder.chmod(0)
        try:
            yield
        finally:
            for folder in reversed(folders):
                folder.chmod(0o755)

    return all_closed()


def test_a_folder_that_cannot_be_read_is_one_line_that_names_it(run, modes_bind):
    for place in (".", "checkpoints", "analysis", "analysis/look-000040-parity"):
        folder = run.path / place
        complaints = {}
        with closed(folder):
            for name, tool in LIGHT.items():
                try:
                    tool(run)
                except RunError as error:
                    complaints[name] = str(error)
            if place != ".":
                assert place.split("/")[0] in " ".join(complaints.values()) + " ".join(Run.open(run.path).problems())
        assert not [said for said in complaints.values() if "\n" in said or str(run.path) not in said]
        assert "overwriting" in complaints
        if place == ".":
            assert complaints["every checkpoint"] == f"run = {run.path}: cannot be read (Permission denied)"
    assert run.problems() == []
    with pytest.raises(RunError, match="cannot be read"):
        Run.open("x" * 300)


def test_checkpoints_that_can_be_read_but_not_listed(run, modes_bind):
    folder = run.path / "checkpoints"
    folder.chmod(0o300)
    try:
        assert Run.open(run.path).params().keys() == run.params().keys()
        assert run.problems() == [f"{folder}: cannot be read (Permission denied)"]
        (folder / NAME).rename(run.path / NAME)
        with pytest.raises(RunError, match="checkpoints: cannot be read"):
            run.has_unlisted_work()
        assert f"{folder}: cannot be read (Permission denied)" in run.damage()
        (run.path / NAME).rename(folder / NAME)
    finally:
        folder.chmod(0o755)


def test_one_run_that_cannot_be_read_stops_no_other(run, tmp_path, monkeypatch, capsys, modes_bind):
    other = shutil.copytree(run.path, tmp_path / "closed")
    monkeypatch.setattr(probe, "rows_of", lambda run, name, task, seed: [{"run": name, "value": 1.0}])
    monkeypatch.setattr(group_size, "best_group", lambda config, n, device: 1)
    with closed(other):
        over_runs_command((run.path, other), tmp_path / "table.csv")
        compare_command((run.path, other), tmp_path / "page.html")
        table = sweep(dict.fromkeys(("one", "closed"), run.config), How(on="here", runs_dir=tmp_path), QUIET)
    told = f"run = {other}: cannot be read (Permission denied)"
    assert pd.read_csv(tmp_path / "table.csv")["failed"].tolist()[1] == told
    assert told in (tmp_path / "page.html").read_text()
    assert table["state"].tolist() == ["done", "failed"]
    assert table["error"].tolist()[1] == f"RunError: {told}"


def test_a_name_that_is_not_utf8_is_told_and_stops_nothing(run, tmp_path, monkeypatch, capsys):
    odd, told = os.fsdecode(b"r\xe9"), r"r\udce9"
    other = shutil.copytree(run.path, tmp_path / odd)
    (run.path / "checkpoints" / odd).touch()
    monkeypatch.setattr(probe, "rows_of", lambda run, name, task, seed: [{"run": name, "value": 1.0}])
    assert told in run_page.write_page(Run.open(run.path)).read_text()
    assert told in run_page.write_page(Run.open(other)).read_text()
    compare_command((run.path, other), tmp_path / "page.html")
    assert told in (tmp_path / "page.html").read_text()
    (other / "config.json").write_text("{")
    over_runs_command((run.path, other), tmp_path / "table.csv")
    table = pd.read_csv(tmp_path / "table.csv")
    assert table["run"].tolist() == ["one", told]
    assert f"{told}/config.json" in table["failed"][1]
    assert told in capsys.readouterr().out
    with pytest.raises(ValueError, match="must be UTF-8"):
        sweep({"one": run.config}, How(on="here", runs_dir=other), QUIET)
