"""Locks, so that one process trains a run at a time; and records of failed runs, beside their folders."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compo_mech.runs.files import identity, read_plain, write_whole
from compo_mech.runs.folder import put_back
from compo_mech.runs.vouched import RunError

if sys.platform != "win32":
    import fcntl


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Inside, no other process trains the run in this folder, by whatever path. The lock ends with its process.

    The lock is beside the folder, for it also holds while the folder is made or replaced. On a system without file
    locks there is none. A run that a killed process had set aside, and put nothing in its place, is put back.

    Raises:
        RunError: another process trains it, or the lock cannot be written.
    """
    if sys.platform == "win32":
        put_back(path)
        yield
        return
    place = identity(path)
    file = place.parent / ".locks" / place.name
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.exists() and not file.is_file():  # a pipe would be waited for
            raise OSError(errno.EINVAL, "no plain file")
        opened = file.open("a", encoding="utf-8")
    except OSError as error:
        raise RunError(f"run = {path}: cannot be written ({error.strerror})") from None
    with opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"run = {path}: is being trained by another process") from None
        except OSError:  # a file system without locks
            pass
        put_back(path)
        yield


def record_failure(path: Path, error: str) -> None:
    """Record, in failures/ beside a run's folder, why it failed."""
    file = _failure(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, f"{error}\n")


def forget_failure(path: Path) -> None:
    """Delete what `record_failure` wrote."""
    _failure(path).unlink(missing_ok=True)


def recorded_failure(path: Path) -> str | None:
    """Return why a run failed; None: no failure is recorded."""
    try:
        return read_plain(_failure(path)).decode(errors="replace").strip()
    except OSError:
        return None


def _failure(path: Path) -> Path:
    place = identity(path)
    return place.parent / "failures" / f"{place.name}.txt"
