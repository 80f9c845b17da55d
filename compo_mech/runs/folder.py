"""What of a run's folder the project wrote, and so may remove; and runs set aside while others take their place.

A run that is replaced is renamed to `.NAME.TOKEN.old` beside its place and stays there until the new one is trained to
its end. Whatever the project did not write is left where it is.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from compo_mech.runs.files import identity, is_part, read_plain, token
from compo_mech.runs.leftovers import is_of_training
from compo_mech.runs.sums import NAME, read_sums, without_signature

TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{12}\.(old|part)")
"""Names of folders that are set aside of a place, or built for it, whose name is within."""

_TOP = {"config.json", "environment.json", "metrics.csv", "report.html"}
_WANDB = re.compile(
    r"latest-run|debug(-internal)?\.log|(offline-)?run-\d{8}_\d{6}-(?P<id>\w+)/(run-(?P=id)\.wandb(\.synced)?"
    r"|logs/debug(-\w+)?\.log|files/(config\.yaml|output\.log|requirements\.txt|conda-environment\.yaml|diff\.patch"
    r"|wandb-(metadata|summary)\.json))"
)
"""What the library of Weights & Biases writes into the run's folder wandb/."""


def of_run(path: Path, folder: Path) -> bool:
    """Tell whether the project wrote this file into the folder of a run; a name alone does not tell where a list or a
    checksum could."""
    top, *rest = path.relative_to(folder).parts
    if top == "wandb" and _WANDB.fullmatch("/".join(rest)):  # links among them
        return True
    if not _is_plain(path):
        return False
    if is_part(path.name):
        return True
    match top, len(rest):
        case _, 0:
            return top in _TOP
        case "checkpoints", 1:
            return rest[0] == NAME or is_of_training(rest[0], folder, read_sums(path.parent))
        case "analysis", 2:
            return _is_kept_table(path) if rest[0] == ".cache" else of_analysis(path, path.parent)
    return False


def of_analysis(path: Path, folder: Path) -> bool:
    """Tell whether the project wrote this file into the folder of an analysis: its list tells."""
    if path.parent != folder or not _is_plain(path):
        return False
    sums = read_sums(folder)
    return (sums.is_signed and path.name in (NAME, *sums.known)) or is_part(path.name)


def owner(file: Path) -> Path | None:
    """Return the run one of whose own files this is, or would be; None: there is none."""
    place = identity(file)
    for folder in place.parents[:3]:
        if (folder / "config.json").is_file() and (folder / "checkpoints").is_dir():
            return folder if of_run(place, folder) or (place.parent == folder and place.name in _TOP) else None
    return None


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _is_kept_table(path: Path) -> bool:
    """Tell whether this is a table that an analysis keeps for itself, whole."""
    return path.suffix == ".csv" and without_signature(read_plain(path)) is not None


Ours = Callable[[Path, Path], bool]
"""Tells of a file that is there, and of the folder around it, whether the project wrote it: `of_run`, `of_analysis`."""


def strangers(folder: Path, ours: Ours) -> list[Path]:
    """Return what the project did not write into a folder.

    Raises:
        OSError: not all of it can be read.
    """
    return [path for path in _files(folder) if not ours(path, folder)]


def remove(folder: Path, ours: Ours) -> None:
    """Remove what the project wrote into a folder, and the folder itself if nothing else is in it.

    What tells whose the others are goes last, so that what a killed process left of this can be removed as well.

    Raises:
        OSError: something cannot be removed.
    """
    for path in sorted((path for path in _files(folder) if ours(path, folder)), key=_tells_of_others):
        path.unlink(missing_ok=True)
    for place, _, _ in list(os.walk(folder, topdown=False)):
        if not any(Path(place).iterdir()):
            Path(place).rmdir()


def _tells_of_others(path: Path) -> bool:
    return path.name in (NAME, "config.json")


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder, and links to folders, which are not followed.

    Raises:
        OSError: a folder cannot be read.
    """
    for place, folders, files in os.walk(folder, onerror=_raise):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        yield from (Path(place) / name for name in sorted(files + links))


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def building_place(place: Path) -> Path:
    """Return where a folder is built before it is renamed to its place."""
    return place.with_name(f".{place.name}.{token()}.part")


def set_aside(place: Path) -> Path:
    """Rename a folder out of the way, and return where it is now."""
    aside = place.with_name(f".{place.name}.{token()}.old")
    place.rename(aside)
    return aside


def is_waiting(path: Path) -> bool:
    """Tell whether a run is set aside of a place that is empty, for a process was killed between two renames."""
    place = identity(path)
    return not place.exists() and bool(waiting(place))


def put_back(path: Path) -> None:
    """Rename a run that is set aside of an empty place to it."""
    if is_waiting(path):
        place = identity(path)
        waiting(place)[-1].rename(place)


def drop_replaced(path: Path) -> None:
    """Remove the runs that this one replaced, and beginnings of it that were killed, where they can be removed."""
    place = identity(path)
    for folder in (*waiting(place), *begun(place)):
        with contextlib.suppress(OSError):
            remove(folder, of_run)


def waiting(place: Path) -> list[Path]:
    """Return the folders that were set aside of a place, the newest last."""
    return sorted(_named(place, "old"), key=lambda folder: folder.stat().st_mtime_ns)


def begun(place: Path) -> list[Path]:
    """Return the folders that were being built for a place."""
    return _named(place, "part")


def _named(place: Path, ending: str) -> list[Path]:
    folder, wanted = place.parent, (place.name, ending)
    found = {path: TEMPORARY.fullmatch(path.name) for path in (folder.iterdir() if folder.is_dir() else ())}
    return [path for path, match in found.items() if match is not None and match.groups() == wanted]
