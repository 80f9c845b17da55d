"""Standard output that cannot be written: closed, full, or read by nobody any more. What --help needs is imported."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn


def print_help(text: str) -> None:
    """Print a text. Exits with code 2 and one line where that cannot be, and quietly with code 1 where nobody reads
    it."""
    if sys.stdout is None:
        refuse_stdout("it is closed")
    with written():
        print(text)


@contextmanager
def written() -> Iterator[None]:
    """Inside, an error of no file is one of standard output, which is written out at the end; exits as `print_help`."""
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        leave(error)


def leave(error: OSError) -> NoReturn:
    """End where standard output cannot be written; an error of a file is raised as it is."""
    if isinstance(error, BrokenPipeError):
        leave_quietly()
    if error.filename is not None:
        raise error
    refuse_stdout(error.strerror)


def refuse_stdout(why: str | None) -> NoReturn:
    """One line for the user, exit code 2."""
    print(f"error: stdout = {getattr(sys.stdout, 'name', None)}: cannot be written ({why})", file=sys.stderr)
    _forget_the_rest()
    sys.exit(2)


def leave_quietly() -> NoReturn:
    """Whoever read the output has seen enough."""
    _forget_the_rest()
    sys.exit(1)


def _forget_the_rest() -> None:
    """Python must not try to flush it at the end."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
