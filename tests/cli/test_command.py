import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from compo_mech.__main__ import VERBS, main
from compo_mech.cli.command import call, call_one

ROOT = Path(__file__).parents[2]


def refused(capsys, *words):
    """The one line with which a command ends."""
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("error: ")


@pytest.fixture(autouse=True)
def own_argv(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["compo-mech"])


def test_help_names_every_verb_and_waits_for_nothing():
    code = "import sys; from compo_mech.__main__ import main; main(['--help']); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")] == list(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    with contextlib.suppress(SystemExit):
        main([verb, "--help"])
    assert f"usage: compo-mech {verb}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["learn"], "verb = learn: must be one of train, seeds, "),
        (["train"], "recipe = missing: must be one of parity, copy, "),
        (["train", "walk"], "recipe = walk: must be one of parity, copy, "),
        (["train", "parity", "--model.d-model", "-1"], "model.d_model = -1"),
        (["train", "parity", "--d-model", "3"], "--d-model: there is no such setting, did you mean --model.d-model? "),
        (["compare", "x", "--stpe", "3"], "--stpe: there is no such setting, did you mean --step? --help lists them"),
        (["dissect", "x", "--xyz", "3"], "--xyz, 3: there is no such setting; --help lists them"),
        (["seeds", "walk"], "recipe = 'walk': must be one of 'parity', 'copy'"),
        (["sweep", "parity", "d_model"], "axis = 'd_model': must be written as setting=value,value"),
        (["dissect"], "runs = (): must have at least 1"),
        (["dissect", "nowhere", "--step", "x"], "step"),
        (["watch", "nowhere"], "run = nowhere: must be a folder that holds a config.json"),
        (["compare", "nowhere", "--out", "page.txt"], "out = page.txt: must end in .html"),
        (["probe", "position-subtraction", "nowhere", "--layer", "1"], "--layer"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_gets_one_line(words, complaint, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert complaint in refused(capsys, *words)
    assert not list(tmp_path.iterdir())


def test_a_run_notes_a_command_that_can_be_typed_again(capsys):
    refused(capsys, "dissect", "nowhere")
    assert sys.argv == ["-m", "compo_mech", "dissect", "nowhere"]


def test_a_function_is_called_with_what_the_command_line_says(capsys):
    def shout(word: str, n_times: int = 1) -> None:
        """Say it."""
        print(*[word] * n_times, file=sys.stderr)  # no complaint, though it stands where complaints do

    call(shout, ["--word", "ho", "--n-times", "2"])
    assert capsys.readouterr().err == "ho ho\n"
    call_one({"shout": shout, "other": lambda: None}, ["shout", "--word", "ha"])
    assert capsys.readouterr().err == "ha\n"


def test_a_command_that_there_is_not_is_named_with_those_that_are(capsys):
    def shout(word: str) -> None:
        """Say it."""
        print(word)

    commands = {"shout-it": shout, "other": lambda: None}
    for words in (["whisper"], ["whisper", "runs/x", "--word", "ha"]):
        with pytest.raises(SystemExit) as stop:
            call_one(commands, words)
        assert stop.value.code == 2
        assert capsys.readouterr().err == "error: command = whisper: must be one of shout-it, other\n"
    call_one(commands, ["shout_it", "--word", "ha"])
    assert capsys.readouterr().out == "ha\n"
