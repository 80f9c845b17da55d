"""Ctrl-C while a script's libraries are still imported, which takes seconds: one line and code 130, as later on.

An exception would not do: libraries that are being imported swallow it, or take another way out.
"""

import os
import signal
import sys

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def watch_imports() -> None:
    """Until `begin`, end the process at Ctrl-C; nothing has been begun that would have to be ended in order."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else the process is not to hear of it
        signal.signal(signal.SIGINT, _leave)


def begin() -> None:
    """From here on Ctrl-C is an exception again, for there is something to end in order."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def is_script() -> bool:
    """Tell whether this process runs a script of the checkout, and not a program that imports the package."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    if file is None:
        return False
    folder, root = os.path.dirname(os.path.abspath(file)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return folder in [os.path.join(root, name) for name in ("experiments", "probes", "figures")]


def _leave(signum: int, frame: object) -> None:
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)
