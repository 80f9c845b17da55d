"""Clean and corrupt prompts side by side: what is compared, where they answer, and what is refused."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from compo_mech.interventions.prompts import Answer, Prompt, PromptReader, Where, padded, quoted, refuse

Answers = Answer | Sequence[Answer]
"""Of a row: one, or one for each of its positions that answer."""

Positions = int | Sequence[int]
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
    prompts: Mapping[str, Sequence[Prompt] | Tensor],
    answers: Mapping[str, Sequence[Answers] | Tensor],
    position: Sequence[Positions] | None,
    spans: Mapping[str, Where | Sequence[Where]],
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
    n_rows = _n_rows({**prompts, **answers} | ({} if position is None else {"position": position}))
    clean, corrupt = (
        [reader.tokens(f"{name}[{i}]", prompt) for i, prompt in enumerate(given)] for name, given in prompts.items()
    )
    _check_pairs(clean, corrupt, aligned=position is None)
    scored = [_positions(i, None if position is None else position[i], len(row)) for i, row in enumerate(clean)]
    for i, positions in enumerate(scored):
        if max(positions) >= len(corrupt[i]):
            refuse(f"position[{i}]", max(positions), f"must be 0 .. {len(corrupt[i]) - 1}, where corrupt[{i}] is read")
    found = {
        name: [
            _answers(reader, f"{name}[{i}]", one, prompts[source][i], scored[i], position is None)
            for i, one in enumerate(given)
        ]
        for (name, given), source in zip(answers.items(), prompts, strict=True)
    }
    for i, (right, wrong) in enumerate(zip(found["answer"], found["foil"], strict=True)):
        for one, other in zip(right, wrong, strict=True):
            if one == other:
                refuse(f"foil[{i}]", f"token {other}", "must differ from the answer")
    n_pos = max(map(len, (*clean, *corrupt)))
    return PromptTable(
        padded(clean, n_pos),
        padded(corrupt, n_pos),
        torch.tensor([len(row) for row in clean]),
        torch.tensor([len(row) for row in corrupt]),
        torch.tensor([i for i in range(n_rows) for _ in scored[i]]),
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


def _n_rows(given: Mapping[str, Sequence | Tensor]) -> int:
    for name, values in given.items():
        if isinstance(values, str):
            refuse(name, quoted(values), "must be a list of them, one for each pair")
    sizes = {name: len(values) for name, values in given.items()}
    first = sizes["clean"]
    if not first:
        refuse("clean", "none", "must have at least one prompt")
    for name, size in sizes.items():
        if size != first:
            refuse(name, f"{size} rows", f"must be {first}, as many as there are clean prompts")
    return first


def _positions(i: int, given: Positions | None, n: int) -> list[int]:
    positions = [-1] if given is None else [given] if isinstance(given, int) else list(given)
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
    reader: PromptReader, name: str, given: Answers | Tensor, prompt: Prompt, positions: Sequence[int], at_end: bool
) -> list[int]:
    answers = (
        [given] if isinstance(given, str | int) or (isinstance(given, Tensor) and given.ndim == 0) else list(given)
    )
    if len(answers) != len(positions):
        where = "at its last token, or position must say where" if at_end else f"at {len(positions)} positions"
        refuse(name, f"{len(answers)} answers", f"must be {len(positions)}, since the row answers {where}")
    before = prompt if at_end else None  # elsewhere the prompt goes on behind the answer
    return [reader.answer(name, one if isinstance(one, str) else int(one), before) for one in answers]


def _span(
    reader: PromptReader, name: str, given: Where | Sequence[Where], rows: Sequence[Sequence[int]], n_pos: int
) -> Bool[Tensor, "batch pos"]:
    places = [given] * len(rows) if isinstance(given, int | range | str) else list(given)
    if len(places) != len(rows):
        refuse(f"spans[{name}]", f"{len(places)} rows", f"must be {len(rows)}, as many as there are clean prompts")
    where = torch.zeros(len(rows), n_pos, dtype=torch.bool)
    for i, (place, ids) in enumerate(zip(places, rows, strict=True)):
        found = reader.span(f"spans[{name}][{i}]", place, ids)
        where[i, found.start : found.stop] = True
    return where
