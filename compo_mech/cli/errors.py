"""One line with exit code 2 for whoever mistyped a setting, or whose run cannot be read."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from compo_mech.runs.checkpoints import RunError


def fail(message: str) -> NoReturn:
    """One line for the user, exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Inside, what is wrong with a run, a setting or a file ends the script with one line and code 2."""
    try:
        yield
    except (RunError, ValueError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: cannot be read or written ({error.strerror})" if error.filename else str(error))
