"""What analyses keep in a run's folder: one folder each, with a SHA256SUMS of its own, and tables that they go on with.

A table to go on with says its own checksum in its first line. One that is damaged, or that says none, is measured anew.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from compo_mech.data.tasks import Task
from compo_mech.runs.files import read_plain, write_whole
from compo_mech.runs.folder import building_place, of_analysis, remove, set_aside, strangers
from compo_mech.runs.sums import digest, read_sums, write_sums
from compo_mech.runs.vouched import RunError

if TYPE_CHECKING:
    import pandas as pd

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


def write_folder(folder: Path, files: Mapping[str, str]) -> None:
    """Write texts by file name into a folder that replaces an earlier one; what is not the project's stays in it.

    Raises:
        OSError: it cannot be written.
    """
    part = building_place(folder)
    part.mkdir(parents=True)
    contents = {name: text.encode() for name, text in files.items()}
    for name, content in contents.items():
        write_whole(part / name, content)
    write_sums(part, {name: digest(content) for name, content in contents.items()})
    earlier = []
    for n in range(N_TRIES):
        try:
            if folder.exists():
                earlier.append(set_aside(folder))
            part.rename(folder)
            break
        except OSError:  # another process was there between the two
            if n == N_TRIES - 1:
                raise
    for aside in earlier:
        for path in strangers(aside, of_analysis):
            place = folder / path.relative_to(aside)
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                path.rename(place)
        remove(aside, of_analysis)


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
    content = table.to_csv(index=False, na_rep="nan").encode()
    write_whole(file, f"# {digest(content)}\n".encode() + content)


def read_table(file: Path) -> "pd.DataFrame | None":
    """Read a table that an analysis keeps for itself; None: there is none, or it is damaged."""
    import pandas as pd

    try:
        own, _, content = read_plain(file).partition(b"\n")
    except OSError:
        return None
    if own.decode(errors="replace") != f"# {digest(content)}":
        return None
    return pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values="nan", float_precision="round_trip")


def analysis_name(what: str, step: int, task: Task) -> str:
    """Return the name of the folder of an analysis of a task at a step; tasks whose names are long, or no name of a
    folder, are distinguished by a hash."""
    name = str(task)
    if len(name) > 80 or not name.isprintable() or set(name) & set('/\\<>:"|?*'):
        name = f"{task.name}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return f"{what}-{step:06d}-{name}"
