"""Versions, command and commit that a run was made with."""

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

_PACKAGES = ("compo_mech", "torch", "transformer-lens", "numpy", "pandas", "safetensors", "pydantic", "tyro")


def environment() -> dict[str, object]:
    """Command, platform, versions and commit of this process."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None

    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        **git_state(),
    }


GIT_FILE = "git.json"
"""File beside a copy of the package: the result of `git_state` where it was copied from."""


def git_state() -> dict[str, str | None]:
    """The commit that the package is at, and what has been changed since; None each where no repository holds it.

    A repository that an installed copy merely lies in, or that does not track the package, says nothing about it; and
    what else a repository holds is left out of the changes.
    """
    root, file = Path(__file__).parents[2], str(Path(__file__).relative_to(Path(__file__).parents[2]))
    if (noted := _noted(root / GIT_FILE)) is not None:
        return noted
    if root.name in ("site-packages", "dist-packages") or _git(root, "ls-files", "--error-unmatch", file) is None:
        return {"git_commit": None, "git_diff": None}
    commit = _git(root, "rev-parse", "HEAD")
    diff = _git(root, "diff", "--no-ext-diff", "--no-textconv", "--no-color", "HEAD", "--", ".")
    return {"git_commit": commit and commit.strip(), "git_diff": diff}


def _noted(file: Path) -> dict[str, str | None] | None:
    """What a copy of the package says of itself; None: it is no copy."""
    try:
        noted = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return noted if isinstance(noted, dict) and set(noted) == {"git_commit", "git_diff"} else None


def _git(root: Path, *words: str) -> str | None:
    """What git says there, whatever bytes the files have; None: it fails."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}  # a hook's name another
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, env=own, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.decode("utf-8", "backslashreplace")
