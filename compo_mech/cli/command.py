"""A function as a command: its arguments are the command line's."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from pydantic import Field, ValidationError, validate_call

from compo_mech.cli.errors import fail, one_line_errors
from compo_mech.cli.imports import with_hint, without_imports
from compo_mech.cli.usage import parsed, refuse_empty
from compo_mech.runs.names import well_spelled
from compo_mech.settings import one_line

Positional = tyro.conf.Positional
"""Marks an argument that is given by its position."""

Flag = tyro.conf.FlagCreatePairsOff
"""Marks a switch that is off unless it is named."""

Ungrouped = tyro.conf.arg(name="")
"""Marks settings whose names have no prefix."""

Count = Annotated[int, Field(ge=1, le=100_000)]
"""A number of things, of which there has to be one."""

NWorkers = Annotated[int, Field(ge=1, le=256)]
"""A number of processes."""

NThreads = Annotated[int, Field(ge=1, le=1024)]
"""A number of threads: from some tens of thousands on, the process crashes."""

Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""What random generators take."""

Step = Annotated[int, Field(ge=0)]
"""Of a checkpoint."""

Runs = Annotated[tuple[Path, ...], Positional, Field(min_length=1)]
"""Folders of runs, given by their positions."""

Command = Callable[..., None]


def call(
    command: Command, argv: Sequence[str] | None = None, description: str | None = None, prog: str | None = None
) -> None:
    """Call a function as the command line asks. Exits with code 2 and one line on bad input, with 130 after Ctrl-C.

    Args:
        command: takes what its annotations say, bounds of numbers included.
        argv: None: the process' arguments.
        description: for --help; None: the function's docstring.
        prog: what the command is called; None: the script's name.
    """
    words = without_imports(argv)
    refuse_empty(words)
    _run(
        parsed(
            lambda: tyro.cli(_bound(command), prog=prog, args=words, description=description and with_hint(description))
        )
    )


def call_one(
    commands: Mapping[str, Command],
    argv: Sequence[str] | None = None,
    description: str | None = None,
    prog: str | None = None,
) -> None:
    """As `call`, of the function that the first word names."""
    bound: dict[str, Callable[..., Any]] = {name: _bound(command) for name, command in commands.items()}
    words, about = without_imports(argv), description and with_hint(description)
    refuse_empty(words)
    if words and not words[0].startswith("-") and words[0].replace("_", "-") not in commands:
        fail(f"command = {words[0]}: must be one of {', '.join(commands)}")
    _run(parsed(lambda: tyro.extras.subcommand_cli_from_dict(bound, prog=prog, args=words, description=about)))


def _run(asked: Callable[[], None]) -> None:
    with one_line_errors():
        try:
            asked()
        except ValidationError as error:
            fail(one_line(error))


def _bound(command: Command) -> Callable[..., Callable[[], None]]:
    """The same, to be called once its arguments are known to be good: what it prints must not be taken for a complaint
    about them."""
    checked = validate_call(command)

    @functools.wraps(command)
    def bound(*given: Any, **named: Any) -> Callable[[], None]:
        for name, values in inspect.signature(command).bind(*given, **named).arguments.items():
            for value in values if isinstance(values, tuple) else (values,):
                if isinstance(value, Path):
                    well_spelled(name, value)
        return functools.partial(checked, *given, **named)

    known = inspect.signature(command)
    named = [one.replace(annotation=_named(name, one)) for name, one in known.parameters.items()]
    shown: Any = bound  # to tyro, which would otherwise ask what is wrapped
    shown.__signature__ = known.replace(parameters=named)
    shown.__annotations__ = {one.name: one.annotation for one in named}
    del shown.__wrapped__
    return bound


def _named(name: str, parameter: inspect.Parameter) -> Any:
    """An argument that is given by its position, shown under its name in capitals, as in the command's description; of
    several at least one is required, which tyro does not say."""
    annotation = parameter.annotation
    if Positional not in getattr(annotation, "__metadata__", ()):
        return annotation
    hint = "(required)" if parameter.default is inspect.Parameter.empty else None
    return Annotated[annotation, tyro.conf.arg(metavar=name.upper(), help_behavior_hint=hint)]
