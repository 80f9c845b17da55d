"""The files of a run's folder that its SHA256SUMS vouches for: read only as they were written."""

import hashlib
import re
from pathlib import Path

from compo_mech.runs.files import read_plain, shown
from compo_mech.runs.sums import NAME, Sums, digest, read_sums

BESIDE = ("config.json", "metrics.csv")
"""Files beside the checkpoints that the list of the checkpoints vouches for as well."""

ROWS = "../metrics.csv"
CHECKPOINT = re.compile(r"(\d{6}|[1-9]\d{6,})(\.resume)?\.safetensors")
"""Names of the files of a checkpoint: of its model, and of what training resumes from."""


class RunError(Exception):
    """Something about a run folder that its user has to know, in one line, which can be written anywhere."""

    def __init__(self, line: str) -> None:
        super().__init__(shown(line))


def holds(folder: Path, name: str) -> bool:
    """Tell whether a folder, of a run say, holds something of this name.

    Raises:
        RunError: it cannot be read.
    """
    try:
        return (folder / name).exists()
    except OSError as error:
        raise RunError(f"run = {folder}: cannot be read ({error.strerror})") from None


class Vouched:
    """The files of the run in a folder.

    Attributes:
        path: the folder.
        folder: its checkpoints, among which the list lies.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.folder = path, path / "checkpoints"
        self._rows = _Growing()

    def sums(self) -> Sums:
        """Read the list as it is now."""
        return read_sums(self.folder)

    @property
    def steps(self) -> list[int]:
        """Steps that have a checkpoint, in order."""
        return steps_of(self.sums())

    @property
    def is_vouched_for(self) -> bool:
        """Whether the list holds the files beside the checkpoints, as those of earlier versions do not."""
        known = self.sums().known
        return all(f"../{name}" in known for name in BESIDE)

    def file(self, name: str) -> Path:
        """Return the path of a file by its name in the list."""
        return self.path / name.removeprefix("../") if name.startswith("../") else self.folder / name

    def content(self, name: str, sums: Sums) -> bytes:
        """Read a file by its name in the list; one that the list does not hold, as earlier versions left it.

        Args:
            name: of the file.
            sums: the list, which is read once for many files.

        Raises:
            RunError: it is missing, damaged or cannot be read.
        """
        content = self.unchecked(name)
        if name in sums.known and sums.known[name] != digest(content):
            raise self.damaged(name, sums)
        return content

    def unchecked(self, name: str) -> bytes:
        """Read a file by its name in the list, whatever it holds.

        Raises:
            RunError: it is missing or cannot be read.
        """
        try:
            return read_plain(self.file(name))
        except FileNotFoundError:
            raise RunError(f"{self.file(name)}: is missing") from None
        except OSError as error:
            raise RunError(f"{self.file(name)}: cannot be read ({error.strerror})") from None

    def damaged(self, name: str, sums: Sums) -> RunError:
        """Return the error of a file that is not what the list says; it may be the list that is damaged."""
        where = f", or {NAME} is" if sums.problem is not None else ""
        return RunError(f"{self.file(name)}: is damaged{where}, its checksum differs")

    def rows(self) -> bytes:
        """Read metrics.csv up to the last step that has a checkpoint; what came later nobody vouches for.

        Raises:
            RunError: it is missing or damaged.
        """
        sums = self.sums()  # before the rows, which only grow while a run is trained
        content, last = self.unchecked(ROWS), max(steps_of(sums), default=-1)
        known = sums.known.get(ROWS)
        if known is None and last >= 0 and f"\n{last},".encode() not in content:  # which came before the checkpoint
            raise RunError(f"{self.file(ROWS)}: is damaged, it has no rows of step {last}, which has a checkpoint")
        if known is None or digest(content) == known:
            return content
        kept = rows_until(content, last)
        if digest(kept) != known:
            raise self.damaged(ROWS, sums)
        return kept

    def rows_digest(self) -> str:
        """Return the checksum of metrics.csv as it is now, of which only what is new is read."""
        return self._rows.digest(self.path / "metrics.csv")


def steps_of(sums: Sums) -> list[int]:
    """Return the steps whose model a list vouches for, in order."""
    return sorted(int(match[1]) for name in sums.known if (match := CHECKPOINT.fullmatch(name)) and not match[2])


def whole_list(sums: Sums, folder: Path, name: str) -> Sums:
    """Return a folder's list, where nothing can be read without it.

    Args:
        sums: the list.
        folder: it is of.
        name: of a file that it holds from the first.

    Raises:
        RunError: it is missing or damaged.
    """
    if not sums.is_there:
        raise RunError(f"{folder / NAME}: is missing, so nothing beside it counts")
    if sums.problem is not None:
        raise RunError(sums.problem)
    if name not in sums.known:
        raise RunError(f"{folder / NAME}: is damaged, it does not list {name}")
    return sums


def rows_until(content: bytes, step: int) -> bytes:
    """Return a table of rows up to a step, its heading included; the first row of a later step, or none, ends it."""
    end = content.find(b"\n") + 1
    while (stop := content.find(b"\n", end) + 1) > 0:
        own = content[end:stop].partition(b",")[0]
        if not own.isdigit() or int(own) > step:
            break
        end = stop
    return content[:end]


class _Growing:
    """The checksum of a file that only grows. A copy in another process begins anew."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._hash, self._n_read = hashlib.sha256(), 0

    def __reduce__(self) -> tuple[type["_Growing"], tuple[()]]:
        return _Growing, ()

    def digest(self, file: Path) -> str:
        with file.open("rb") as opened:
            opened.seek(0, 2)
            if opened.tell() < self._n_read:
                self._begin()
            opened.seek(self._n_read)
            new = opened.read()
        self._hash.update(new)
        self._n_read += len(new)
        return self._hash.hexdigest()
