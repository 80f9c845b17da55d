"""The algorithm's variables at the row that predicts a state, and pairs of rows that differ in one of them.

    t        which state is predicted       from the row's position and [EoI]'s
    x        x_t                            from t and the string
    s        s_{t-1}                        the token at the row; [EoI] stands for s_0
    answer   s_t = F(s_{t-1}, x_t)

Sources come in two kinds:

    same     all other variables are the base's: a site that carries the variable, with whatever
             else, passes
    free     drawn anew, of any length and t: only a site that carries the variable and nothing
             else that matters passes
"""

from dataclasses import dataclass, fields, replace
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from compo_mech.data import DataConfig
from compo_mech.tasks import Task

Variable = Literal["t", "x", "s", "answer"]
Others = Literal["same", "free"]


@dataclass(frozen=True)
class Rows:
    """Rows that predict a state, one in each string, and the algorithm's variables there.

    Attributes:
        tokens, positions: of whole strings, as far as the network reads them.
        place: position of the row.
        length: of the string.
        inputs: x_1 .. x_L, and beyond L whatever was drawn.
        t, x, s, answer: the variables; s = n_states where [EoI] stands for the start.
    """

    tokens: Int[Tensor, "row pos"]
    positions: Int[Tensor, "row pos"]
    place: Int[Tensor, "row"]
    length: Int[Tensor, "row"]
    inputs: Int[Tensor, "row max_length"]
    t: Int[Tensor, "row"]
    x: Int[Tensor, "row"]
    s: Int[Tensor, "row"]
    answer: Int[Tensor, "row"]

    def __len__(self) -> int:
        return len(self.place)

    def __getitem__(self, index: Tensor | slice) -> "Rows":
        return Rows(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def to(self, device: torch.device | str) -> "Rows":
        """The same rows on a device."""
        return Rows(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    @property
    def end(self) -> Int[Tensor, "row"]:
        """Position of [EoI]: of the row that predicts s_1."""
        return self.place - self.t + 1


def check_data(data: DataConfig, task: Task | None = None) -> Task:
    """The task that is asked about.

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

    Position ids are not shifted: then i and j would no longer say where x_t sits.
    """
    return torch.tensor([(length, t) for length in data.drawn_lengths for t in range(1, length + 1)])


def rows_of(data: DataConfig, task: Task, cells: Int[Tensor, "row 2"], inputs: Int[Tensor, "row max_length"]) -> Rows:
    """The rows at these cells (length, t) of strings with these inputs."""
    length, t = cells.unbind(1)
    layout, words, n = data.layout, data.vocabulary, len(cells)
    states = task.states(inputs)
    first = words.task_token(task) if data.task_token else words.beginning
    tokens = layout.assemble(torch.full((n,), first), inputs, states, length, words.end_of_input, words.end_of_states)[
        :, :-1
    ]
    positions = torch.arange(tokens.shape[1]).expand(tokens.shape)
    before = states.gather(1, (t - 2).clamp(min=0)[:, None])[:, 0]
    return Rows(
        tokens=tokens,
        positions=positions,
        place=layout.end_of_input(length) + t - 1,
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


# ------------------------------------------------------------------------------ the causal model


def uses(task: Task, variable: Variable) -> bool:
    """Whether the task's answer ever depends on the variable: copy's does not on s_{t-1}."""
    table = task.table[:, task.first_input :]
    if variable == "s":
        return bool((table[:-1] != table[0]).any())
    return bool((table != table[:, :1]).any())


def expected(task: Task, variable: Variable, base: Rows, source: Rows) -> Int[Tensor, "row"]:
    """What the algorithm answers at the base's row when one variable is the source's."""
    table = task.table.to(base.s.device)
    match variable:
        case "t":
            return table[base.s, base.inputs.gather(1, source.t[:, None] - 1)[:, 0]]
        case "x":
            return table[base.s, source.x]
        case "s":
            return table[source.s, base.x]
        case "answer":
            return source.answer


@dataclass(frozen=True)
class Interchanges:
    """Base and source rows of one variable.

    Attributes:
        answers: what the algorithm says with the source's value of the variable.
        arbitrary: the same with the value of another source.
    """

    variable: Variable
    others: Others
    base: Rows
    source: Rows
    answers: Int[Tensor, "row"]
    arbitrary: Int[Tensor, "row"]

    @property
    def changes(self) -> Bool[Tensor, "row"]:
        """Where the answer has to change."""
        return self.answers != self.base.answer

    def __getitem__(self, index: Tensor) -> "Interchanges":
        parts = {name: getattr(self, name)[index] for name in ("base", "source", "answers", "arbitrary")}
        return replace(self, **parts)

    def with_arbitrary(self) -> "Interchanges":
        """The same pairs with the control's answers in the place of the right ones."""
        return replace(self, answers=self.arbitrary)

    def to(self, device: torch.device | str) -> "Interchanges":
        """The same on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("base", "source", "answers", "arbitrary")}
        return replace(self, **moved)


def make_interchanges(
    data: DataConfig,
    variable: Variable,
    others: Others,
    n: int,
    generator: torch.Generator,
    task: Task | None = None,
) -> Interchanges:
    """Pairs of rows for interchanges of one variable.

    Args:
        data: tasks, lengths and layout.
        variable: of the causal model.
        others: whether the source's other variables are the base's.
        n: pairs.
        generator: source of the strings.
        task: one of the data's; None: the first that is measured.

    Raises:
        ValueError: the data or the task do not have the variable, or no two strings differ in it so.
    """
    task = check_data(data, task)
    if variable not in get_args(Variable):
        raise ValueError(f"variable = {variable!r}: must be one of {', '.join(get_args(Variable))}")
    if not uses(task, variable):
        raise ValueError(f"variable = {variable}: must be one that {task} uses")
    if n < 1:
        raise ValueError(f"n = {n}: must be at least 1")
    base_cells, source_cells = cell_pairs(data, variable, others)
    if not len(base_cells):
        lengths = f"{data.min_length} .. {data.max_length}"
        raise ValueError(f"lengths = {lengths}: must have two rows that differ in {variable} and nothing else")
    # every base cell is as likely as any other, and so is every source of it
    base_id = (base_cells * torch.tensor([10**6, 1])).sum(1)
    _, group, n_sources = base_id.unique(return_inverse=True, return_counts=True)
    chosen = torch.multinomial(1 / n_sources[group].double(), n, replacement=True, generator=generator)
    base = rows_of(data, task, base_cells[chosen], draw_inputs(data, task, n, generator))
    inputs = base.inputs if (variable, others) == ("s", "same") else draw_inputs(data, task, n, generator)
    source = rows_of(data, task, source_cells[chosen], inputs)
    if others == "same" and variable in ("t", "x"):
        source = _with_state(source, base.s)
    if others == "same" and variable == "s":
        step = torch.randint(task.n_states, (n,), generator=generator)  # 0: what has to stay
        source = _with_state(source, (base.s + step) % task.n_states)
    shifted = _shuffled_values(source, base, variable, generator)
    answers = expected(task, variable, base, source)
    return Interchanges(variable, others, base, source, answers, expected(task, variable, base, shifted))


def cell_pairs(
    data: DataConfig, variable: Variable, others: Others
) -> tuple[Int[Tensor, "pair 2"], Int[Tensor, "pair 2"]]:
    """Every pair of cells (length, t) that the base and the source may have."""
    every = cells(data)
    base, source = every.repeat_interleave(len(every), 0), every.repeat(len(every), 1)
    (length, t), (length2, t2) = base.unbind(1), source.unbind(1)
    if others == "free":
        allowed = (t2 <= length) if variable == "t" else torch.ones_like(t, dtype=torch.bool)
    elif variable == "t":  # the same row and token there, another place of [EoI]; [EoI] itself is another token
        allowed = (length + t == length2 + t2) & (t2 != t) & (t > 1) & (t2 > 1) & (t2 <= length)
    else:
        allowed = (base == source).all(1) & ((t > 1) if variable == "s" else True)
    return base[allowed], source[allowed]


def _with_state(rows: Rows, s: Int[Tensor, "row"]) -> Rows:
    """The rows with another state as their token, where they hold one."""
    holds = rows.t > 1
    new = torch.where(holds, s, rows.tokens.gather(1, rows.place[:, None])[:, 0])
    return replace(
        rows, tokens=rows.tokens.scatter(1, rows.place[:, None], new[:, None]), s=torch.where(holds, s, rows.s)
    )


def _shuffled_values(source: Rows, base: Rows, variable: Variable, generator: torch.Generator) -> Rows:
    """The sources with the variable's values dealt to others at random; t stays one that the base has."""
    order = torch.randperm(len(source), generator=generator)
    if variable == "t":
        drawn = (torch.rand(len(source), generator=generator) * base.length).long() + 1
        return replace(source, t=drawn)
    return source[order]
