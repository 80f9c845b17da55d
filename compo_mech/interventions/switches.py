"""What may differ between clean and corrupt rows of a task, and how corrupt rows are drawn."""

from enum import Flag, auto

import torch
from jaxtyping import Int
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.encode import Encoded, encode
from compo_mech.data.layout import Layout
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


def other_lengths(
    layout: Layout, drawn: Int[Tensor, "drawn"], lengths: Int[Tensor, "batch"], generator: torch.Generator
) -> Int[Tensor, "batch"]:
    """Another drawn length for each string, whose row is read as far as its first scored position; else its own."""
    same = drawn == lengths[:, None]
    reached = ~same & (layout.n_read(drawn) > layout.end_of_input(lengths)[:, None])
    allowed = torch.where(reached.any(1, keepdim=True), reached, same)
    draw = torch.randint(2**24, lengths.shape, generator=generator)  # as much randomness, however many are allowed
    rank = draw % allowed.sum(1)
    return drawn[(allowed.cumsum(1) > rank[:, None]).int().argmax(1)]


def corrupt_rows(
    data: DataConfig,
    task: Task,
    switch: Switch,
    inputs: Int[Tensor, "batch max_length"],
    lengths: Int[Tensor, "batch"],
    generator: torch.Generator,
) -> Encoded:
    """The corrupt rows of these lengths to clean ones with these inputs; SHIFT does not change tokens."""
    if Switch.TOKEN in switch or Switch.LENGTH in switch:
        inputs = strings(task, len(inputs), data.max_length, generator)
    tokens = encode(data, task, inputs, lengths).tokens
    if Switch.STATE in switch:
        tokens = _other_states(data, task, tokens, lengths, generator)
    if Switch.END in switch:
        end = data.layout.end_of_input(lengths)[:, None]
        before = tokens.gather(1, end - 1)
        tokens = tokens.scatter(1, end, before).scatter(1, end - 1, data.vocabulary.end_of_input_id)
    return Encoded(tokens)


def strings(task: Task, n_rows: int, length: int, generator: torch.Generator) -> Int[Tensor, "batch length"]:
    """Draw inputs of a task."""
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
