"""Ctrl-C is one line and code 130 everywhere; it says what to do next, and nobody is left working."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from compo_mech import __main__ as door
from compo_mech import interrupts
from compo_mech.cli.command import call
from compo_mech.cli.commands import watch_command
from compo_mech.cli.errors import one_line_errors
from compo_mech.launch import main as training
from compo_mech.runs import recipes
from compo_mech.runs.run import Run
from compo_mech.runs.trajectory import Measured, Quantity, follow

WORDS = ["--data.max-length", "4", "--data.batch-size", "8", "--model.d-model", "16", "--n-test-strings", "8",
         "--train.n-steps", "4", "--train.snapshot-every", "2", "--name", "one"]  # fmt: skip


def interrupted(capsys, call_it):
    """The line with which Ctrl-C ends a command."""
    with pytest.raises(SystemExit) as stop:
        call_it()
    assert stop.value.code == 130
    (line,) = capsys.readouterr().err.splitlines()
    return line


def press(*args, **kwargs):
    raise KeyboardInterrupt


def test_any_command(capsys):
    def command() -> None:
        """Work."""
        press()

    assert interrupted(capsys, lambda: call(command, [])) == "interrupted"


def test_a_verb_whose_libraries_are_still_imported(monkeypatch, capsys):
    monkeypatch.setattr(door, "import_module", press)
    assert interrupted(capsys, lambda: door.main(["watch", "run"])) == "interrupted"


def test_an_analysis(tiny_run, monkeypatch, capsys):
    monkeypatch.setattr("compo_mech.cli.watch.watch", press)
    before = sorted(tiny_run.path.rglob("*"))
    assert interrupted(capsys, lambda: watch_command(tiny_run.path, n_workers=1)) == "interrupted"
    assert sorted(tiny_run.path.rglob("*")) == before


def test_training_before_and_after_its_first_checkpoint(tmp_path, monkeypatch, capsys):
    def train(*words):
        training.main(recipes.polynomial(), ["--runs-dir", str(tmp_path), *WORDS, *words])

    path = tmp_path / "one"
    with monkeypatch.context() as patch:
        patch.setattr(Run, "save", press)
        line = interrupted(capsys, train)
    assert line == "interrupted; there was no checkpoint yet, so the same command begins again"
    assert path.is_dir()
    with monkeypatch.context() as patch:
        patch.setattr("compo_mech.report.run_page.write_page", press)
        line = interrupted(capsys, train)  # the same command, which began again by itself
    assert line == f"interrupted; the same command with --resume goes on with {path}"
    assert Run.open(path).is_done
    train("--resume")
    assert (path / "report.html").is_file()


def test_a_full_disk_where_the_page_is_written(tmp_path, monkeypatch, capsys):
    def full(run, page):
        raise OSError(28, "No space left on device", str(run.path / "report.html"))

    monkeypatch.setattr(Run, "write_report", full)
    with pytest.raises(SystemExit) as stop:
        training.main(recipes.polynomial(), ["--runs-dir", str(tmp_path), *WORDS])
    assert stop.value.code == 2
    told = f"error: {tmp_path / 'one' / 'report.html'}: cannot be read or written (No space left on device)\n"
    assert capsys.readouterr().err == told


def die_of_two(run, model):
    """Stands for a measure that takes its process with it at one checkpoint."""
    if float(model.params["unembed.W_U"][0, 0]) == float(run.params(2)["unembed.W_U"][0, 0]):
        os.kill(os.getpid(), signal.SIGKILL)
    return [Measured(Quantity("one"), 1.0)]


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_checkpoint_with_a_line(tiny_run):
    problems = {}
    measure = partial(die_of_two, tiny_run)
    table = follow(tiny_run, "deadly", {}, measure, __name__, problems.__setitem__, n_workers=2)
    assert problems.pop(2) == "its process died"
    assert set(problems.values()) == {None}
    assert set(table["step"].dropna()) == set(tiny_run.steps) - {2}


SCRIPT = """
import os, sys, time
from pathlib import Path
from compo_mech import __main__ as door
from compo_mech.cli.command import call
from compo_mech.parallel import each
def sleep(n):
    (Path(sys.argv[1]) / str(os.getpid())).touch()
    time.sleep(600)
def command(folder: Path) -> None:
    list(each(sleep, [0, 1, 2], 2))
if __name__ == "__main__":
    call(command, ["--folder", sys.argv[1]])
"""


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_reaches_all_and_one_answers(tmp_path):
    script, folder = tmp_path / "script.py", tmp_path / "pids"
    script.write_text(SCRIPT, encoding="utf-8")
    folder.mkdir()
    parent = subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which what runs in the background ignores
    )
    end = time.monotonic() + 120
    while len(list(folder.iterdir())) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    os.killpg(parent.pid, signal.SIGINT)
    _, said = parent.communicate(timeout=60)
    assert (parent.returncode, said) == (130, "interrupted\n")
    for file in folder.iterdir():
        assert not Path(f"/proc/{file.name}").exists()


EARLY = """
import sys
class Finder:
    def find_spec(self, name, path, target=None):
        if name == "torch":  # which takes seconds
            import os, signal
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "figures/grokking.py",
        *(
            pytest.param(words, marks=pytest.mark.slow)
            for words in ("experiments/dissect.py run", "-m compo_mech compare")
        ),
    ],
)
def test_while_a_script_imports_its_libraries(tmp_path, words):
    """Pressed at the first import of torch, as a module that every process loads makes it be."""
    (tmp_path / "sitecustomize.py").write_text(EARLY, "utf-8")
    root = Path(door.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, *words.split()],
        cwd=root,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


def test_a_handler_is_put_in_place_of_python_s_alone(monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    try:
        for kept in (signal.SIG_IGN, press):
            signal.signal(signal.SIGINT, kept)
            interrupts.watch_imports()
            interrupts.begin()
            assert signal.getsignal(signal.SIGINT) is kept
        signal.signal(signal.SIGINT, signal.default_int_handler)
        interrupts.watch_imports()
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        with one_line_errors():
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert not interrupts.is_script()
    script = str(Path(door.__file__).parents[1] / "probes" / "x.py")
    monkeypatch.setattr(sys.modules["__main__"], "__file__", script, raising=False)  # a worker of the tests has none
    assert interrupts.is_script()
