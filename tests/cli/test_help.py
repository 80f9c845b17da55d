"""Every option of every command has a text, which --help shows."""

import ast
import importlib
import importlib.util
import inspect
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from compo_mech.__main__ import VERBS
from compo_mech.cli.command import call
from compo_mech.cli.commands import PROBES
from compo_mech.studies import run as studies
from compo_mech.studies.emergence_commands import EMERGENCE

ROOT = Path(__file__).parents[2]
SCRIPTS = [path for folder in ("experiments", "probes") for path in sorted((ROOT / folder).glob("*.py"))]


def called(script):
    """The functions of the package that a script makes a command of."""
    text = script.read_text(encoding="utf-8")
    for name in re.findall(r"call\((\w+),", text):
        module = re.search(rf"^from (compo_mech\.\S+) import .*\b{name}\b", text, re.MULTILINE)
        assert module is not None, script
        yield f"{script.stem}", getattr(importlib.import_module(module[1]), name)


def figures():
    for path in sorted((ROOT / "figures").glob("*.py")):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield f"figures/{path.stem}", module.main


def commands():
    for name, verb in VERBS.items():
        found = getattr(importlib.import_module(f"compo_mech.{verb.module}"), verb.function)
        if callable(found) and name != "train":  # whose options are the fields of the settings
            yield name, found
    for script in SCRIPTS:
        yield from called(script)
    yield from PROBES.items()
    yield from EMERGENCE.items()
    yield from figures()
    yield "a study", studies.main


COMMANDS = dict(commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_text(name):
    command = COMMANDS[name]
    _, found, args = (inspect.getdoc(command) or "").partition("Args:\n")
    texts = dict(re.findall(r"^    (\w+): (.+)", args, re.MULTILINE))
    assert found or not inspect.signature(command).parameters
    options = [option for option in inspect.signature(command).parameters if option not in ("study", "argv")]
    assert [option for option in options if option not in texts] == []


def test_examples_stay_lines_of_their_own(capsys):
    for script in SCRIPTS + sorted((ROOT / "figures").glob("*.py")):
        about = ast.get_docstring(ast.parse(script.read_text())) or ""
        examples = [line for line in about.splitlines() if line.startswith(("python ", "compo-mech "))]
        with pytest.raises(SystemExit):
            call(lambda: None, ["--help"], description=about)
        shown = capsys.readouterr().out.splitlines()
        assert [line.removeprefix("$ ") for line in shown if line.startswith("$ ")] == examples, script


def test_all_scripts_are_among_them():
    assert len(COMMANDS) > 35
    assert {"watch", "align", "bench_gpu", "position-subtraction", "figures/study", "train"} - {"train"} <= set(
        COMMANDS
    )


HELP_OF_EACH = """
import contextlib, gc, io, runpy, sys
from compo_mech.cli import usage
slow, *scripts = sys.argv[1:]
for script in scripts:
    gc.unfreeze()
    usage._freeze_imports.cache_clear()  # each script as the first of its process
    sys.argv, told = [script, "--help"], io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(told):
        runpy.run_path(script, run_name="__main__")
    assert "usage:" in told.getvalue(), script
    print(script, gc.get_freeze_count(), *sorted(set(slow.split()) & set(sys.modules)))
"""
SLOW = "pandas pyarrow plotly scipy sklearn transformer_lens transformers circuitsvis submitit matplotlib"
"""Libraries that take a tenth of a second or more to import, and that no --help shows anything of."""


def test_no_help_waits_for_a_slow_library_and_collections_of_garbage_pass_over_what_was_imported():
    scripts = [*SCRIPTS, *sorted((ROOT / "figures").glob("*.py"))]
    command = [sys.executable, "-c", HELP_OF_EACH, SLOW, *map(str, scripts)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = [line.split() for line in done.stdout.splitlines()]
    assert [words for words in told if len(words) > 2] == []
    assert [words for words in told if int(words[1]) < 100_000] == []  # torch alone leaves more
    assert len(told) == len(scripts) > 45


class Closed(io.StringIO):
    """What is left of a pipe whose reader has gone."""

    def write(self, text):
        raise BrokenPipeError

    def fileno(self):
        return 1


def test_whoever_reads_the_first_lines_only_gets_no_complaint(capsys, monkeypatch):
    pointed = []
    monkeypatch.setattr(os, "dup2", lambda *where: pointed.append(where))
    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(SystemExit) as stopped:
        call(COMMANDS["dissect"], ["--help"])
    monkeypatch.undo()
    assert stopped.value.code == 1
    assert [to for _, to in pointed] == [1]  # what is left to be flushed goes nowhere
    assert capsys.readouterr().err == ""


def test_what_is_given_by_its_position_has_its_name(capsys):
    with pytest.raises(SystemExit):
        call(COMMANDS["patch"], ["--help"], prog="patch")
    assert "usage: patch [-h] [OPTIONS] MODEL PROMPTS" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        call(COMMANDS["patch"], [])
    assert capsys.readouterr().err == "error: model prompts = missing: must be given\n"


@pytest.mark.parametrize("name", ["compare", "figures/study"])
def test_what_is_given_by_its_position_and_has_to_be_is_said_to_be_required(name, capsys):
    with pytest.raises(SystemExit):
        call(COMMANDS[name], ["--help"])
    shown = capsys.readouterr().out
    assert "(default: )" not in shown
    assert "(required)" in shown.partition("options")[0]


SCRIPT, COMPARED = "experiments/seeds.py --help", "experiments/compare.py RUN --out PAGE"
HELP = (
    "-m compo_mech --help",
    pytest.param("-m compo_mech train --help", marks=pytest.mark.slow),
    pytest.param("-m compo_mech probe --help", marks=pytest.mark.slow),
)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is full")
@pytest.mark.parametrize("words", [*HELP, *(pytest.param(w, marks=pytest.mark.slow) for w in (SCRIPT, COMPARED))])
@pytest.mark.parametrize("buffered", ["1", pytest.param("", marks=pytest.mark.slow)])
def test_an_output_that_is_full_is_one_line(words, buffered, tiny_run, tmp_path):
    given = words.replace("RUN", str(tiny_run.path)).replace("PAGE", str(tmp_path / "page.html")).split()
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, *given], stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False,
            env=os.environ | {"PYTHONUNBUFFERED": buffered, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    assert ended.stderr == "error: stdout = <stdout>: cannot be written (No space left on device)\n"
    assert ended.returncode == 2


@pytest.mark.skipif(sys.platform == "win32", reason="a shell that closes an output")
@pytest.mark.parametrize("words", [*HELP, SCRIPT])
def test_help_into_an_output_that_is_closed_is_one_line(words):
    command = f"{sys.executable} {words} >&-"
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False, env=env)
    assert ended.stderr == "error: stdout = None: cannot be written (it is closed)\n"
    assert ended.returncode == 2
