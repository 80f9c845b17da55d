"""Clean and corrupt inputs, with one switch for each variable that may differ between them.

A counterfactual can only reveal what it changes: an edge from `pos` has no effect on pairs with equal position ids.
`Switch` says what differs; switches combine.
"""

from dataclasses import dataclass, fields, replace
from enum import Flag, auto

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.layout import Layout, Span
from compo_mech.data.packing import Packing
from compo_mech.data.tasks import Task
from compo_mech.data.vocabulary import Vocabulary


class Switch(Flag):
    """What differs between the clean and the corrupt input."""

    TOKEN = auto()
    """Another string of the same length."""
    LENGTH = auto()
    """Another string of another length, so that [EoI] and the states sit elsewhere."""
    SHIFT = auto()
    """Position ids start elsewhere."""
    STATE = auto()
    """The states written so far are replaced, each drawn independently; the inputs stay."""
    END = auto()
    """[EoI] is swapped with the input before it; the rest stays."""


@dataclass(frozen=True)
class Pairs:
    """Clean and corrupt inputs of equal shape, and the positions and answers that a metric needs.

    Attributes:
        clean_tokens, corrupt_tokens: what is read; shorter rows are padded with [EoS].
        clean_positions, corrupt_positions: position ids.
        row, position: the scored positions of the clean input.
        target: the right token at each of them, on the clean input.
        foil: the token that follows the same position in the corrupt input.
        lengths: of the clean strings.
        layout: where their tokens sit.

    Raises:
        ValueError: the inputs differ in shape, or nothing is scored.
    """

    clean_tokens: Int[Tensor, "batch pos"]
    corrupt_tokens: Int[Tensor, "..."]
    clean_positions: Int[Tensor, "..."]
    corrupt_positions: Int[Tensor, "..."]
    row: Int[Tensor, "scored"]
    position: Int[Tensor, "scored"]
    target: Int[Tensor, "scored"]
    foil: Int[Tensor, "scored"]
    lengths: Int[Tensor, "batch"]
    layout: Layout

    def __post_init__(self) -> None:
        inputs = (self.clean_tokens, self.corrupt_tokens, self.clean_positions, self.corrupt_positions)
        if len({part.shape for part in inputs}) > 1:
            shapes = ", ".join(str(tuple(part.shape)) for part in inputs)
            raise ValueError(f"pairs = {shapes}: clean and corrupt inputs must be of one shape")
        if not len(self.row):
            raise ValueError("pairs = no scored place: a metric needs at least one")

    @property
    def read(self) -> Bool[Tensor, "batch pos"]:
        """True where the clean rows have tokens, False in their padding."""
        position = torch.arange(self.clean_tokens.shape[1], device=self.lengths.device)
        return position < self.layout.n_read(self.lengths)[:, None]

    def where(self, span: Span) -> Bool[Tensor, "batch pos"]:
        """True where a span of the clean rows lies.

        Raises:
            ValueError: no row has it, or there is no such span.
        """
        return self.layout.where(span, self.lengths, self.clean_tokens.shape[1])

    def to(self, device: torch.device | str) -> "Pairs":
        """The same pairs on a device."""
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name != "layout"}
        return replace(self, **moved)


def make_pairs(
    data: DataConfig,
    switch: Switch,
    n_rows: int,
    generator: torch.Generator,
    max_shift: int = 4,
    task: Task | None = None,
) -> Pairs:
    """Draw pairs of one task, with lengths drawn uniformly from the data's.

    Args:
        data: task, lengths and layout.
        switch: what differs. TOKEN and LENGTH draw new strings; STATE and END change the tokens that
            they name in whatever string the corrupt input has by then.
        n_rows: pairs.
        generator: source of the strings.
        max_shift: largest shift of position ids, which is at least 1 where SHIFT is on.
        task: one of the data's; None: its first.

    Raises:
        ValueError: the switch is empty, or needs other lengths where there is only one; the task
            is not one of the data's; there is no shift or no row.
    """
    task, vocabulary, layout = task or data.tasks[0], data.vocabulary, data.layout
    if task not in data.tasks:
        raise ValueError(f"task = {task}: must be one of {' '.join(map(str, data.tasks))}")
    if n_rows < 1:
        raise ValueError(f"n_rows = {n_rows}: must be at least 1")
    if max_shift < 1 and Switch.SHIFT in switch:
        raise ValueError(f"max_shift = {max_shift}: must be at least 1 for pairs that shift")
    if not switch:
        raise ValueError("switch = none: pairs need something to differ in")
    if Switch.LENGTH in switch and len(data.lengths) < 2:
        raise ValueError("switch = LENGTH: the data must have more than one length")
    lengths = torch.randint(data.min_length, data.max_length + 1, (n_rows,), generator=generator)
    inputs = _strings(task, n_rows, data.max_length, generator)
    clean = _rows(data, task, inputs, lengths)
    other_lengths, other_inputs = lengths, inputs
    if Switch.LENGTH in switch:
        step = torch.randint(1, len(data.lengths), (n_rows,), generator=generator)
        other_lengths = data.min_length + (lengths - data.min_length + step) % len(data.lengths)
    if Switch.TOKEN in switch or Switch.LENGTH in switch:
        other_inputs = _strings(task, n_rows, data.max_length, generator)
    corrupt = _rows(data, task, other_inputs, other_lengths)
    if Switch.STATE in switch:
        corrupt = _other_states(corrupt, other_lengths, task, layout, vocabulary, generator)
    if Switch.END in switch:
        end = layout.end_of_input(other_lengths)[:, None]
        before = corrupt.gather(1, end - 1)
        corrupt = corrupt.scatter(1, end, before).scatter(1, end - 1, vocabulary.end_of_input)
    packing = Packing.of_lengths(layout, lengths.tolist())
    positions = torch.arange(clean.shape[1] - 1).expand(n_rows, -1)
    shift = torch.randint(1, max_shift + 1, (n_rows, 1), generator=generator) if Switch.SHIFT in switch else 0
    row, position = packing.scored_row, packing.scored_position
    return Pairs(
        clean_tokens=clean[:, :-1],
        corrupt_tokens=corrupt[:, :-1],
        clean_positions=positions,
        corrupt_positions=positions + shift,
        row=row,
        position=position,
        target=clean[row, position + 1],
        foil=corrupt[row, position + 1],
        lengths=lengths,
        layout=layout,
    )


def _strings(task: Task, n_rows: int, length: int, generator: torch.Generator) -> Int[Tensor, "batch length"]:
    return torch.randint(task.first_input, task.n_inputs, (n_rows, length), generator=generator)


def _rows(data: DataConfig, task: Task, inputs: Tensor, lengths: Tensor) -> Int[Tensor, "batch pos"]:
    """Whole rows, all as wide as the longest length of the data needs."""
    vocabulary = data.vocabulary
    first = vocabulary.task_token(task) if data.task_token else vocabulary.beginning
    return data.layout.assemble(
        torch.full((len(inputs),), first),
        inputs,
        task.states(inputs),
        lengths,
        vocabulary.end_of_input,
        vocabulary.end_of_states,
    )


def _other_states(
    tokens: Tensor, lengths: Tensor, task: Task, layout: Layout, vocabulary: Vocabulary, generator: torch.Generator
) -> Int[Tensor, "batch pos"]:
    """The same rows with every state replaced by a different one."""
    position = torch.arange(tokens.shape[1])
    is_state = (position > layout.end_of_input(lengths)[:, None]) & (tokens < vocabulary.n_values)
    step = torch.randint(1, task.n_states, tokens.shape, generator=generator)
    return torch.where(is_state, (tokens + step) % task.n_states, tokens)
