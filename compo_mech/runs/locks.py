"""Locks, so that one process trains a run at a time; and records of failed runs, beside their folders."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compo_mech.runs.checkpoints import RunError

if sys.platform != "win32":
    import fcntl


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Inside, no other process trains the run in this folder. The lock ends with its process.

    The lock is beside the folder, for it also holds while the folder is made or replaced. On a system without file
    locks there is none.

    Raises:
        RunError: another process trains it, or the lock cannot be written.
    """
    if sys.platform == "win32":
        yield
        return
    file = path.parent / ".locks" / path.name
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        opened = file.open("a")
    except OSError as error:
        raise RunError(f"run = {path}: cannot be written ({error.strerror})") from None
    with opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"run = {path}: is being trained by another process") from None
        except OSError:  # a file system without locks
            pass
        yield


def record_failure(path: Path, error: str) -> None:
    """Record, in failures/ beside a run's folder, why it failed."""
    file = _failure(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    part.write_text(f"{error}\n")
    part.replace(file)


def forget_failure(path: Path) -> None:
    """Delete what `record_failure` wrote."""
    _failure(path).unlink(missing_ok=True)


def recorded_failure(path: Path) -> str | None:
    """Return why a run failed; None: no failure is recorded."""
    try:
        return _failure(path).read_text().strip()
    except OSError:
        return None


def _failure(path: Path) -> Path:
    return path.parent / "failures" / f"{path.name}.txt"
