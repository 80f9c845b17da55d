"""Clean and corrupt inputs, with one switch for each variable that may differ between them.

A counterfactual can only reveal what it changes: an edge from `pos` has no effect on pairs with equal position ids.
`Switch` says what differs; switches combine.

Where the rows of a pair differ in length, some positions are read in one of them alone, and hold padding in the other.
Nothing is scored there. No scored row sees a later position, so that no padding enters any score, and a patch at such a
position does nothing. So late answers to long strings are asked less often, and the last ones to the longest never.
"""

from dataclasses import dataclass, fields, replace
from enum import Flag, auto
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.encode import Encoded, encode
from compo_mech.data.layout import Layout, Span
from compo_mech.data.packing import Packing
from compo_mech.data.tasks import Task


class Switch(Flag):
    """What differs between the clean and the corrupt input.

    >>> Switch.TOKEN in Switch.TOKEN | Switch.SHIFT, Switch.LENGTH in Switch.TOKEN | Switch.SHIFT
    (True, False)
    """

    TOKEN = auto()
    """Another string of the same length."""
    LENGTH = auto()
    """Another string of another length, so that [EoI] and the states sit elsewhere; it is long enough to be read as far
    as the clean string's first answer. Where no other length is, it is of the same."""
    SHIFT = auto()
    """Position ids start elsewhere."""
    STATE = auto()
    """The states written so far are replaced, each drawn independently; the inputs stay."""
    END = auto()
    """[EoI] is swapped with the input before it; the rest stays."""


CorruptKind = Literal["trained", "shifted", "altered"]


