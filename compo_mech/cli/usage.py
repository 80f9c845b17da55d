"""Parsing of the command line, or one line with exit code 2 for whoever mistyped it."""

import contextlib
import io
import itertools
import re
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from compo_mech.cli.errors import fail

Asked = TypeVar("Asked")

KINDS = {"{None}|INT": "an integer", "{None}|FLOAT": "a number", "{None}|{[FLOAT [FLOAT ...]]}": "numbers"}
"""What tyro calls a setting that may also be None, and what it is."""

FRAMED = 76
"""Characters in a line of tyro's frame, at most."""


def parsed(parse: Callable[[], Asked], outermost: str = "") -> Asked:
    """Return what a parser of tyro's finds. Exits with code 2 and one line on bad input, and with code 0 after --help.

    Args:
        parse: asks tyro.
        outermost: name of the class of settings that stands for no group.
    """
    complaint = io.StringIO()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal of few characters shows "?" for the others
            stream.reconfigure(errors="replace")
    try:
        with contextlib.redirect_stderr(complaint):
            return parse()
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        fail(_one_line(complaint.getvalue(), outermost))
    except ValueError as error:  # of settings among the arguments of a function
        fail(str(error))


def _one_line(box: str, outermost: str) -> str:
    """tyro's framed complaint as one line: the first paragraph after the title, without the frame."""
    lines = [line.strip("│ ") for line in box.splitlines()[1:]]
    is_rule = [set(line) <= set("─-╭╮╰╯") for line in lines]
    begin = is_rule.index(False)
    message = _unwrapped(lines[begin : is_rule.index(True, begin)])
    if match := re.fullmatch(r"Unrecognized options: (.*)", message):
        return f"{match[1]}: there is no such setting; --help lists them"
    if match := re.fullmatch(r"Error parsing --(\S+): invalid literal for int\(\) with base 10: (.*)", message):
        return f"{_setting(match[1])} = {match[2]}: must be an integer"
    if match := re.fullmatch(r"Error parsing --(\S+): could not convert string to float: (.*)", message):
        return f"{_setting(match[1])} = {match[2]}: must be a number"
    if match := re.fullmatch(r"Error parsing (?:--)?(\S+): no type matching (.+) could .* from \[(.*)\]\.", message):
        kinds = KINDS.get(match[2], "as --help says")
        return f"{_setting(match[1])} = {match[3]}: must be {kinds}"
    if match := re.fullmatch(r"Error parsing (?:--)?(\S+): Could not .* arguments:? \[(.*?)\].*", message):
        return f"{_setting(match[1])} = {match[2]}: must be as --help says"
    if match := re.fullmatch(r"Missing value for argument '(?:--)?(\S+)'\..*", message):
        return f"{_setting(match[1])} = missing: must be given"
    if match := re.fullmatch(r"Expected one of \{(.*)\}\.", message):
        return f"command = missing: must be one of {match[1]}"
    if match := re.fullmatch(r"Missing from [^:]*:\s*(.*)", message):
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


def _unwrapped(lines: Sequence[str]) -> str:
    """A wrapped paragraph as one line; a word that was too long for a line, a path say, is made whole again."""
    text = lines[0]
    for line, after in itertools.pairwise(lines):
        is_one_word = len(line.split(" ")[-1]) + len(after.split(" ")[0]) > FRAMED
        text += after if is_one_word else f" {after}"
    return text


def _setting(argument: str) -> str:
    return argument.replace("-", "_")
