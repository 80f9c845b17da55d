"""What the README says is run here, as far as minutes allow."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compo_mech.launch import main, settings
from compo_mech.runs import recipes

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^python experiments/(train_\w+)\.py ?([^#\n]*)", README, flags=re.M)


def words(text):
    return [word.strip("'") for word in text.split()]


def test_the_readme_has_training_commands():
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize(("script", "arguments"), COMMANDS, ids=[f"{s} {a}".strip() for s, a in COMMANDS])
def test_the_settings_in_the_readme_exist(script, arguments, capsys):
    recipe = getattr(recipes, script.removeprefix("train_"))()
    if "--help" in arguments:
        with pytest.raises(SystemExit) as stop:
            settings.parse(recipe, words(arguments))
        assert stop.value.code == 0
        assert "residual stream" in capsys.readouterr().out
    else:
        settings.parse(recipe, words(arguments))


def test_the_two_commands_set_everything_up():
    commands = re.findall(r"^python3 -m venv .*$", README, flags=re.M)
    assert [c.split(" && ")[-1] for c in commands] == ["python experiments/train_parity.py", "pytest"]
    assert all("pip install -c constraints.txt -e" in c for c in commands)
    assert "&& pytest$" in (ROOT / ".ci" / "run").read_text()


def test_the_map_names_every_module():
    for path in (*(ROOT / "compo_mech").glob("*.py"), *(ROOT / "probes").glob("*.py")):
        assert path.name == "__init__.py" or path.name in README


def test_the_scripts_and_notebooks_that_it_names_are_there():
    named = set(re.findall(r"(?:experiments|figures|probes)/[\w/]+\.(?:py|ipynb|csv|png)", README))
    assert {"experiments/watch.py", "experiments/compare.py", "figures/notebooks/tutorial.ipynb"} <= named
    made = {"figures/results/mechanism.html"}
    assert {name for name in named - made if not (ROOT / name).exists()} == set()


def test_the_python_example_runs(tmp_path):
    main.main(recipes.parity(), ["--runs-dir", str(tmp_path), "--name", "one", "--train.n-steps", "2",
                                   "--data.max-length", "4", "--n-test-strings", "8"])  # fmt: skip
    examples = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    assert len(examples) == 2
    exec(examples[0].replace("runs/parity-seed0", str(tmp_path / "one")).replace("step=600", "step=2"), {})


def test_the_grading_example_says_what_the_readme_says(capsys):
    exec(re.findall(r"```python\n(.*?)```", README, flags=re.S)[1], {})
    shown = capsys.readouterr().out
    assert "auc_all=1.0" in shown
    assert "top_is_truth=True" in shown


def test_a_figure_is_drawn_by_the_command_that_it_says(tmp_path):
    """From a shell, once; tests/test_figures.py calls all of them."""
    table, out = tmp_path / "mechanism.csv", tmp_path / "mechanism.html"
    shutil.copy(ROOT / "figures" / "results" / "mechanism.csv", table)
    command = [sys.executable, "figures/mechanism.py", str(table), str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "decoded from its output" in out.read_text()


def test_the_task_of_ones_own_is_trained_as_it_says(tmp_path, monkeypatch):
    (command,) = re.findall(r"`python experiments/train_parity\.py (--import [^`]*)`", README)
    (source,) = re.findall(r"with this in `my_tasks\.py`:\n\n```py\n(.*?)```", README, flags=re.S)
    (tmp_path / "my_tasks.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")
    asked = settings.parse(recipes.parity(), words(command))
    assert asked.data.tasks[0].table[1].tolist() == [1, 2, 3, 3]
