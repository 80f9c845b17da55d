"""Which commit a run says that it was made with."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "compo_mech" / "runs" / "environment.py"


def git(folder, *words):
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    author = ["-c", "user.name=a", "-c", "user.email=a"]
    done = subprocess.run(["git", *author, *words], cwd=folder, env=own, check=True, capture_output=True)
    return done.stdout.decode().strip()


@pytest.fixture
def repository(tmp_path):
    """A repository with the package in it, all of it committed, and a README that is not UTF-8."""
    (tmp_path / "package" / "compo_mech" / "runs").mkdir(parents=True)
    shutil.copy(SOURCE, tmp_path / "package" / "compo_mech" / "runs")
    (tmp_path / "package" / "README.md").write_bytes(b"plain\n")
    (tmp_path / "theirs.txt").write_text("one\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def told(package, **variables):
    code = "import json, environment; print(json.dumps(environment.git_state()))"
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, '{package}/compo_mech/runs'); {code}"]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_bytes_of_any_encoding_are_told(repository):
    package = repository / "package"
    assert told(package) == {"git_commit": git(repository, "rev-parse", "HEAD"), "git_diff": ""}
    (package / "README.md").write_bytes(b"caf\xe9\n\n")
    diff = told(package)["git_diff"]
    assert "+caf\\xe9\n+\n" in diff
    assert diff.endswith("\n")


def test_changes_of_others_are_not_ours(repository):
    (repository / "theirs.txt").write_text("two\n")
    assert told(repository / "package")["git_diff"] == ""


def test_a_repository_around_an_installed_copy_is_not_ours(repository):
    """Even if it tracks its virtual environment."""
    nobody = {"git_commit": None, "git_diff": None}
    installed = repository / "venv" / "lib" / "site-packages"
    shutil.copytree(repository / "package", installed)
    assert told(installed) == nobody
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "second")
    assert told(installed) == nobody
    (installed / "git.json").write_text('{"of": "someone else"}')
    assert told(installed) == nobody


def test_a_repository_that_does_not_track_the_package_is_not_ours(repository):
    git(repository, "rm", "-q", "--cached", "package/compo_mech/runs/environment.py")
    assert told(repository / "package") == {"git_commit": None, "git_diff": None}


def test_the_repository_of_a_hook_is_not_ours(repository, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    git(other, "init", "-q")
    git(other, "commit", "-q", "--allow-empty", "-m", "theirs")
    found = told(repository / "package", GIT_DIR=str(other / ".git"), GIT_WORK_TREE=str(other))
    assert found["git_commit"] == git(repository, "rev-parse", "HEAD")


def test_a_copy_of_the_code_tells_where_it_came_from(repository):
    (repository / "package" / "git.json").write_text('{"git_commit": "abc", "git_diff": "é"}', encoding="utf-8")
    assert told(repository / "package") == {"git_commit": "abc", "git_diff": "é"}
