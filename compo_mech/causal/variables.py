"""The algorithm's variables at the row that predicts a state, and pairs of rows that differ in one of them.

    t        which state is predicted       from the row's position and [EoI]'s
    x        x_t                            from t and the string
    s        s_{t-1}                        the token at the row; [EoI] stands for s_0
    answer   s_t = F(s_{t-1}, x_t)

The context of a source, its other variables, is of two kinds:

    matched       the base's own: a site that carries the variable, with whatever else, passes
    independent   drawn anew, of any length and t: only a site that carries the variable and nothing else that
                  matters passes
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from compo_mech.causal.rows import Rows, Variable, cells, check_data, draw_inputs, rows_of
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task

Context = Literal["matched", "independent"]


def uses(task: Task, variable: Variable) -> bool:
    """Whether the task's answer ever depends on the variable: copy's does not on s_{t-1}."""
    table = task.table[:, task.first_input :]
    if variable == "s":
        return bool((table[:-1] != table[0]).any())
    return bool((table != table[:, :1]).any())


def expected(task: Task, variable: Variable, base: Rows, source: Rows) -> Int[Tensor, "row"]:
    """The algorithm's answer at the base's row when one variable is the source's."""
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
        answers: the algorithm's answers with the source's value of the variable.
        permuted: the same with the variable's values permuted among the sources.
    """

    variable: Variable
    context: Context
    base: Rows
    source: Rows
    answers: Int[Tensor, "row"]
    permuted: Int[Tensor, "row"]

    @property
    def changes(self) -> Bool[Tensor, "row"]:
        """Where the answer has to change."""
        return self.answers != self.base.answer

    def __getitem__(self, index: Tensor) -> "Interchanges":
        parts = {name: getattr(self, name)[index] for name in ("base", "source", "answers", "permuted")}
        return replace(self, **parts)

    def with_permuted(self) -> "Interchanges":
        """Return the same pairs with the control's answers instead of the right ones."""
        return replace(self, answers=self.permuted)

    def to(self, device: torch.device | str) -> "Interchanges":
        """The same on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("base", "source", "answers", "permuted")}
        return replace(self, **moved)


def make_interchanges(
    data: DataConfig,
    variable: Variable,
    context: Context,
    n: int,
    generator: torch.Generator,
    task: Task | None = None,
) -> Interchanges:
    """Pairs of rows for interchanges of one variable.

    Args:
        data: tasks, lengths and layout.
        variable: of the causal model.
        context: whether the source's other variables match the base's or are independent of them.
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
    base_cells, source_cells = _drawn_cells(data, variable, context, n, generator)
    base = rows_of(data, task, base_cells, draw_inputs(data, task, n, generator))
    inputs = base.inputs if (variable, context) == ("s", "matched") else draw_inputs(data, task, n, generator)
    source = rows_of(data, task, source_cells, inputs)
    if context == "matched" and variable in ("t", "x"):
        source = _with_state(source, base.s)
    if context == "matched" and variable == "s":
        step = torch.randint(task.n_states, (n,), generator=generator)  # 0: what has to stay
        source = _with_state(source, (base.s + step) % task.n_states)
    permuted = _permuted_values(source, base, variable, generator)
    answers = expected(task, variable, base, source)
    return Interchanges(variable, context, base, source, answers, expected(task, variable, base, permuted))


MAX_PAIRS = 2**24
"""Pairs of cells that torch draws from, and that are listed: of lengths up to 90 or so."""


def _drawn_cells(
    data: DataConfig, variable: Variable, context: Context, n: int, generator: torch.Generator
) -> tuple[Int[Tensor, "row 2"], Int[Tensor, "row 2"]]:
    """Draw cells of bases and their sources: every base is as likely as any other, and so is every source of it."""
    if not has_pairs(data, variable, context):
        lengths = f"{data.min_length} .. {data.max_length}"
        raise ValueError(f"lengths = {lengths}: must have two rows that differ in {variable} and nothing else")
    every = cells(data)
    if len(every) ** 2 > MAX_PAIRS:
        return _drawn_one_by_one(every, variable, context, n, generator)
    base, source = cell_pairs(data, variable, context)
    base_id = (base * torch.tensor([10**6, 1])).sum(1)
    _, group, n_sources = base_id.unique(return_inverse=True, return_counts=True)
    chosen = torch.multinomial(1 / n_sources[group].double(), n, replacement=True, generator=generator)
    return base[chosen], source[chosen]


def _drawn_one_by_one(
    every: Int[Tensor, "cell 2"], variable: Variable, context: Context, n: int, generator: torch.Generator
) -> tuple[Int[Tensor, "row 2"], Int[Tensor, "row 2"]]:
    """Do the same without a list of all pairs, of which there is one at least; bases without a source are redrawn."""
    drawn = []
    while len(drawn) < n:
        base = every[torch.randint(len(every), (1,), generator=generator)]
        sources = every[_allowed(variable, context, base, every)]
        if len(sources):
            drawn.append((base[0], sources[torch.randint(len(sources), (), generator=generator)]))
    bases, found = zip(*drawn, strict=True)
    return torch.stack(bases), torch.stack(found)


def cell_pairs(
    data: DataConfig, variable: Variable, context: Context
) -> tuple[Int[Tensor, "pair 2"], Int[Tensor, "pair 2"]]:
    """Every pair of cells (length, t) that the base and the source may have."""
    every = cells(data)
    base, source = every.repeat_interleave(len(every), 0), every.repeat(len(every), 1)
    allowed = _allowed(variable, context, base, source)
    return base[allowed], source[allowed]


def has_pairs(data: DataConfig, variable: Variable, context: Context) -> bool:
    """Tell whether `cell_pairs` has any, without listing them."""
    every = cells(data)
    return any(bool(_allowed(variable, context, base[None], every).any()) for base in every)


def _allowed(
    variable: Variable, context: Context, base: Int[Tensor, "#pair 2"], source: Int[Tensor, "pair 2"]
) -> Bool[Tensor, "pair"]:
    """Whether a cell may be the source of another, of which there may be one for all."""
    (length, t), (length2, t2) = base.unbind(1), source.unbind(1)
    if context == "independent":
        return (t2 <= length) if variable == "t" else torch.ones_like(t2, dtype=torch.bool)
    if variable == "t":  # the same row and token there, another position of [EoI]; [EoI] itself is another token
        return (length + t == length2 + t2) & (t2 != t) & (t > 1) & (t2 > 1) & (t2 <= length)
    return (base == source).all(1) & ((t > 1) if variable == "s" else True)


def _with_state(rows: Rows, s: Int[Tensor, "row"]) -> Rows:
    """The rows with another state as their token, where they hold one."""
    holds = rows.t > 1
    new = torch.where(holds, s, rows.tokens.gather(1, rows.position[:, None])[:, 0])
    return replace(
        rows, tokens=rows.tokens.scatter(1, rows.position[:, None], new[:, None]), s=torch.where(holds, s, rows.s)
    )


def _permuted_values(source: Rows, base: Rows, variable: Variable, generator: torch.Generator) -> Rows:
    """Permute the variable's values among the sources; t is drawn anew, as one that the base has."""
    order = torch.randperm(len(source), generator=generator)
    if variable == "t":
        drawn = (torch.rand(len(source), generator=generator) * base.length).long() + 1
        return replace(source, t=drawn)
    return source[order]
