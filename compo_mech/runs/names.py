"""Runs that stand beside each other: a run is its resolved path, and its name is as much of that as it takes."""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from compo_mech.runs.files import identity, shown
from compo_mech.runs.folder import building_place
from compo_mech.runs.run import Run
from compo_mech.runs.vouched import RunError

NAME_BYTES, PATH_BYTES = 255, 4000
"""Of the name of a file and of a whole path, at most, on the systems that there are."""
N_ADDED = len(building_place(Path("x")).name) - len("x")
"""Bytes by which the name of a run's folder is longer while it is built."""
DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{kind}{n}" for kind in ("COM", "LPT") for n in range(1, 10))}
UNPRINTED = {"Cc", "Cs", "Zl", "Zp"}
"""Kinds of characters, as Unicode has them: control characters, halves of pairs, which stand for bytes that are no
UTF-8, and line breaks."""


def once(paths: Iterable[Path]) -> list[Path]:
    """Return the folders, each once however often and by whatever paths it is given, in their order."""
    found: dict[Path, Path] = {}
    for path in paths:
        found.setdefault(identity(path), path)
    return list(found.values())


def distinct(paths: Sequence[Path]) -> list[str]:
    """Return names of folders; with as much of the path before them as makes them distinct, or a number.

    They can be written anywhere, also where a folder's name is not UTF-8.
    """
    places = [identity(path) for path in paths]
    n_parts = 1
    while len({place.parts[-n_parts:] for place in places}) < len(set(places)):
        n_parts += 1
    names: list[str] = []
    for place in places:
        own = shown(os.sep.join(place.parts[-n_parts:]))
        name, n = own, 1
        while name in names:  # the same folder again
            n += 1
            name = f"{own} ({n})"
        names.append(name)
    return names


def opened(paths: Iterable[Path]) -> tuple[list[Run], list[str]]:
    """Open those runs that can be opened, and list what is wrong with the others, in a line each."""
    runs, problems = [], []
    for path in paths:
        try:
            runs.append(Run.open(path))
        except RunError as error:
            problems.append(str(error))
    return runs, problems


def folder_problem(name: str) -> str | None:
    """Return what is wrong with a name for the folder of a run; None: nothing."""
    if name in ("", ".", "..") or any(separator in name for separator in ("/", "\\")):
        return "must be the name of one folder, which goes into runs_dir"
    if not (name[0].isalnum() or name[0] == "_"):
        return "must begin with a letter, a digit or _, so that no tool takes it for something else"
    if not name.isprintable() or name.endswith((".part", ".old")) or name == "failures":
        return "must be printable, not end in .part or .old and not be failures, which are names of this project's own"
    if name.partition(".")[0].rstrip().upper() in DEVICES:
        return "must not be that of a device, such as con or aux.txt, which Windows cannot have"
    if (n := len(name.encode())) > NAME_BYTES - N_ADDED:
        return f"must have at most {NAME_BYTES - N_ADDED} bytes, it has {n}"
    return None


def well_spelled(name: str, path: Path) -> Path:
    """Return a path that can be that of a file, and written onto a page; there may be no such file.

    Args:
        name: of the setting.
        path: its value.

    Raises:
        ValueError: it has control characters, line breaks or bytes that are no UTF-8, or is longer than any path.
    """
    if any(unicodedata.category(letter) in UNPRINTED for letter in str(path)):
        raise ValueError(f"{name} = {str(path)!r}: must be UTF-8 without control characters and line breaks")
    if max(map(len, map(os.fsencode, path.parts)), default=0) > NAME_BYTES or len(os.fsencode(path)) > PATH_BYTES:
        shown = f"{str(path)[:60]}…"
        raise ValueError(f"{name} = {shown}: must have at most {NAME_BYTES} bytes a name and {PATH_BYTES} in all")
    return path
