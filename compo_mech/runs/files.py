"""Files that are there whole or not at all, that are read only where they are plain files, and that are known by their
resolved path."""

import errno
import os
import re
import secrets
import sys
from pathlib import Path

_PART = re.compile(r"\.compo-[0-9a-f]{12}\.part")


def identity(path: str | Path) -> Path:
    """Return the path that two spellings of one file or folder share: absolute, without links and `..`."""
    return Path(os.path.realpath(path))


def token() -> str:
    """Draw what makes a temporary name unlike any other."""
    return secrets.token_hex(6)


def is_part(name: str) -> bool:
    """Tell whether a file of this name is what a killed `write_whole` left."""
    return _PART.fullmatch(name) is not None


def read_plain(path: Path) -> bytes:
    """Read a plain file; a pipe, which would be waited for without end, is refused.

    Raises:
        OSError: there is none, it is no plain file, or it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "no plain file", str(path))
    return path.read_bytes()


def as_bytes(text: str) -> bytes:
    """Return a text as UTF-8; what a name that is not UTF-8 has brought into it is written as Python writes it.

    Example:
        >>> from compo_mech.runs.files import as_bytes
        >>> as_bytes(chr(0xDCE9) + ".txt").decode()
        '\\\\udce9.txt'
    """
    return text.encode(errors="backslashreplace")


def shown(what: object) -> str:
    """Return a path, or a text with such in it, as it can be printed and written (see `as_bytes`)."""
    return as_bytes(str(what)).decode()


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all, in place of one that may be there; several writers cannot mix.

    Through a link it is the file behind it that is replaced. Text is written as UTF-8.

    Raises:
        OSError: it cannot be written, or what is there is no plain file.
    """
    target = identity(path)
    if target.exists() and not target.is_file():
        code = errno.EISDIR if target.is_dir() else errno.EINVAL
        raise OSError(code, os.strerror(code) if target.is_dir() else "no plain file", str(path))
    part = target.with_name(f".compo-{token()}.part")
    try:
        with part.open("xb") as out:
            out.write(as_bytes(content) if isinstance(content, str) else content)
            out.flush()
            os.fsync(out.fileno())
        part.replace(target)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError):  # of the file that was asked for, and not of its temporary name
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make what was renamed in a folder outlast a power cut, where the system can."""
    if sys.platform == "win32":  # where a folder cannot be opened
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
