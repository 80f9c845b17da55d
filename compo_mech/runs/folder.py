"""What of a run's folder the project wrote, and so may remove; and runs set aside while others take their place.

A run that is replaced is renamed to `.NAME.TOKEN.old` beside its place and stays there until the new one is trained to
its end. Whatever the project did not write is left where it is.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from compo_mech.runs.files import identity, is_part, token
from compo_mech.runs.sums import NAME, read_sums
from compo_mech.runs.vouched import CHECKPOINT

_TOP = {"config.json", "environment.json", "metrics.csv", "report.html"}
_ANALYSIS = re.compile(r"[\w-]+-\d{6,}.*/(findings\.txt|section\.html|circuit\.json|[^/]*\.csv)")
"""What an analysis of an earlier version, without a list of its own, may have left."""


def of_run(path: Path, folder: Path) -> bool:
    """Tell whether the project wrote this file into the folder of a run."""
    top, *rest = path.relative_to(folder).parts
    if is_part(path.name) or top == "wandb":  # which its library writes
        return True
    if path.name.startswith(".") and path.suffix == ".part":  # half written by an earlier version
        return of_run(path.with_name(path.name[1:].removesuffix(".part")), folder)
    match top, len(rest):
        case _, 0:
            return top in _TOP
        case "checkpoints", 1:
            return rest[0] == NAME or CHECKPOINT.fullmatch(rest[0]) is not None
        case "analysis", 2:
            return (rest[0] == ".cache" and path.suffix == ".csv") or of_analysis(path, path.parent)
    return False


def of_analysis(path: Path, folder: Path) -> bool:
    """Tell whether the project wrote this file into the folder of an analysis."""
    if path.parent != folder:
        return False
    sums = read_sums(folder)
    if sums.is_there:
        return (sums.is_signed and path.name in (NAME, *sums.known)) or is_part(path.name)
    return _ANALYSIS.fullmatch(f"{folder.name}/{path.name}") is not None


Ours = Callable[[Path, Path], bool]
"""Tells of a file and the folder around it whether the project wrote it: `of_run`, `of_analysis`."""


def strangers(folder: Path, ours: Ours) -> list[Path]:
    """Return what the project did not write into a folder."""
    return [path for path in _files(folder) if not ours(path, folder)]


def remove(folder: Path, ours: Ours) -> None:
    """Remove what the project wrote into a folder, and the folder itself if nothing else is in it.

    Raises:
        OSError: something cannot be removed.
    """
    for path in [path for path in _files(folder) if ours(path, folder)]:
        path.unlink(missing_ok=True)
    for place, _, _ in list(os.walk(folder, topdown=False)):
        if not any(Path(place).iterdir()):
            Path(place).rmdir()


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder, and links to folders, which are not followed."""
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        yield from (Path(place) / name for name in sorted(files + links))


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
    return not place.exists() and bool(_named(place, "old"))


def put_back(path: Path) -> None:
    """Rename a run that is set aside of an empty place to it."""
    if is_waiting(path):
        place = identity(path)
        max(_named(place, "old"), key=lambda folder: folder.stat().st_mtime_ns).rename(place)


def drop_replaced(path: Path) -> None:
    """Remove the runs that this one replaced, and beginnings of it that were killed, where they can be removed."""
    place = identity(path)
    for folder in (*_named(place, "old"), *_named(place, "part")):
        with contextlib.suppress(OSError):
            remove(folder, of_run)


def _named(place: Path, ending: str) -> list[Path]:
    pattern = re.compile(rf"\.{re.escape(place.name)}\.[0-9a-f]{{12}}\.{ending}")
    folder = place.parent
    return [path for path in folder.iterdir() if pattern.fullmatch(path.name)] if folder.is_dir() else []
