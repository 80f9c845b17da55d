"""Parsing of the command line, or one line with exit code 2 for whoever mistyped it."""

import contextlib
import io
import re
from collections.abc import Callable
from typing import TypeVar

from compo_mech.cli.errors import fail

Asked = TypeVar("Asked")


def parsed(parse: Callable[[], Asked], outermost: str = "") -> Asked:
    """Return what a parser of tyro's finds. Exits with code 2 and one line on bad input, and with code 0 after --help.

    Args:
        parse: asks tyro.
        outermost: name of the class of settings that stands for no group.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return parse()
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        fail(_one_line(complaint.getvalue(), outermost))


def _one_line(box: str, outermost: str) -> str:
    """tyro's framed complaint as one line: the first paragraph after the title, without the frame."""
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
    if match := re.fullmatch(r"Missing from [^:]*: (.*)", message):
        missing = re.findall(r"(\S+) \(required\)", match[1])
        return f"{' '.join(missing)} = missing: must be given"
    if match := re.fullmatch(r"invalid choice (.*) for argument '(?:--)?(\S+)'\. Expected one of \((.*)\)\.", message):
        return f"{_setting(match[2])} = {match[1]}: must be one of {match[3]}"
    if match := re.fullmatch(r"Error parsing (?:--)?(\S+): (.*)", message):
        where, what = _setting(match[1]), match[2]
        if where == outermost:  # the settings outside any group
            return what
        return f"{where}.{what}" if re.match(r"[\w.]+ = ", what) else f"{where}: {what}"
    return message


def _setting(argument: str) -> str:
    return argument.replace("-", "_")
