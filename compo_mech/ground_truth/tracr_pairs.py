"""Pairs of strings for compiled programs, whose rows have one length and fill the network's positions.

Neither another length nor a shift of position ids is to be had there, since attention goes both ways and the table of
positions is full. What moves every writer all the same is a corrupt input each of whose rows is drawn anew: the token
and the position id of any row of any string, the token before the string included. No such input is a string.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from compo_mech.ground_truth.tracr import TracrProgram
from compo_mech.interventions.pairs import Pairs
from compo_mech.interventions.prompts import PromptRows


def program_pairs(program: TracrProgram, n_pairs: int, generator: torch.Generator, resampled: bool = True) -> Pairs:
    """Draw pairs of strings of the longest length to which there is more than one answer, every answer equally often.

    Args:
        program: the network, and what it should answer.
        n_pairs: clean and corrupt inputs.
        generator: of all draws.
        resampled: whether each row of the corrupt input is another row of any string; else it is another string.

    Raises:
        ValueError: there is to be no pair.

    Example:
        >>> from compo_mech.ground_truth import read_tracr
        >>> program = read_tracr("tests/data/tracr", "reverse")  # doctest: +SKIP
        >>> pairs = program_pairs(program, 4, torch.Generator().manual_seed(0))  # doctest: +SKIP
        >>> pairs.clean_position_ids[0].tolist()  # doctest: +SKIP
        [0, 1, 2, 3, 4, 5]
    """
    if n_pairs < 1:
        raise ValueError(f"n_pairs = {n_pairs}: must be at least 1")
    tokens, answers = _strings(program)
    clean, other = (_drawn(answers, n_pairs, generator) for _ in range(2))
    n_pos = tokens.shape[1]
    position_ids = torch.arange(n_pos).expand(n_pairs, n_pos)
    corrupt, corrupt_ids = tokens[other], position_ids
    if resampled:
        row = torch.randint(n_pairs, corrupt.shape, generator=generator)
        column = torch.randint(n_pos, corrupt.shape, generator=generator)
        corrupt, corrupt_ids = corrupt[row, column], column
    row, position = (
        ids.flatten() for ids in torch.meshgrid(torch.arange(n_pairs), torch.arange(1, n_pos), indexing="ij")
    )
    spans = {"beginning": position_ids == 0} | {f"value {k}": position_ids == k for k in range(1, n_pos)}
    length = torch.full((n_pairs,), n_pos)
    return Pairs(
        clean_tokens=tokens[clean],
        corrupt_tokens=corrupt,
        clean_position_ids=position_ids,
        corrupt_position_ids=corrupt_ids,
        row=row,
        position=position,
        target=answers[clean].flatten(),
        foil=answers[other].flatten(),
        lengths=length,
        corrupt_lengths=length,
        layout=PromptRows(tuple(spans)),
        corrupt_kind="altered" if resampled else "trained",
        spans=spans,
    ).to(program.model.device)


def _strings(program: TracrProgram) -> tuple[Int[Tensor, "string pos"], Int[Tensor, "string length"]]:
    """The strings of the longest length that has more than one answer, or of the longest, and their answers."""
    for length in reversed(program.lengths):
        tokens, answers = program.of_length(length)
        if len(answers.unique(dim=0)) > 1:
            return tokens, answers
    return program.of_length(program.lengths[-1])


def _drawn(answers: Int[Tensor, "string length"], n_rows: int, generator: torch.Generator) -> Int[Tensor, "row"]:
    """Indices of strings, each of whose answers is as likely as any other, however few strings it is right for."""
    kinds, kind = answers.unique(dim=0, return_inverse=True)
    wanted = torch.randint(len(kinds), (n_rows,), generator=generator)
    weight = (kind == wanted[:, None]).double()
    return torch.multinomial(weight, 1, generator=generator)[:, 0]
