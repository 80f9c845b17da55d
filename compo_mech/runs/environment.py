"""Versions, command and commit that a run was made with."""

import json
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
    """The commit that the package is at, and what has been changed since; None each where no repository holds it."""
    root = Path(__file__).parents[2]
    if (root / GIT_FILE).exists():
        return json.loads((root / GIT_FILE).read_text())

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return done.stdout.strip()

    if (
        git("ls-files", "--error-unmatch", "compo_mech/__init__.py") is None
    ):  # installed, maybe below another repository
        return {"git_commit": None, "git_diff": None}
    return {"git_commit": git("rev-parse", "HEAD"), "git_diff": git("diff", "HEAD")}
