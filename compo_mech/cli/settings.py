"""Settings from the command line, and one line with exit code 2 for whoever mistyped one."""

import contextlib
import io
import re
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from compo_mech.cli.errors import fail
from compo_mech.data.config import Stage
from compo_mech.data.tasks import Task
from compo_mech.settings import Settings

Group = TypeVar("Group", bound=Settings)


def read(default: Group, argv: Sequence[str] | None, otherwise: str) -> Group:
    """The settings that the command line asks for. Exits with code 2 and one line on bad input.

    Args:
        default: the script's settings, each of which the command line can change.
        argv: None: the process' arguments.
        otherwise: what the script does, for --help, where it has no docstring.
    """
    registry = tyro.constructors.ConstructorRegistry()
    for kind in (Task, Stage):
        registry.primitive_rule(_spelled(kind))
    doc = sys.modules["__main__"].__doc__
    description = doc.strip() if doc else otherwise
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(type(default), args=argv, default=default, registry=registry, description=description)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        fail(_one_line(complaint.getvalue(), type(default).__name__))


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


def _one_line(box: str, outermost: str) -> str:
    """tyro's framed complaint as one line: the first paragraph after the title, without the frame.

    Args:
        box: the complaint.
        outermost: name of the class of settings, which stands for no group.
    """
    lines = [line.strip("│ ") for line in box.splitlines()[1:]]
    is_rule = [set(line) <= set("─-╭╮╰╯") for line in lines]
    begin = is_rule.index(False)
    message = " ".join(lines[begin : is_rule.index(True, begin)])
    if match := re.fullmatch(r"Unrecognized options: (.*)", message):
        return f"{match[1]}: there is no such setting; --help lists them"
    if match := re.fullmatch(r"Error parsing --(\S+): invalid literal for int\(\) with base 10: (.*)", message):
        return f"{_setting(match[1])} = {match[2]}: must be an integer"
    if match := re.fullmatch(r"Error parsing --(\S+): could not convert string to float: (.*)", message):
        return f"{_setting(match[1])} = {match[2]}: must be a number"
    if match := re.fullmatch(r"invalid choice (.*) for argument '--(\S+)'\. Expected one of \((.*)\)\.", message):
        return f"{_setting(match[2])} = {match[1]}: must be one of {match[3]}"
    if match := re.fullmatch(r"Error parsing (?:--)?(\S+): (.*)", message):
        where, what = _setting(match[1]), match[2]
        if where == outermost:  # the settings outside any group
            return what
        return f"{where}.{what}" if re.match(r"[\w.]+ = ", what) else f"{where}: {what}"
    return message


def _setting(argument: str) -> str:
    return argument.replace("-", "_")
