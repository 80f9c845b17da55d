"""Rows that predict a state, each beside a row of another string in which all differs that a head could bring.

A head's output is taken from the other row. What the head brought then shows in the answer, for each of these contents
predicts another one, with s_{t-1} and x_t of the own row, and s', x' and the prefix x'_1 .. x'_t of the other:

    x         F(s_{t-1}, x'_t)           state     F(s', x_t)
    prefix    the state after x'_t       answer    F(s', x'_t)
    x_1, ..   the state after x_t with that input from the other string
    end       F(s_{t-1}, x_{t'})         where [EoI] is elsewhere, so that the row would predict s_{t'}
    end of prefix                        the same, of a network that goes by x_1 .. x_{t'}: s_{t'}

s' stands in the other row whatever its inputs are, and inputs are drawn independently. So for bits a head that brings
one content follows the others no more often than by chance. From a larger alphabet x' is x_t, and s' is s_{t-1}, in
half of the rows, so that answers that stay are asked as often as answers that change.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.encode import encode
from compo_mech.data.tasks import Task
from compo_mech.interventions.switches import strings

Content = str
"""What a head may bring: `x`, x_t; `state`, s_{t-1}; `prefix`, x_1 .. x_t or what they add up to; `answer`, s_t; `x_1`,
`x_2` and so on, that input whatever t is; `end` and `end of prefix`, the position of [EoI]."""

MIN_CELLS = 5
"""Of strings up to 4, a head that knows whether position 4 holds [EoI] passes for one that knows where [EoI] is."""


@dataclass(frozen=True)
class SwappedRows:
    """Rows of strings, and rows at the same positions of other strings.

    Attributes:
        tokens, other_tokens: of whole strings, as far as a network reads them.
        position: of the row in both.
        t: which state the row predicts.
        own, other: the right answer at the row, and at the row of the other string.
        answers: the answer with each content of the other row.
        permuted: the same with the contents permuted among the rows.

    >>> from compo_mech import Parity
    >>> rows = input_rows(DataConfig(max_length=3), Parity(), 8, torch.Generator().manual_seed(0))
    >>> sorted(rows.answers), rows.own.shape == rows.answers["x"].shape
    (['answer', 'prefix', 'state', 'x', 'x_1', 'x_2', 'x_3'], True)
    """

    tokens: Int[Tensor, "row pos"]
    other_tokens: Int[Tensor, "row pos"]
    position: Int[Tensor, "row"]
    t: Int[Tensor, "row"]
    own: Int[Tensor, "row"]
    other: Int[Tensor, "row"]
    answers: dict[Content, Int[Tensor, "row"]]
    permuted: dict[Content, Int[Tensor, "row"]]

    def to(self, device: torch.device | str) -> "SwappedRows":
        """The same rows on a device."""
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        answers, permuted = (
            {content: of.to(device) for content, of in contents.items()} for contents in (self.answers, self.permuted)
        )
        return replace(self, **tensors, answers=answers, permuted=permuted)


def input_rows(data: DataConfig, task: Task, n: int, generator: torch.Generator) -> SwappedRows:
    """Draw rows beside rows of strings of the same length with other inputs, and with another state at the row.

    Rows of s_1 are left out where there are others: [EoI] stands there for the state, and x_1 is all of the prefix.
    Without chain of thought the only row of a string predicts s_L, and no content is asked about.
    """
    layout, drawn = data.layout, data.drawn_lengths
    inputs, other = (strings(task, n, data.max_length, generator) for _ in range(2))
    states, order = task.states(inputs), torch.randperm(n, generator=generator)
    if not data.chain_of_thought:
        length = torch.tensor(drawn)[torch.randint(len(drawn), (n,), generator=generator)]
        tokens, swapped = (encode(data, task, of, length).read for of in (inputs, other))
        own, right = (of.gather(1, length[:, None] - 1)[:, 0] for of in (states, task.states(other)))
        return SwappedRows(tokens, swapped, layout.end_of_input(length), length, own, right, {}, {})
    first = min(2, max(drawn))
    cells = torch.tensor([(length, t) for length in drawn for t in range(first, length + 1)])
    length, t = cells[torch.randint(len(cells), (n,), generator=generator)].unbind(1)
    other = _mixed(other, inputs, t, _kept(n, task.n_inputs - task.first_input, generator))
    before = _states_before(task, states, t)
    new = torch.where(_kept(n, task.n_states, generator), before, before[order])
    altered = states.scatter(1, (t - 2).clamp(min=0)[:, None], new[:, None])  # at t = 1 no row shows it
    x, other_x = (of.gather(1, t[:, None] - 1)[:, 0] for of in (inputs, other))
    prefix, table = task.states(other).gather(1, t[:, None] - 1)[:, 0], task.table
    places = {f"x_{k + 1}": task.states(_with_input(inputs, other, k)) for k in range(data.max_length)}
    shuffled = {f"x_{k + 1}": task.states(_with_input(inputs, other[order], k)) for k in range(data.max_length)}
    return SwappedRows(
        tokens=encode(data, task, inputs, length, states).read,
        other_tokens=encode(data, task, other, length, torch.where((t > 1)[:, None], altered, states)).read,
        position=layout.end_of_input(length) + t - 1,
        t=t,
        own=table[before, x],
        other=table[new, other_x],
        answers={"x": table[before, other_x], "state": table[new, x], "prefix": prefix, "answer": table[new, other_x]}
        | {name: states.gather(1, t[:, None] - 1)[:, 0] for name, states in places.items()},
        permuted={
            "x": table[before, other_x[order]],
            "state": table[new[order], x],
            "prefix": prefix[order],
            "answer": table[new[order], other_x[order]],
        }
        | {name: states.gather(1, t[:, None] - 1)[:, 0] for name, states in shuffled.items()},
    )


def end_rows(data: DataConfig, task: Task, n: int, generator: torch.Generator) -> SwappedRows | None:
    """Draw rows beside rows of strings of another length, whose [EoI] is elsewhere.

    The other row predicts s_{t'} of its string, whose inputs are others; it holds the same state. None: there is no
    chain of thought, or fewer than `MIN_CELLS` triples of a length, another one and a row have such rows.
    """
    drawn = data.drawn_lengths
    pairs = [
        (length, t, other)
        for length in drawn
        for t in range(2, length + 1)
        for other in drawn
        if other != length and 2 <= length + t - other <= min(length, other)
    ]
    if len(pairs) < MIN_CELLS or not data.chain_of_thought:
        return None
    length, t, other_length = torch.tensor(pairs)[torch.randint(len(pairs), (n,), generator=generator)].unbind(1)
    other_t = length + t - other_length
    inputs, other = (strings(task, n, data.max_length, generator) for _ in range(2))
    same = _kept(n, task.n_inputs - task.first_input, generator)
    inputs = torch.where(
        same[:, None], inputs.scatter(1, other_t[:, None] - 1, inputs.gather(1, t[:, None] - 1)), inputs
    )
    states = task.states(inputs)
    before, chance = _states_before(task, states, t), torch.rand(n, generator=generator)
    held = task.states(other).scatter(1, other_t[:, None] - 2, before[:, None])
    at = {"own": t, "end": other_t, "permuted": 1 + (chance * length).long()}
    answers = {name: task.table[before, inputs.gather(1, of[:, None] - 1)[:, 0]] for name, of in at.items()}
    prefixes = {name: states.gather(1, of[:, None] - 1)[:, 0] for name, of in at.items()}
    return SwappedRows(
        tokens=encode(data, task, inputs, length, states).read,
        other_tokens=encode(data, task, other, other_length, held).read,
        position=data.layout.end_of_input(length) + t - 1,
        t=t,
        own=answers["own"],
        other=task.table[before, other.gather(1, other_t[:, None] - 1)[:, 0]],
        answers={"end": answers["end"], "end of prefix": prefixes["end"]},
        permuted={"end": answers["permuted"], "end of prefix": prefixes["permuted"]},
    )


def _with_input(
    inputs: Int[Tensor, "row max_length"], other: Int[Tensor, "row max_length"], k: int
) -> Int[Tensor, "row max_length"]:
    """The inputs with one of them, counted from 0, from the other strings."""
    found = inputs.clone()
    found[:, k] = other[:, k]
    return found


def _kept(n: int, n_values: int, generator: torch.Generator) -> Bool[Tensor, "row"]:
    """Where a value is kept rather than drawn from so many, for half of the rows to have the same one."""
    half = max(0.0, (0.5 - 1 / n_values) / (1 - 1 / n_values)) if n_values > 1 else 1.0
    return torch.rand(n, generator=generator) < half


def _mixed(
    other: Int[Tensor, "row max_length"],
    own: Int[Tensor, "row max_length"],
    t: Int[Tensor, "row"],
    same: Bool[Tensor, "row"],
) -> Int[Tensor, "row max_length"]:
    """The other inputs with the own x_t where it is to be the same."""
    at = t[:, None] - 1
    return other.scatter(1, at, torch.where(same[:, None], own.gather(1, at), other.gather(1, at)))


def _states_before(task: Task, states: Int[Tensor, "row max_length"], t: Int[Tensor, "row"]) -> Int[Tensor, "row"]:
    """s_{t-1}, as a row of the task's table: the last one stands for the start."""
    return torch.where(t > 1, states.gather(1, (t - 2).clamp(min=0)[:, None])[:, 0], len(task.table) - 1)
