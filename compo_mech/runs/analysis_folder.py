"""What analyses keep in a run's folder: one folder each, with a SHA256SUMS of its own, and tables that they go on with.

A table to go on with says its own checksum in its first line. One that is damaged, or that says none, is measured anew.
"""

import contextlib
import errno
import hashlib
import io
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from compo_mech.data.tasks import Task
from compo_mech.runs.files import as_bytes, read_plain, token, write_whole
from compo_mech.runs.folder import (
    TEMPORARY,
    begun,
    building_place,
    of_analysis,
    put_back,
    remove,
    set_aside,
    strangers,
    waiting,
)  # fmt: skip
from compo_mech.runs.sums import NAME, digest, read_sums, signed, without_signature, write_sums
from compo_mech.runs.vouched import RunError

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    import pandas as pd

OF_ALL = (NAME, "findings.txt", "section.html")
"""Files that the folder of every analysis of a run holds."""

N_TRIES = 5
"""How often a folder is put into a place that another process fills meanwhile."""


class Analysed(NamedTuple):
    """An analysis of a run.

    Attributes:
        folder: of its files.
        step: of the checkpoint.
        last: the run's last step.
        other_tasks: of the run, which it is not of.
    """

    folder: Path
    step: int
    last: int
    other_tasks: Sequence[str]

    @property
    def notes(self) -> list[str]:
        """Say what of the run it is not of."""
        notes = [] if self.step == self.last else [f"Of step {self.step}; the last checkpoint is of step {self.last}."]
        return notes + [f"Not shown: {task}." for task in self.other_tasks]


def place_problem(folder: Path, names: Iterable[str] = OF_ALL) -> str | None:
    """Return what forbids that an analysis is written to this place; None: nothing.

    Args:
        folder: the place.
        names: of files that it will hold.
    """
    if folder.is_symlink():
        return f"{folder}: must be no link, since it is replaced"
    if not folder.exists():
        return None
    if not folder.is_dir():
        return f"{folder}: must be a folder, or not be there yet"
    for name in ("config.json", "stack.json"):
        if (folder / name).exists():
            return f"{folder}: must be no run and no model (it has a {name})"
    for file in (folder / name for name in names):
        if os.path.lexists(file) and not file.is_file():
            return f"{file}: must be a file, or not be there yet"
    return None


def write_folder(folder: Path, files: Mapping[str, str]) -> None:
    """Write texts by file name into a folder that replaces an earlier one; what is not the project's stays in it.

    Raises:
        OSError: it cannot be written, or the place is one that it must not replace (see `place_problem`).
    """
    if (problem := place_problem(folder, (NAME, *files))) is not None:
        raise OSError(errno.EINVAL, problem, str(folder))
    if folder.exists():
        strangers(folder, of_analysis)  # while what cannot be read stops nothing
    part = building_place(folder)
    contents = {name: as_bytes(text) for name, text in files.items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.parent, wait=True):
        tidy(folder)
        try:
            part.mkdir()
            write_sums(part, {name: digest(content) for name, content in contents.items()})  # so that all is known
            for name, content in contents.items():
                write_whole(part / name, content)
            _put(part, folder)
        except BaseException:
            with contextlib.suppress(OSError):
                remove(part, of_analysis)
            with contextlib.suppress(OSError):
                put_back(folder)
            raise
        tidy(folder)


def _put(part: Path, folder: Path) -> None:
    for n in range(N_TRIES):
        try:
            if folder.exists():
                set_aside(folder)
            part.rename(folder)
            return
        except OSError:  # another process was there between the two, where there are no locks
            if n == N_TRIES - 1:
                raise


def tidy(folder: Path) -> None:
    """End what a killed process began at this place: an analysis that it set aside is put back; where it was replaced,
    what was not the project's in it comes into the new one, under another name if that is taken.

    Raises:
        OSError: something cannot be renamed or removed.
    """
    put_back(folder)
    for aside in waiting(folder):
        taken, other = {path.name for path in folder.iterdir()}, f"{token()}.earlier"
        for path in strangers(aside, of_analysis):
            top, *rest = path.relative_to(aside).parts
            place = folder.joinpath(f"{top}.{other}" if top in taken else top, *rest)
            place.parent.mkdir(parents=True, exist_ok=True)
            path.rename(place)
        remove(aside, of_analysis)
    for part in begun(folder):
        remove(part, of_analysis)


def tidy_all(parent: Path) -> None:
    """End what a killed process began at any place in a folder, as far as whoever reads it can, unless somebody writes
    there now."""
    with contextlib.suppress(OSError), _alone(parent, wait=False):
        names = {match[1] for name in os.listdir(parent) if (match := TEMPORARY.fullmatch(name)) is not None}
        for name in sorted(names):
            tidy(parent / name)


@contextlib.contextmanager
def _alone(parent: Path, wait: bool) -> Iterator[None]:
    """Inside, no other process writes an analysis into this folder, where the system has locks.

    Args:
        parent: the folder.
        wait: until whoever writes now is done.

    Raises:
        BlockingIOError: somebody writes now, and is not to be waited for.
    """
    with contextlib.ExitStack() as held:
        if sys.platform != "win32":
            try:
                opened = os.open(parent, os.O_RDONLY)
                held.callback(os.close, opened)
                fcntl.flock(opened, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise
            except OSError:  # a file system without locks
                pass
        yield


def read_or_error(file: Path) -> str | RunError:
    """Read a file of an analysis, or return what is wrong with it."""
    try:
        content = read_plain(file)
        text = content.decode()
    except OSError as error:
        return RunError(f"{file}: cannot be read ({error.strerror})")
    except UnicodeDecodeError:
        return RunError(f"{file}: is damaged, it is no text")
    sums = read_sums(file.parent)
    if sums.problem is not None:
        return RunError(sums.problem)
    if sums.is_there and sums.known.get(file.name) != digest(content):
        return RunError(f"{file}: is damaged, its checksum differs")
    return text


def damage(folder: Path) -> list[str]:
    """List what is wrong with the files of an analysis, in a line each."""
    sums = read_sums(folder)
    if sums.problem is not None:
        return [sums.problem]
    names = sorted(sums.known) if sums.is_there else [file.name for file in sorted(folder.glob("section.html"))]
    found = [read_or_error(folder / name) for name in names if "/" not in name]
    return [str(error) for error in found if isinstance(error, RunError)]


def write_table(file: Path, table: "pd.DataFrame") -> None:
    """Keep a table for an analysis to go on with.

    Raises:
        OSError: it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, signed(as_bytes(table.to_csv(index=False, na_rep="nan"))))


def read_table(file: Path) -> "pd.DataFrame | None":
    """Read a table that an analysis keeps for itself; None: there is none, or it is damaged."""
    import pandas as pd

    try:
        content = without_signature(read_plain(file))
    except OSError:
        return None
    if content is None:
        return None
    return pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values="nan", float_precision="round_trip")


def analysis_name(what: str, step: int, task: Task) -> str:
    """Return the name of the folder of an analysis of a task at a step; tasks whose names are long, or no name of a
    folder, are distinguished by a hash."""
    name = str(task)
    if len(name) > 80 or not name.isprintable() or set(name) & set('/\\<>:"|?*'):
        name = f"{task.name}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return f"{what}-{step:06d}-{name}"