@dataclass(frozen=True)
class Pairs:
    """Clean and corrupt inputs of equal shape, and the positions and answers that a metric needs.

    Attributes:
        clean_tokens, corrupt_tokens: what is read; shorter rows are padded with [EoS].
        clean_position_ids, corrupt_position_ids: from which position embeddings are looked up.
        row, position: the scored positions of the clean input, all of which are read in both inputs.
        target: the right token at each of them, on the clean input.
        foil: the token that follows the same position in the corrupt input.
        lengths, corrupt_lengths: of the clean and of the corrupt strings.
        layout: where their tokens sit.
        corrupt_kind: what the corrupt rows are: `trained`, strings that the network should be right about; `shifted`,
            strings whose position ids are shifted further than it is known to be trained on; `altered`, rows whose
            states are not those of a string.

    Raises:
        ValueError: the inputs differ in shape, nothing is scored, or something is where one of the inputs is not read.

    >>> pairs = make_pairs(DataConfig(max_length=3), Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> pairs.where(Span("inputs")).sum(1).tolist() == pairs.lengths.tolist()
    True
    """

    # underscores: that the four are of one shape is checked below, with an error of one line
    clean_tokens: Int[Tensor, "_batch _pos"]
    corrupt_tokens: Int[Tensor, "_batch _pos"]
    clean_position_ids: Int[Tensor, "_batch _pos"]
    corrupt_position_ids: Int[Tensor, "_batch _pos"]
    row: Int[Tensor, "scored"]
    position: Int[Tensor, "scored"]
    target: Int[Tensor, "scored"]
    foil: Int[Tensor, "scored"]
    lengths: Int[Tensor, "batch"]
    corrupt_lengths: Int[Tensor, "batch"]
    layout: Layout
    corrupt_kind: CorruptKind

    def __post_init__(self) -> None:
        inputs = (self.clean_tokens, self.corrupt_tokens, self.clean_position_ids, self.corrupt_position_ids)
        if len({ids.shape for ids in inputs}) > 1:
            shapes = ", ".join(str(tuple(ids.shape)) for ids in inputs)
            raise ValueError(f"pairs = {shapes}: clean and corrupt inputs must be of one shape")
        if not len(self.row):
            raise ValueError("pairs = no scored position: a metric needs at least one")
        n_outside = int((~self.both_read[self.row, self.position]).sum())
        if n_outside:
            raise ValueError(f"pairs = {n_outside} scored positions in padding: must be read in both inputs")

    @property
    def read(self) -> Bool[Tensor, "batch pos"]:
        """True where the clean rows have tokens, False in their padding."""
        return is_read(self.layout, self.lengths, self.clean_tokens.shape[1])

    @property
    def both_read(self) -> Bool[Tensor, "batch pos"]:
        """True where the clean and the corrupt row both have tokens."""
        return self.read & is_read(self.layout, self.corrupt_lengths, self.clean_tokens.shape[1])

    @property
    def foil_is_answer(self) -> Bool[Tensor, "scored"]:
        """True where the foil is the right answer to the corrupt input."""
        return (self.position >= self.layout.end_of_input(self.corrupt_lengths)[self.row]) & (
            self.corrupt_kind != "altered"
        )

    def where(self, span: Span) -> Bool[Tensor, "batch pos"]:
        """True where a span of the clean rows lies.

        Raises:
            ValueError: no row has it, or there is no such span.
        """
        return self.layout.where(span, self.lengths, self.clean_tokens.shape[1])

    def to(self, device: torch.device | str) -> "Pairs":
        """The same pairs on a device."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("layout", "corrupt_kind")}
        return replace(self, **{name: tensor.to(device) for name, tensor in tensors.items()})


def is_read(layout: Layout, lengths: Int[Tensor, "batch"], n_pos: int) -> Bool[Tensor, "batch pos"]:
    """True where rows of these lengths have tokens, False in their padding.

    >>> is_read(Layout(), torch.tensor([1, 2]), 6).sum(1).tolist()
    [4, 6]
    """
    return torch.arange(n_pos, device=lengths.device) < layout.n_read(lengths)[:, None]


def make_pairs(
    data: DataConfig,
    switch: Switch,
    n_rows: int,
    generator: torch.Generator,
    max_shift: int = 4,
    task: Task | None = None,
) -> Pairs:
    """Draw pairs of one task, with lengths drawn uniformly from those that training asks about.

    Args:
        data: task, lengths and layout.
        switch: what differs. TOKEN and LENGTH draw new strings; STATE and END change the tokens that they name in
            whatever string the corrupt input has by then.
        n_rows: pairs.
        generator: source of the strings.
        max_shift: largest shift of position ids, which is at least 1 where SHIFT is on.
        task: one of the data's; None: its first.

    Raises:
        ValueError: the switch is empty, or needs other lengths where there is only one; the task is not one of the
            data's; there is no shift or no row.

    >>> pairs = make_pairs(DataConfig(max_length=3), Switch.SHIFT, 4, torch.Generator().manual_seed(0))
    >>> torch.equal(pairs.clean_tokens, pairs.corrupt_tokens)
    True
    >>> bool((pairs.corrupt_position_ids > pairs.clean_position_ids).all())
    True
    """
    task = task or data.tasks[0]
    _check(data, switch, n_rows, max_shift, task)
    layout, drawn = data.layout, torch.tensor(data.drawn_lengths)
    lengths = drawn[torch.randint(len(drawn), (n_rows,), generator=generator)]
    inputs = _strings(task, n_rows, data.max_length, generator)
    clean = encode(data, task, inputs, lengths)
    other = _other_lengths(layout, drawn, lengths, generator) if Switch.LENGTH in switch else lengths
    corrupt = _corrupt(data, task, switch, inputs, other, generator)
    packing = Packing.of_lengths(layout, lengths.tolist())
    shift = torch.randint(1, max_shift + 1, (n_rows, 1), generator=generator) if Switch.SHIFT in switch else 0
    row, position = packing.scored_row, packing.scored_position
    kept = is_read(layout, other, clean.read.shape[1])[row, position]
    row, position = row[kept], position[kept]
    return Pairs(
        clean_tokens=clean.read,
        corrupt_tokens=corrupt.read,
        clean_position_ids=clean.position_ids,
        corrupt_position_ids=corrupt.position_ids + shift,
        row=row,
        position=position,
        target=clean.tokens[row, position + 1],
        foil=corrupt.tokens[row, position + 1],
        lengths=lengths,
        corrupt_lengths=other,
        layout=layout,
        corrupt_kind=_corrupt_kind(switch),
    )


def _check(data: DataConfig, switch: Switch, n_rows: int, max_shift: int, task: Task) -> None:
    if task not in data.tasks:
        raise ValueError(f"task = {task}: must be one of {' '.join(map(str, data.tasks))}")
    if n_rows < 1:
        raise ValueError(f"n_rows = {n_rows}: must be at least 1")
    if max_shift < 1 and Switch.SHIFT in switch:
        raise ValueError(f"max_shift = {max_shift}: must be at least 1 for pairs that shift")
    if not switch:
        raise ValueError("switch = none: pairs need something to differ in")
    if Switch.LENGTH in switch and len(data.drawn_lengths) < 2:
        raise ValueError("switch = LENGTH: the data must have more than one length")


def _corrupt_kind(switch: Switch) -> CorruptKind:
    if switch & (Switch.STATE | Switch.END):
        return "altered"
    return "shifted" if Switch.SHIFT in switch else "trained"


def _other_lengths(
    layout: Layout, drawn: Int[Tensor, "drawn"], lengths: Int[Tensor, "batch"], generator: torch.Generator
) -> Int[Tensor, "batch"]:
    """Another drawn length for each string, whose row is read as far as its first scored position; else its own."""
    same = drawn == lengths[:, None]
    reached = ~same & (layout.n_read(drawn) > layout.end_of_input(lengths)[:, None])
    allowed = torch.where(reached.any(1, keepdim=True), reached, same)
    draw = torch.randint(2**24, lengths.shape, generator=generator)  # as much randomness, however many are allowed
    rank = draw % allowed.sum(1)
    return drawn[(allowed.cumsum(1) > rank[:, None]).int().argmax(1)]


def _corrupt(
    data: DataConfig,
    task: Task,
    switch: Switch,
    inputs: Int[Tensor, "batch max_length"],
    lengths: Int[Tensor, "batch"],
    generator: torch.Generator,
) -> Encoded:
    """The corrupt rows of these lengths to clean ones with these inputs; SHIFT does not change tokens."""
    if Switch.TOKEN in switch or Switch.LENGTH in switch:
        inputs = _strings(task, len(inputs), data.max_length, generator)
    tokens = encode(data, task, inputs, lengths).tokens
    if Switch.STATE in switch:
        tokens = _other_states(data, task, tokens, lengths, generator)
    if Switch.END in switch:
        end = data.layout.end_of_input(lengths)[:, None]
        before = tokens.gather(1, end - 1)
        tokens = tokens.scatter(1, end, before).scatter(1, end - 1, data.vocabulary.end_of_input_id)
    return Encoded(tokens)


def _strings(task: Task, n_rows: int, length: int, generator: torch.Generator) -> Int[Tensor, "batch length"]:
    return torch.randint(task.first_input, task.n_inputs, (n_rows, length), generator=generator)


def _other_states(
    data: DataConfig,
    task: Task,
    tokens: Int[Tensor, "batch n_tokens"],
    lengths: Int[Tensor, "batch"],
    generator: torch.Generator,
) -> Int[Tensor, "batch n_tokens"]:
    """The same rows with every state replaced by a different one."""
    position = torch.arange(tokens.shape[1])
    is_state = (position > data.layout.end_of_input(lengths)[:, None]) & (tokens < data.vocabulary.n_values)
    step = torch.randint(1, task.n_states, tokens.shape, generator=generator)
    return torch.where(is_state, (tokens + step) % task.n_states, tokens)
