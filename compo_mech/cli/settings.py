"""Settings from the command line, each of which has a default."""

from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from compo_mech.cli.imports import with_hint, without_imports
from compo_mech.cli.usage import parsed, refuse_empty
from compo_mech.data.config import Stage
from compo_mech.data.tasks import Task
from compo_mech.settings import Settings

Group = TypeVar("Group", bound=Settings)


def read(default: Group, argv: Sequence[str] | None, description: str, prog: str | None = None) -> Group:
    """The settings that the command line asks for. Exits with code 2 and one line on bad input.

    Args:
        default: the command's settings, each of which the command line can change.
        argv: None: the process' arguments.
        description: what the command does, for --help.
        prog: what the command is called; None: the script's name.
    """
    registry = tyro.constructors.ConstructorRegistry()
    for kind in (Task, Stage):
        registry.primitive_rule(_spelled(kind))
    group, about, words = type(default), with_hint(description), without_imports(argv)
    refuse_empty(words)
    return parsed(
        lambda: tyro.cli(group, prog=prog, args=words, default=default, registry=registry, description=about),
        group.__name__,
    )


def _spelled(kind: type[Task] | type[Stage]) -> Any:
    def rule(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec | None:
        if info.type is not kind:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar=kind.__name__.upper(),
            instance_from_str=lambda words: words[0],  # the config reads it, and says what is wrong
            is_instance=lambda value: isinstance(value, kind),
            str_from_instance=lambda value: [str(value)],
        )

    return rule
