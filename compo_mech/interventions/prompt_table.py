"""Clean and corrupt prompts side by side: what is compared, where they answer, and what is refused."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from compo_mech.interventions.prompts import (
    Answer,
    Prompt,
    PromptReader,
    Where,
    integer,
    padded,
    refuse,
    several,
)
from compo_mech.settings import shown

Answers = Answer | Iterable[Answer] | Int[Tensor, "..."]
"""Of a row: one, or one for each of its positions that answer."""

Positions = int | Iterable[int]
"""Of a row: where it answers, counted from its end where negative."""


class PromptTable(NamedTuple):
    """Prompts as tensors, and what is scored.

    Attributes:
        clean, corrupt: tokens, padded where a row is over.
        lengths, corrupt_lengths: of the rows.
        row, position: the scored positions.
        target, foil: the answers there.
        spans: masks by name.

    >>> PromptTable._fields[:4]
    ('clean', 'corrupt', 'lengths', 'corrupt_lengths')
    """

    clean: Int[Tensor, "batch pos"]
    corrupt: Int[Tensor, "batch pos"]
    lengths: Int[Tensor, "batch"]
    corrupt_lengths: Int[Tensor, "batch"]
    row: Int[Tensor, "scored"]
    position: Int[Tensor, "scored"]
    target: Int[Tensor, "scored"]
    foil: Int[Tensor, "scored"]
    spans: dict[str, Bool[Tensor, "batch pos"]]


def prompt_table(
    reader: PromptReader,
    prompts: Mapping[str, Iterable[Prompt]],
    answers: Mapping[str, Iterable[Answers]],
    position: Iterable[Positions] | None,
    spans: Mapping[str, Where | Iterable[Where]],
) -> PromptTable:
    """Read prompts and their answers.

    Args:
        reader: of texts and tokens.
        prompts: `clean` and `corrupt`.
        answers: `answer` and `foil`.
        position: where each row answers; None: at its last token.
        spans: where each lies, in all rows alike or one after the other.

    Raises:
        ValueError: one line that names the prompt and what is wrong with it.

    >>> from compo_mech import Parity, build
    >>> reader = PromptReader(build(Parity(), max_length=3).model, None)
    >>> prompts, answers = {"clean": [[5, 1, 0, 2]], "corrupt": [[5, 0, 0, 2]]}, {"answer": [1], "foil": [0]}
    >>> table = prompt_table(reader, prompts, answers, None, {"x1": 1})
    >>> table.position.tolist(), table.spans["x1"].int().tolist()
    ([3], [[0, 1, 0, 0]])
    """
    if not isinstance(spans, Mapping):
        refuse("spans", shown(spans), "must be a dictionary of places by name")
    given = _columns({**prompts, **answers} | ({} if position is None else {"position": position}))
    clean, corrupt = (
        [reader.tokens(f"{name}[{i}]", prompt) for i, prompt in enumerate(given[name])] for name in prompts
    )
    _check_pairs(clean, corrupt, aligned=position is None)
    places = [[-1]] * len(clean) if position is None else given["position"]
    scored = [_positions(i, place, len(row)) for i, (place, row) in enumerate(zip(places, clean, strict=True))]
    for i, positions in enumerate(scored):
        if max(positions) >= len(corrupt[i]):
            refuse(f"position[{i}]", max(positions), f"must be 0 .. {len(corrupt[i]) - 1}, where corrupt[{i}] is read")
    found = {
        name: [
            _answers(reader, f"{name}[{i}]", one, prompt, scored[i], position is None)
            for i, (one, prompt) in enumerate(zip(given[name], given[source], strict=True))
        ]
        for name, source in zip(answers, prompts, strict=True)
    }
    for i, (right, wrong) in enumerate(zip(found["answer"], found["foil"], strict=True)):
        for token in (one for one, other in zip(right, wrong, strict=True) if one == other):
            refuse(f"foil[{i}]", f"token {token}", "must differ from the answer")
    n_pos = max(map(len, (*clean, *corrupt)))
    return PromptTable(
        padded(clean, n_pos),
        padded(corrupt, n_pos),
        torch.tensor([len(row) for row in clean]),
        torch.tensor([len(row) for row in corrupt]),
        torch.tensor([i for i, positions in enumerate(scored) for _ in positions]),
        torch.tensor([p for positions in scored for p in positions]),
        torch.tensor([token for tokens in found["answer"] for token in tokens]),
        torch.tensor([token for tokens in found["foil"] for token in tokens]),
        {name: _span(reader, name, where, clean, n_pos) for name, where in spans.items()},
    )


def _check_pairs(clean: Sequence[Sequence[int]], corrupt: Sequence[Sequence[int]], aligned: bool) -> None:
    """
    Raises:
        ValueError: the prompts of a pair do not differ, or are not of one length where both answer at their last token.
    """
    for i, (one, other) in enumerate(zip(clean, corrupt, strict=True)):
        if one == other:
            refuse(f"corrupt[{i}]", f"clean[{i}]", "must differ from it, or no patch can show anything")
        if aligned and len(one) != len(other):
            refuse(
                f"corrupt[{i}]", f"{len(other)} tokens", f"must be {len(one)}, as clean[{i}] is, or position must say "
                "where both answer"
            )  # fmt: skip


def _columns(given: Mapping[str, object]) -> dict[str, list]:
    """Each as a list, so that what has row numbers of its own, as a sorted table has, is read in order as well.

    Raises:
        ValueError: one is no list, or they have no row, or not as many.
    """
    columns: dict[str, list] = {}
    for name, values in given.items():
        column = several(values)
        if column is None:
            refuse(name, shown(values), "must be a list of them, one for each pair")
        columns[name] = column
    n_rows = len(columns["clean"])
    if not n_rows:
        refuse("clean", "none", "must have at least one prompt")
    for name, column in columns.items():
        if len(column) != n_rows:
            refuse(name, f"{len(column)} rows", f"must be {n_rows}, as many as there are clean prompts")
    return columns


def _positions(i: int, given: object, n: int) -> list[int]:
    found = [given] if integer(given) is not None else several(given)
    positions = [place for place in map(integer, found or []) if place is not None]
    if found is None or len(positions) < len(found):
        refuse(f"position[{i}]", shown(given), "must be a position, which is an integer, or a list of them")
    if not positions:
        refuse(f"position[{i}]", "none", "must be at least one, where the row answers")
    for position in positions:
        if not -n <= position < n:
            refuse(f"position[{i}]", position, f"must be {-n} .. {n - 1}")
    places = [position % n for position in positions]
    if len(set(places)) < len(places):
        refuse(f"position[{i}]", positions, "must be different ones")
    return places


def _answers(
    reader: PromptReader, name: str, given: object, prompt: Prompt, positions: Sequence[int], at_end: bool
) -> list[int]:
    found = several(given)
    answers = [given] if found is None else found
    if len(answers) != len(positions):
        where = "at its last token, or position must say where" if at_end else f"at {len(positions)} positions"
        refuse(name, f"{len(answers)} answers", f"must be {len(positions)}, since the row answers {where}")
    before = prompt if at_end else None  # elsewhere the prompt goes on behind the answer
    return [reader.answer(name, _answer(name, one), before) for one in answers]


def _answer(name: str, given: object) -> Answer:
    token = given if isinstance(given, str) else integer(given)
    if token is None:
        refuse(name, shown(given), "must be a token, as a text or an id")
    return token


def _span(
    reader: PromptReader, name: str, given: object, rows: Sequence[Sequence[int]], n_pos: int
) -> Bool[Tensor, "batch pos"]:
    each = None if isinstance(given, range) else several(given)
    places = [given] * len(rows) if each is None else each
    if len(places) != len(rows):
        refuse(f"spans[{name}]", f"{len(places)} rows", f"must be {len(rows)}, as many as there are clean prompts")
    where = torch.zeros(len(rows), n_pos, dtype=torch.bool)
    for i, (place, ids) in enumerate(zip(places, rows, strict=True)):
        found = reader.span(f"spans[{name}][{i}]", _place(f"spans[{name}][{i}]", place), ids)
        where[i, found.start : found.stop] = True
    return where


def _place(name: str, given: object) -> Where:
    place = given if isinstance(given, str | range) else integer(given)
    if place is None:
        refuse(name, shown(given), "must be a position, a range of them or a text")
    return place
