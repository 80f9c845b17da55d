"""SHA256SUMS: the files that a folder vouches for, as `sha256sum -c` reads it, and the checksum of the list itself.

The list of a run lies among its checkpoints, so the files beside the checkpoints stand in it as `../config.json`. Its
last line is a comment with the checksum of all lines before, so that a list that was cut or changed is known for it.
Lists of earlier versions hold checkpoints alone, and no such line.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from compo_mech.runs.files import read_plain, write_whole

NAME = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  (\S.*)")


def digest(content: bytes) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(content).hexdigest()


def signed(content: bytes) -> bytes:
    """Return the content of a file that says its own checksum in its first line."""
    return f"# {digest(content)}\n".encode() + content


def without_signature(content: bytes) -> bytes | None:
    """Return what `signed` took; None: the file is damaged, or says no checksum."""
    own, _, rest = content.partition(b"\n")
    return rest if own == f"# {digest(rest)}".encode() else None


@dataclass(frozen=True)
class Sums:
    """What a list vouches for.

    Attributes:
        known: checksum by name of the file, relative to the list's folder.
        problem: what is wrong with the list itself, in a line; None: nothing.
        is_there: whether there is one.
        is_signed: whether it ends with its own checksum, as all lists of this project do now.
    """

    known: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None
    is_there: bool = True
    is_signed: bool = False


def read_sums(folder: Path) -> Sums:
    """Read a folder's list; of one that is damaged, those lines that can be read."""
    file = folder / NAME
    try:
        text = read_plain(file).decode()
    except FileNotFoundError:
        return Sums(is_there=False)
    except OSError as error:
        return Sums(problem=f"{file}: cannot be read ({error.strerror})")
    except UnicodeDecodeError:
        return Sums(problem=f"{file}: is damaged, it is no text")
    known: dict[str, str] = {}
    lines = text.splitlines(keepends=True)
    own = lines.pop() if lines and lines[-1].startswith("# ") else None
    n_bad = 0
    for line in lines:
        match = _LINE.fullmatch(line.rstrip("\n"))
        if match is None or not line.endswith("\n"):
            n_bad += 1
        else:
            known[match[2]] = match[1]
    if not lines or n_bad:
        what = f"{n_bad} of its lines cannot be read" if n_bad else "it is empty"
        return Sums(known, f"{file}: is damaged, {what}")
    needs_own = any(name.startswith("../") for name in known)
    if own != _own_line("".join(lines)) and (own is not None or needs_own):
        return Sums(known, f"{file}: is damaged, its own checksum " + ("is missing" if own is None else "differs"))
    return Sums(known, is_signed=own is not None)


def write_sums(folder: Path, known: Mapping[str, str]) -> None:
    """Write a folder's list.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(folder / NAME, sums_text(known))


def sums_text(known: Mapping[str, str]) -> str:
    """Return the content of a list."""
    lines = "".join(f"{checksum}  {name}\n" for name, checksum in sorted(known.items()))
    return lines + _own_line(lines)


def _own_line(lines: str) -> str:
    return f"# {digest(lines.encode())} of the lines above\n"
