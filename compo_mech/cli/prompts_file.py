"""Prompts in a file, one pair a line."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compo_mech.interventions.pairs import Pairs
from compo_mech.model.params import Model
from compo_mech.runs.files import read_plain
from compo_mech.settings import quoted

NEEDED = ("clean", "corrupt", "answer", "foil")
OPTIONAL = ("position", "spans")


def pairs_in(path: Path, model: Model) -> Pairs:
    """Return the pairs of a file, each line of which is a JSON object.

    It has `clean` and `corrupt`, texts or lists of token ids; `answer` and `foil`, one token each, or several in a list
    where `position` lists as many; and, if one likes, `spans`: by name a position, a text, or the first position and
    the one behind the last.

    Raises:
        ValueError: one line that says what is wrong, and in which line of the file.
    """
    try:
        text = read_plain(path).decode("utf-8-sig")  # some programs begin a text with a mark of its encoding
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ValueError(f"prompts = {path}: must be a file of JSON lines ({reason})") from None
    lines = text.split("\n")  # a text may hold what other systems take for line breaks
    rows = [_row(f"{path}, line {i}", line) for i, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise ValueError(f"prompts = {path}: must have at least one pair")
    for name in OPTIONAL:
        if len({name in row for row in rows}) > 1:
            raise ValueError(f"prompts = {path}: {name} must be in every line or in none")
    spans = {frozenset(row.get("spans", {})) for row in rows}
    if len(spans) > 1:
        raise ValueError(f"prompts = {path}: every line must have the same spans")
    given: dict[str, Any] = {name: [row[name] for row in rows] for name in NEEDED}
    if "position" in rows[0]:
        given["position"] = [row["position"] for row in rows]
    (names,) = spans
    given["spans"] = {name: [_where(row["spans"][name]) for row in rows] for name in sorted(names)}
    return Pairs.of(model, **given)


class _Twice(Exception):
    """A name that an object has twice, of which one would be lost."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise _Twice(quoted(name))
    return dict(pairs)


def _row(place: str, line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line, object_pairs_hook=_once)
    except _Twice as twice:
        raise ValueError(f"prompts = {place}: must have {twice} once") from None
    except (ValueError, RecursionError):  # of which a number of too many digits is one as well
        raise ValueError(f"prompts = {place}: must be a JSON object with {', '.join(NEEDED)}") from None
    if not isinstance(row, dict):
        raise ValueError(f"prompts = {place}: must be a JSON object with {', '.join(NEEDED)}")
    for name in NEEDED:
        if name not in row:
            raise ValueError(f"prompts = {place}: must have {name}")
    for name, value in row.items():
        if name not in (*NEEDED, *OPTIONAL):
            raise ValueError(f"prompts = {place}: {name!r} must be one of {', '.join((*NEEDED, *OPTIONAL))}")
        if not _is_known(name, value):
            raise ValueError(f"prompts = {place}: {name} must be {KINDS[name]}, not {json.dumps(value)[:60]}")
    return row


KINDS = {
    "clean": "a text or a list of token ids",
    "corrupt": "a text or a list of token ids",
    "answer": "a token, as a text or an id, or a list of them",
    "foil": "a token, as a text or an id, or a list of them",
    "position": "a position or a list of them",
    "spans": "an object of positions, texts, or pairs of first position and the one behind the last",
}
"""What each field of a line may hold."""


def _is_known(name: str, value: object) -> bool:
    def number(x: object) -> bool:
        return isinstance(x, int) and not isinstance(x, bool)

    def numbers(x: object) -> bool:
        return isinstance(x, list) and all(map(number, x))

    def ends(x: list) -> bool:
        return numbers(x) and len(x) == 2

    match name:
        case "clean" | "corrupt":
            return isinstance(value, str) or numbers(value)
        case "answer" | "foil":
            return all(number(x) or isinstance(x, str) for x in (value if isinstance(value, list) else [value]))
        case "position":
            return number(value) or numbers(value)
        case _:
            places = value.values() if isinstance(value, dict) else [None]
            return all(number(x) or isinstance(x, str) or (isinstance(x, list) and ends(x)) for x in places)


def _where(place: int | str | list[int]) -> int | str | range:
    return range(*place) if isinstance(place, list) else place
