"""A function as a command: its arguments are the command line's."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tyro

from compo_mech.cli.imports import HINT, without_imports
from compo_mech.cli.usage import parsed

Positional = tyro.conf.Positional
"""Marks an argument that is given by its position."""

Flag = tyro.conf.FlagCreatePairsOff
"""Marks a switch that is off unless it is named."""

Ungrouped = tyro.conf.arg(name="")
"""Marks settings whose names have no prefix."""

Command = Callable[..., None]


def call(
    command: Command, argv: Sequence[str] | None = None, description: str | None = None, prog: str | None = None
) -> None:
    """Call a function as the command line asks. Exits with code 2 and one line on bad input.

    Args:
        command: takes what its annotations say.
        argv: None: the process' arguments.
        description: for --help; None: the function's docstring.
        prog: what the command is called; None: the script's name.
    """
    words = without_imports(argv)
    parsed(lambda: tyro.cli(_bound(command), prog=prog, args=words, description=_with_hint(description)))()


def call_one(
    commands: Mapping[str, Command],
    argv: Sequence[str] | None = None,
    description: str | None = None,
    prog: str | None = None,
) -> None:
    """As `call`, of the function that the first word names."""
    bound: dict[str, Callable[..., Any]] = {name: _bound(command) for name, command in commands.items()}
    words, about = without_imports(argv), _with_hint(description)
    parsed(lambda: tyro.extras.subcommand_cli_from_dict(bound, prog=prog, args=words, description=about))()


def _with_hint(description: str | None) -> str | None:
    return description and f"{description.strip()}\n\n{HINT}"


def _bound(command: Command) -> Callable[..., Callable[[], None]]:
    """The same, to be called once its arguments are known to be good: what it prints must not be taken for a complaint
    about them."""

    @functools.wraps(command)
    def bound(*given: Any, **named: Any) -> Callable[[], None]:
        return functools.partial(command, *given, **named)

    return bound
