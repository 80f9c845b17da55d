"""Pairs of rows that differ in the task token.

In these rows s_1 .. s_L are drawn at random from the values that both tasks have, since few strings have states of one
task that are valid for the other.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.encode import encode
from compo_mech.data.tasks import Task
from compo_mech.interventions.pairs import Pairs


def task_pairs(
    data: DataConfig, one: Task, other: Task, n_rows: int, generator: torch.Generator, inputs: bool = False
) -> Pairs:
    """Rows of `one`, and the same rows with the token of `other`.

    Predictions of s_t, t >= 2, are scored where F_one(s, x) and the foil F_other(s, x) differ. With `inputs` the other
    row has other inputs x' too, and the foil is F_one(s, x'): what the answer becomes if x_t alone is taken from a run
    of the other task. Where the other task would also give the foil, for x or for x', nothing is scored.

    Args:
        data: tasks, lengths and layout.
        one, other: two of its tasks.
        n_rows: pairs.
        generator: source of inputs, states and lengths.
        inputs: whether the inputs differ as well.

    Raises:
        ValueError: rows have no task token, or hold no state before the scored one; the tasks have no input in common,
            or give the same answer on all that they have in common.

    >>> from compo_mech import Copy, Parity
    >>> data = DataConfig(tasks=(Copy(), Parity()), max_length=2)
    >>> pairs = task_pairs(data, Copy(), Parity(), 8, torch.Generator().manual_seed(0))
    >>> (pairs.clean_tokens != pairs.corrupt_tokens).any(0).tolist()  # the task token alone
    [True, False, False, False, False, False]
    """
    values, n_states = _shared_values(data, one, other), min(one.n_states, other.n_states)
    new = values if inputs else None
    if not _answers(one, other, torch.arange(n_states)[:, None, None], values[:, None], new)[2].any():
        raise ValueError(f"tasks = {one} and {other}: must differ in the answer to values that they share")
    drawn = torch.tensor([length for length in data.drawn_lengths if length > 1])
    lengths = drawn[torch.randint(len(drawn), (n_rows,), generator=generator)]
    x, new_x = (values[torch.randint(len(values), (n_rows, data.max_length), generator=generator)] for _ in range(2))
    states = torch.randint(n_states, x.shape, generator=generator)
    strings = encode(data, one, x, lengths, states)
    clean, position = strings.read, strings.position_ids
    corrupt = encode(data, other, new_x if inputs else x, lengths, states).read
    layout = data.layout
    t = layout.predicted(position, lengths[:, None])
    row, index = ((t >= 2) & (t <= lengths[:, None])).nonzero(as_tuple=True)
    before, source = clean[row, index], layout.input_position(t[row, index])
    target, foil, differ = _answers(one, other, before, clean[row, source], corrupt[row, source] if inputs else None)
    return Pairs(
        clean_tokens=clean,
        corrupt_tokens=corrupt,
        clean_position_ids=position,
        corrupt_position_ids=position,
        row=row[differ],
        position=index[differ],
        target=target[differ],
        foil=foil[differ],
        lengths=lengths,
        corrupt_lengths=lengths,
        layout=layout,
        corrupt_kind="altered" if inputs else "trained",  # F_one(s, x') is the answer to neither row
    )


def _answers(one: Task, other: Task, s: Tensor, x: Tensor, new_x: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The answer, the foil, and where they tell the tasks, or x from x', apart."""
    target = one.table[s, x]
    if new_x is None:
        foil = other.table[s, x]
        return target, foil, target != foil
    foil = one.table[s, new_x]
    return target, foil, (foil != target) & (foil != other.table[s, x]) & (foil != other.table[s, new_x])


def _shared_values(data: DataConfig, one: Task, other: Task) -> Int[Tensor, "value"]:
    """Inputs that both tasks draw."""
    for name, value in (("task_token", data.task_token), ("chain_of_thought", data.chain_of_thought)):
        if not value:
            raise ValueError(f"{name} = False: must be True, for one row to be read as either task's")
    longest = max(data.drawn_lengths)
    if longest < 2:
        raise ValueError(f"max_length = {longest}: must be at least 2, for a state before the one that is asked")
    values = torch.arange(max(one.first_input, other.first_input), min(one.n_inputs, other.n_inputs))
    if not len(values):
        raise ValueError(f"tasks = {one} and {other}: must share an input, for a string to be valid for both")
    return values
