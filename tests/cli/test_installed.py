"""The package as a stranger has it: installed, in a folder without the repository."""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
PARTS = ("pyproject.toml", "README.md", "LICENSE", "compo_mech")
TINY = ["--data.max-length", "4", "--model.d-model", "16", "--n-test-strings", "8", "--train.n-steps", "8",
        "--train.snapshot-every", "1"]  # fmt: skip


def stranger(folder, *command):
    """The output of a command in a folder, which knows nothing of the repository."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The `bin` of an environment with the package; what it needs comes from the environment of the tests."""
    source, home = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("venv")
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    venv.create(home, with_pip=False)
    (packages,) = home.glob("lib/*/site-packages")
    needed = Path(torch.__file__).parents[1]
    (packages / "needed.pth").write_text(f"{needed}\n")  # whose own .pth files, an editable install's say, stay unread
    pip = [sys.executable, "-m", "pip", "--python", home / "bin" / "python", "install", "--quiet", "--ignore-installed"]
    stranger(source, *pip, "--no-deps", "--no-build-isolation", source)
    names = {path.name for path in packages.iterdir() if not path.name.endswith((".dist-info", ".pth"))}
    assert names == {"compo_mech"}  # one top-level name
    shutil.rmtree(source)
    return home / "bin"


def test_the_repository_of_someone_else_is_not_ours(tmp_path):
    for command in ("init -q", "-c user.name=a -c user.email=a commit -q --allow-empty -m theirs"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    copy = tmp_path / "venv" / "compo_mech" / "runs" / "environment.py"
    copy.parent.mkdir(parents=True)
    shutil.copy(ROOT / "compo_mech" / "runs" / "environment.py", copy)
    code = "import environment; print(environment.git_state())"
    assert stranger(copy.parent, sys.executable, "-c", code).strip() == "{'git_commit': None, 'git_diff': None}"


@pytest.mark.slow
def test_a_run_is_trained_dissected_and_watched_without_the_repository(installed, tmp_path):
    place = stranger(tmp_path, installed / "python", "-c", "import compo_mech; print(compo_mech.__file__)")
    assert Path(place.strip()).is_relative_to(installed.parent)
    compo_mech = installed / "compo-mech"
    stranger(tmp_path, compo_mech, "train", "parity", *TINY, "--name", "one")
    run = tmp_path / "runs" / "one"
    environment = json.loads((run / "environment.json").read_text())
    assert environment["command"][:4] == ["-m", "compo_mech", "train", "parity"]
    assert environment["git_commit"] is environment["git_diff"] is None
    said = " ".join(stranger(tmp_path, compo_mech, "dissect", run).split())
    assert "hand-built circuits whose truth is known" in said  # by the method card that comes with it
    stranger(tmp_path, compo_mech, "watch", run, "--n-workers", "2", "--every", "4")
    stranger(tmp_path, compo_mech, "explore", run, "--n-checkpoints", "2")  # whose scripts come with it
    assert (tmp_path / "explore.html").is_file()
    assert {path.name for path in (run / "analysis").iterdir()} >= {"dissect-000008-parity", "watch-000008-parity"}


@pytest.mark.slow
def test_a_copy_of_the_code_runs_with_its_table(installed, tmp_path):
    """As a job on a cluster has it."""
    code = "from pathlib import Path; from compo_mech.launch.code_snapshot import snapshot; print(snapshot(Path()))"
    copy = tmp_path / stranger(tmp_path, installed / "python", "-c", code).strip()
    read = (
        f"import sys; sys.path.insert(0, {str(copy)!r})\n"
        "from compo_mech.ground_truth.method_card import CARD, method_card_table\n"
        "print(CARD, len(method_card_table()))"
    )
    card, n_rows = stranger(tmp_path, installed / "python", "-c", read).split()
    assert Path(card).is_relative_to(copy)
    assert int(n_rows) > 1000
