"""Parsing of the command line, or one line with exit code 2 for whoever mistyped it."""

import contextlib
import functools
import gc
import io
import itertools
import re
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from compo_mech.cli.errors import fail
from compo_mech.cli.stdout import leave, refuse_stdout, written

Asked = TypeVar("Asked")

AS_HELP = "as --help says"
KINDS = {"{None}|INT": "an integer", "{None}|FLOAT": "a number", "{None}|{[FLOAT [FLOAT ...]]}": "numbers"}
"""What tyro calls a setting that may also be None, and what it is."""

REPLIES: Sequence[tuple[str, Callable[[re.Match[str]], str]]] = (
    (
        r"Unrecognized options: (--\S+)(?:, .*)? meant \1",
        lambda m: f"{m[1]}: must stand before --, after which no word is a setting",
    ),
    (
        r"Unrecognized options: (.*?)(?:, [^-].*)? meant (--\S+)",
        lambda m: f"{m[1]}: there is no such setting, did you mean {m[2]}? --help lists them",
    ),
    (r"Unrecognized options: (-.*)", lambda m: f"{m[1]}: there is no such setting; --help lists them"),
    (
        r"Unrecognized options: (.*)",
        lambda m: f"{m[1]}: there is no such setting, and no place for one more word; --help lists what there is",
    ),
    (
        r"Error parsing --(\S+): Exceeds the limit .* value has (\d+) digits;.*",
        lambda m: f"{_setting(m[1])} = a number of {m[2]} digits: must be an integer of fewer digits",
    ),
    (
        r"Error parsing --(\S+): invalid literal for int\(\) with base 10: (.*)",
        lambda m: f"{_setting(m[1])} = {m[2]}: must be an integer",
    ),
    (
        r"Error parsing --(\S+): could not convert string to float: (.*)",
        lambda m: f"{_setting(m[1])} = {m[2]}: must be a number",
    ),
    (
        r"Error parsing (?:--)?(\S+): no type matching (.+) could .* from \[(.*)\]\.",
        lambda m: f"{_setting(m[1])} = {m[3]}: must be {KINDS.get(m[2], AS_HELP)}",
    ),
    (
        r"Error parsing (?:--)?(\S+): Could not .* arguments:? \[(.*?)\].*",
        lambda m: f"{_setting(m[1])} = {m[2]}: must be {AS_HELP}",
    ),
    (r"Missing value for argument '(?:--)?(\S+)'\..*", lambda m: f"{_setting(m[1])} = missing: must be given"),
    (r"Expected one of \{(.*)\}\.", lambda m: f"command = missing: must be one of {m[1]}"),
    (
        r"Missing from [^:]*:\s*(.*)",
        lambda m: " ".join(map(str.lower, re.findall(r"(\S+) .*?\(required\)", m[1]))) + " = missing: must be given",
    ),
    (
        r"invalid choice (.*) for argument '(?:--)?(\S+)'\. Expected one of \((.*)\)\s*\.",
        lambda m: f"{_setting(m[2])} = {m[1]}: must be one of {m[3]}",
    ),
)
"""What tyro complains of, and the line that says so here."""

FRAMED = 76
"""Characters in a line of tyro's frame, at most."""


def parsed(parse: Callable[[], Asked], outermost: str = "") -> Asked:
    """Return what a parser of tyro's finds. Exits with code 2 and one line on bad input, and with code 0 after --help.

    Args:
        parse: asks tyro.
        outermost: name of the class of settings that stands for no group.
    """
    _freeze_imports()
    complaint, is_closed = io.StringIO(), sys.stdout is None
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal of few characters shows "?" for the others
            stream.reconfigure(errors="replace")
    try:
        with contextlib.redirect_stderr(complaint), contextlib.ExitStack() as stack:
            if is_closed:  # which tyro asks whether it is a terminal
                stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            return parse()
    except SystemExit as stop:
        if stop.code in (0, None):
            if is_closed:
                refuse_stdout("it is closed")
            with written():
                pass
            raise
        fail(_one_line(complaint.getvalue(), outermost))
    except OSError as error:
        leave(error)
    except ValueError as error:  # of settings among the arguments of a function
        fail(str(error))


def refuse_empty(words: Sequence[str]) -> None:
    """Exit with code 2 and one line where a word is empty: as a path it would be the working directory."""
    flag = "argument"
    for word in words:
        if word.startswith("--"):
            flag, equals, value = word.removeprefix("--").partition("=")
            if equals and not value:
                word = ""
        if not word:
            fail(f"{_setting(flag)} = '': must not be empty")


@functools.cache
def _freeze_imports() -> None:
    """What was imported stays, and no collection of garbage need look at it again. Once a process: a count of what is
    frozen already walks over all of it."""
    gc.freeze()


def _one_line(box: str, outermost: str) -> str:
    """tyro's framed complaint as one line: the first paragraph after the title, without the frame."""
    lines = [line.strip("│ ") for line in box.splitlines()[1:]]
    is_rule = [set(line) <= set("─-╭╮╰╯") for line in lines]
    begin = is_rule.index(False)
    message = _unwrapped(lines[begin : is_rule.index(True, begin)]) + _meant(lines)
    for pattern, reply in REPLIES:
        if match := re.fullmatch(pattern, message):
            return reply(match)
    if match := re.fullmatch(r"Error parsing (?:--)?(\S+): (.*)", message):
        where, what = _setting(match[1]), match[2]
        if where == outermost:  # the settings outside any group
            return what
        return f"{where}.{what}" if re.match(r"[\w.]+ = ", what) else f"{where}: {what}"
    return message


def _meant(lines: Sequence[str]) -> str:
    """Return tyro's first guess of the flag that was meant, if it made one."""
    if "Perhaps you meant:" not in lines:
        return ""
    guesses = (re.match(r"--\S+", line) for line in lines[lines.index("Perhaps you meant:") :])
    return next((f" meant {guess[0]}" for guess in guesses if guess), "")


def _unwrapped(lines: Sequence[str]) -> str:
    """A wrapped paragraph as one line; a word that was too long for a line, a path say, is made whole again."""
    text = lines[0]
    for line, after in itertools.pairwise(lines):
        is_one_word = len(line.split(" ")[-1]) + len(after.split(" ")[0]) > FRAMED
        text += after if is_one_word else f" {after}"
    return text


def _setting(argument: str) -> str:
    return argument.replace("-", "_")
