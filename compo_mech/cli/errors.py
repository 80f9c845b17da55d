"""One line for whoever mistyped a setting, whose run cannot be read, or who pressed Ctrl-C."""

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import torch

from compo_mech.cli.stdout import leave_quietly, written
from compo_mech.interrupts import INTERRUPTED, begin
from compo_mech.runs.checkpoints import RunError


def fail(message: str) -> NoReturn:
    """One line for the user, exit code 2."""
    print(f"error: {shown(' '.join(message.splitlines()))}", file=sys.stderr)
    sys.exit(2)


def shown(text: str) -> str:
    """Return a text whose characters are all printed: what a terminal would take for a command is spelled out.

    >>> shown("name = \x1b[31mred")
    'name = \\\\x1b[31mred'
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


@contextmanager
def one_line_errors(next_step: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Inside, what is wrong with a run, a setting or a file ends the script with one line and code 2, and Ctrl-C with
    one line and code 130. So does an output that cannot be printed, with code 2.

    Args:
        next_step: asked after Ctrl-C what there is to do next.
    """
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper) and out.errors == "strict":  # some names of files are not UTF-8
        out.reconfigure(errors="backslashreplace")
    try:
        begin()
        yield
        with written():
            pass
    except KeyboardInterrupt:
        hint = next_step()
        print(f"interrupted; {hint}" if hint else "interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except (RunError, ValueError) as error:
        fail(str(error) or _reason(error))
    except BrokenPipeError:
        leave_quietly()
    except OSError as error:
        if error.filename is None:
            with written():  # whether it is that which cannot be: nothing else tells
                print(flush=True)
        fail(f"{error.filename}: cannot be read or written ({error.strerror})" if error.filename else _reason(error))
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        fail(f"memory = exhausted: smaller settings are needed ({_reason(error)})")


def _reason(error: Exception) -> str:
    """The first line of what an error says; its name where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _is_out_of_memory(error: Exception) -> bool:
    """Torch names the exception on a GPU; on a CPU its words alone tell."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
