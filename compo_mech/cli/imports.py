"""Modules with tasks of one's own, which `--import MODULE` names for any command."""

import importlib
import os
import sys
from collections.abc import Sequence

from compo_mech.cli.errors import fail

FLAG = "--import"
HINT = f"{FLAG} MODULE first imports a module with tasks of your own, from here or installed."
IMPORTED: list[str] = []
"""Modules that were named, for processes that are started later."""
COMMANDS = ("python ", "compo-mech ")
"""What an example in a description begins with."""


def with_hint(description: str) -> str:
    """Return a description for --help, with what all commands take besides.

    Examples begin as at a shell's prompt: tyro would join lines that begin with a letter.
    """
    lines = description.strip().splitlines()
    return "\n".join([*(f"$ {line}" if line.startswith(COMMANDS) else line for line in lines), "", HINT])


def without_imports(argv: Sequence[str] | None) -> list[str]:
    """Import the modules that the command line names, and return its other words.

    A module may lie in the working directory; processes that are started later find it there too. Exits with code 2 and
    one line where it cannot be imported.

    Args:
        argv: None: the process' arguments.
    """
    left: list[str] = []
    words = iter(sys.argv[1:] if argv is None else argv)
    for word in words:
        flag, equals, module = word.partition("=")
        if flag != FLAG:
            left.append(word)
            continue
        _import(module if equals else next(words, ""))
    return left


def _import(module: str) -> None:
    if module.endswith(".py") or not all(part.isidentifier() for part in module.split(".")):
        fail(f"import = {module!r}: must be the name of a module, such as my_tasks for my_tasks.py")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
        known = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = f"{known}{os.pathsep}{here}" if known else here
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            fail(f"import = {module!r}: cannot be imported ({error})")
        fail(f"import = {module!r}: must be a module in {here}, or an installed one")
    except (Exception, SystemExit) as error:  # whatever the module does, which may be to end the process
        reason = (str(error).splitlines() or [""])[0]
        fail(f"import = {module!r}: cannot be imported ({type(error).__name__}: {reason})")
    IMPORTED.append(module)
