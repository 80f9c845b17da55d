"""Clean and corrupt inputs, with one switch for each variable that may differ between them.

A counterfactual can only show what it moves: an edge from `pos` cannot be seen by pairs that share
their position ids. `Switch` says what differs; several go together.
"""

from dataclasses import dataclass, fields, replace
from enum import Flag, auto
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from compo_mech.data import DataConfig
from compo_mech.layout import Layout, Packing, Span
from compo_mech.tasks import Task
from compo_mech.vocabulary import Vocabulary


class Switch(Flag):
    """What differs between the clean and the corrupt input."""

    TOKEN = auto()
    """Another string of the same length."""
    LENGTH = auto()
    """Another string of another length, so that [EoI] and the states sit elsewhere."""
    SHIFT = auto()
    """Position ids start elsewhere."""
    STATE = auto()
    """The states written so far are others, each drawn by itself; the inputs stay."""
    END = auto()
    """[EoI] changes places with the input before it; the rest stays."""


@dataclass(frozen=True)
class Pairs:
    """Clean and corrupt inputs of equal shape, and what a metric looks at.

    Attributes:
        clean_tokens, corrupt_tokens: what is read; shorter rows go on with [EoS].
        clean_positions, corrupt_positions: position ids.
        row, position: the scored places of the clean input.
        target: the right token at each of them, on the clean input.
        foil: the token that follows the same place in the corrupt input.
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
    """Pairs of one task, lengths drawn evenly from the data's.

    Args:
        data: task, lengths and layout.
        switch: what differs. TOKEN and LENGTH draw new strings; STATE and END change the tokens that
            they name in whatever string the corrupt input has by then.
        n_rows: pairs.
        generator: source of the strings.
        max_shift: largest shift of position ids, which is at least 1 where SHIFT is on.
        task: one of the data's; None: its first.

    Raises:
        ValueError: the switch is empty, or asks for other lengths where there is only one; the task
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


# --------------------------------------------------------------------------- one token


Variable = Literal["x", "s"]
"""x_t or s_{t-1}."""


@dataclass(frozen=True)
class Swap:
    """Strings of one length in which one token is changed, x_t or s_{t-1}.

    Attributes:
        source: position of that token.
        row: position that predicts.
        tokens: the corrupt input.
        target, foil: the right answer at the row before and after the change.
        valid: False where no other token changes the answer.
    """

    length: int
    t: int
    variable: Variable
    source: int
    row: int
    tokens: Int[Tensor, "batch pos"]
    target: Int[Tensor, "batch"]
    foil: Int[Tensor, "batch"]
    valid: Bool[Tensor, "batch"]

    def margin(self, logits: Float[Tensor, "*rest batch d_vocab"]) -> Float[Tensor, "*rest batch"]:
        """Logit of the right answer above the foil's."""
        index = torch.stack([self.target, self.foil], -1).expand(*logits.shape[:-1], 2)
        right, wrong = logits.gather(-1, index).unbind(-1)
        return right - wrong

    def mean(self, values: Float[Tensor, "*rest batch"] | Bool[Tensor, "*rest batch"]) -> Float[Tensor, "*rest"]:
        """Mean over the valid strings."""
        return (values * self.valid).sum(-1) / self.valid.sum().clamp(min=1)


def make_swaps(
    task: Task,
    layout: Layout,
    inputs: Int[Tensor, "batch length"],
    tokens: Int[Tensor, "batch pos"],
    generator: torch.Generator,
) -> list[Swap]:
    """x_t replaced by an input that changes the answer, for every t; then s_{t-1} by such a state.

    All else stays as it is read, later states included. Without chain of thought the answer is
    s_L, and no state is read. s_{t-1} sits at the row that predicts s_t, from t = 2 on.
    """
    states, length = task.states(inputs), inputs.shape[1]
    rows = layout.iteration_edges(length)[0] or [layout.scored(length)[0]] * length
    plans: list[tuple[Variable, int, int, Tensor]] = []  # t, position of the variable, answer to each value
    for t, source in enumerate(layout.inputs(length), 1):
        if layout.chain_of_thought:
            before = states[:, t - 2] if t > 1 else torch.full_like(states[:, 0], task.n_states)
            answers = task.table[before]  # whose last row is the start's
        else:
            every = inputs[:, None].repeat(1, task.n_inputs, 1)
            every[:, :, t - 1] = torch.arange(task.n_inputs)
            answers = task.states(every)[..., -1]
        plans.append(("x", t, source, answers))
    for t in range(2, length + 1) if layout.chain_of_thought else ():
        plans.append(("s", t, rows[t - 1], task.table[:-1].T[inputs[:, t - 1]]))
    swaps = []
    for variable, t, source, answers in plans:
        target = states[:, t - 1 if layout.chain_of_thought else -1]
        allowed = answers != target[:, None]
        if variable == "x":
            allowed[:, : task.first_input] = False  # never drawn
        valid = allowed.any(1)
        value = torch.multinomial((allowed | ~valid[:, None]).float(), 1, generator=generator)
        corrupt = tokens.clone()
        corrupt[:, source] = value[:, 0].to(tokens.device)
        told = (index.to(tokens.device) for index in (target, answers.gather(1, value)[:, 0], valid))
        swaps.append(Swap(length, t, variable, source, rows[t - 1], corrupt, *told))
    return swaps
