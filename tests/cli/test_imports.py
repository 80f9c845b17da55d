"""A module with a task of one's own is named by --import, for any command."""

import json
import os
import re
import sys

import pytest

from compo_mech.cli import command
from compo_mech.cli.commands import dissect_command
from compo_mech.cli.imports import without_imports
from compo_mech.launch import settings
from compo_mech.runs import recipes
from compo_mech.runs.analysis_folder import analysis_name
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.run import Run
from compo_mech.runs.stored import environment_text, stored_environment
from compo_mech.runs.sums import digest, read_sums, write_sums

SOURCE = """
from typing import ClassVar
from compo_mech import Copy

class Brought(Copy):
    name: ClassVar[str] = "{name}"
    kind: str = "plain"

    def step(self, state, x):
        return {rule}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory whose modules can be imported, and no longer afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "somewhere")
    return tmp_path


@pytest.mark.parametrize("words", [["--import", "brought_one"], ["--import=brought_one"]])
def test_training_knows_the_tasks_of_a_module_that_is_named(here, words):
    (here / "brought_one.py").write_text(SOURCE.format(name="brought", rule="1 - x"))
    asked = settings.parse(recipes.parity(), [*words, "--data.tasks", "brought(kind='a/b')", "--seed", "3"])
    assert (str(asked.data.tasks[0]), asked.seed) == ("brought(kind='a/b')", 3)
    assert os.environ["PYTHONPATH"] == f"somewhere{os.pathsep}{here}"  # for processes that are started later


def test_a_run_of_a_task_that_is_not_known_says_how_to_name_it(here, tiny_run, capsys):
    file = tiny_run.path / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"data": config["data"] | {"tasks": ["elsewhere"]}}))
    write_sums(tiny_run.folder, read_sums(tiny_run.folder).known | {"../config.json": digest(file.read_bytes())})
    with pytest.raises(SystemExit):
        command.call(dissect_command, [str(tiny_run.path)])
    told = capsys.readouterr().err
    assert "task = 'elsewhere': must be one of " in told
    assert "or be defined in a module that --import names" in told
    assert told.count("\n") == 1
    (here / "brought_two.py").write_text(SOURCE.format(name="elsewhere", rule="1 - x"))
    assert without_imports(["a", "--import", "brought_two", "--b"]) == ["a", "--b"]
    assert str(Run.open(tiny_run.path).tasks()[0]) == "elsewhere"


@pytest.mark.parametrize(
    ("module", "complaint"),
    [
        ("not_there", r"import = 'not_there': must be a module in .*, or an installed one"),
        ("bad_one", r"import = 'bad_one': cannot be imported \(ZeroDivisionError: division by zero\)"),
        ("bad_two", r"import = 'bad_two': cannot be imported \(No module named 'no_such_thing'\)"),
        ("bad_three", r"import = 'bad_three': cannot be imported \(ValueError: name = 'copy': must be another"),
        ("ends", r"import = 'ends': cannot be imported \(SystemExit: 0\)"),
        ("bad_one.py", r"import = 'bad_one.py': must be the name of a module"),
        ("../bad", r"import = '../bad': must be the name of a module"),
        ("", r"import = '': must be the name of a module"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(here, module, complaint, capsys):
    (here / "bad_one.py").write_text("1 / 0")
    (here / "ends.py").write_text("raise SystemExit(0)")
    (here / "bad_two.py").write_text("import no_such_thing")
    (here / "bad_three.py").write_text(SOURCE.format(name="copy", rule="x"))
    with pytest.raises(SystemExit) as stop:
        without_imports(["--import", module])
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert re.match(f"error: {complaint}", told)
    assert told.count("\n") == 1


def test_a_run_whose_tasks_rule_has_changed_is_refused(tiny_run):
    file = tiny_run.path / "environment.json"
    known = stored_environment(tiny_run)
    assert set(known["rules"]) == set(map(str, tiny_run.config.data.tasks))
    Run.open(tiny_run.path)
    file.write_text(environment_text(known | {"rules": dict.fromkeys(known["rules"], "0" * 64)}))
    with pytest.raises(RunError, match=r"data.tasks = parity: must have the rule that .* was trained on"):
        Run.open(tiny_run.path)
    for unknown in ("{", "[]", "{}", '{"rules": 3}'):
        file.write_text(unknown)
        Run.open(tiny_run.path)


def test_an_analysis_of_any_task_is_one_folder(here):
    (here / "brought_three.py").write_text(SOURCE.format(name="anything", rule="x"))
    without_imports(["--import", "brought_three"])
    from brought_three import Brought

    names = {
        analysis_name("dissect", 40, Brought(kind=kind)) for kind in ("a/b", "a\\b", "..", "a\x00", "a:b", "c", "é")
    }
    assert len(names) == 7
    for name in names:
        (here / name).mkdir()
        assert (here / name).parent == here
        assert name.startswith("dissect-000040-anything")
