"""Rows that predict a state, one in each string, and the algorithm's variables there."""

from dataclasses import dataclass, fields
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.encode import encode
from compo_mech.data.tasks import Task

Variable = Literal["t", "x", "s", "answer"]


@dataclass(frozen=True)
class Rows:
    """Rows that predict a state, one in each string, and the algorithm's variables there.

    Attributes:
        tokens, position_ids: of whole strings, as far as the network reads them.
        position: of the row in its string.
        length: of the string.
        inputs: x_1 .. x_L, and beyond L whatever was drawn.
        t, x, s, answer: the variables; s = n_states where [EoI] stands for the start.
    """

    tokens: Int[Tensor, "row pos"]
    position_ids: Int[Tensor, "row pos"]
    position: Int[Tensor, "row"]
    length: Int[Tensor, "row"]
    inputs: Int[Tensor, "row max_length"]
    t: Int[Tensor, "row"]
    x: Int[Tensor, "row"]
    s: Int[Tensor, "row"]
    answer: Int[Tensor, "row"]

    def __len__(self) -> int:
        return len(self.position)

    def __getitem__(self, index: Tensor | slice) -> "Rows":
        return Rows(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def to(self, device: torch.device | str) -> "Rows":
        """The same rows on a device."""
        return Rows(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    @property
    def end(self) -> Int[Tensor, "row"]:
        """Position of [EoI]: of the row that predicts s_1."""
        return self.position - self.t + 1


def joined(first: Rows, second: Rows) -> Rows:
    """Return the rows of both, one after the other, strings and inputs padded to the longest.

    >>> from compo_mech import DataConfig, Parity
    >>> rows = draw_rows(DataConfig(max_length=3), Parity(), 2, torch.Generator().manual_seed(0))
    >>> len(joined(rows, rows)), torch.equal(joined(rows, rows)[2:].tokens, rows.tokens)
    (4, True)
    """

    def both(name: str) -> Tensor:
        parts = [getattr(first, name), getattr(second, name)]
        if parts[0].ndim > 1:
            width = max(part.shape[1] for part in parts)
            parts = [F.pad(part, (0, width - part.shape[1])) for part in parts]
        return torch.cat(parts)

    return Rows(**{field.name: both(field.name) for field in fields(Rows)})


def check_data(data: DataConfig, task: Task | None = None) -> Task:
    """The task to analyse.

    Raises:
        ValueError: there is no chain of thought, or the task is not one of the data's.
    """
    task = task or data.measured_tasks[0]
    if not data.chain_of_thought:
        raise ValueError("chain_of_thought = False: the algorithm's variables need states that are written")
    if task not in data.tasks:
        raise ValueError(f"task = {task}: must be one of {' '.join(map(str, data.tasks))}")
    return task


def cells(data: DataConfig) -> Int[Tensor, "cell 2"]:
    """Every (length, t) of a row that predicts a state in strings that are drawn.

    Position ids are not shifted, since otherwise i and j would not determine where x_t sits.
    """
    return torch.tensor([(length, t) for length in data.drawn_lengths for t in range(1, length + 1)])


def rows_of(data: DataConfig, task: Task, cells: Int[Tensor, "row 2"], inputs: Int[Tensor, "row max_length"]) -> Rows:
    """The rows at these cells (length, t) of strings with these inputs."""
    length, t = cells.unbind(1)
    states = task.states(inputs)
    strings = encode(data, task, inputs, length, states)
    before = states.gather(1, (t - 2).clamp(min=0)[:, None])[:, 0]
    return Rows(
        tokens=strings.read,
        position_ids=strings.position_ids,
        position=data.layout.end_of_input(length) + t - 1,
        length=length,
        inputs=inputs,
        t=t,
        x=inputs.gather(1, t[:, None] - 1)[:, 0],
        s=torch.where(t > 1, before, task.n_states),
        answer=states.gather(1, t[:, None] - 1)[:, 0],
    )


def draw_inputs(data: DataConfig, task: Task, n: int, generator: torch.Generator) -> Int[Tensor, "n max_length"]:
    """Random inputs of the task, as many as the longest string has."""
    return torch.randint(task.first_input, task.n_inputs, (n, data.max_length), generator=generator)


def draw_rows(data: DataConfig, task: Task, n: int, generator: torch.Generator) -> Rows:
    """Random rows, every (length, t) being equally likely."""
    every = cells(data)
    chosen = every[torch.randint(len(every), (n,), generator=generator)]
    return rows_of(data, task, chosen, draw_inputs(data, task, n, generator))
