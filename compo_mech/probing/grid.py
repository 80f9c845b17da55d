"""The strings that both probes use: every pair of positions, and every pair of state and input."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from compo_mech.causal.rows import Rows, cells, check_data, draw_inputs, draw_rows, rows_of
from compo_mech.causal.variables import uses
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.probing.split import Split

N_FOLDS = 5

N_STRINGS = 8
"""Strings of each pair (i, j)."""


@dataclass(frozen=True)
class PositionGrid:
    """Every pair (i, j) with t >= 2, in several strings.

    Attributes:
        rows: `N_STRINGS` of each pair.
        split: labels t and folds of pairs.
        i, j, t: of each pair.
    """

    rows: Rows
    split: Split
    i: Int[Tensor, "pair"]
    j: Int[Tensor, "pair"]
    t: Int[Tensor, "pair"]


def position_grid(data: DataConfig, task: Task, generator: torch.Generator) -> PositionGrid:
    """Build the grid of a task.

    Raises:
        ValueError: there is no chain of thought, or fewer than 4 pairs.
    """
    task = check_data(data, task)
    every = cells(data)
    every = every[every[:, 1] > 1]
    if len(every) < 4:
        raise ValueError(
            f"pairs (i, j) = {len(every)}: must be at least 4; lengths up to {data.max_length} have no more"
        )
    chosen = every.repeat_interleave(N_STRINGS, 0)
    rows = rows_of(data, task, chosen, draw_inputs(data, task, len(chosen), generator))
    groups = torch.arange(len(every)).repeat_interleave(N_STRINGS)
    split = Split.draw(rows.t - 2, groups, N_FOLDS, generator, torch.stack([rows.position, rows.end], 1))
    first = slice(None, None, N_STRINGS)
    return PositionGrid(rows, split, rows.position[first], rows.end[first], rows.t[first])


N_ROWS = 512
"""Rows in all; each pair has at least `MIN_ROWS` of them, unless that would be more than `MAX_ROWS`."""
MIN_ROWS = 8
MAX_ROWS = 2**14
"""Rows that the probes of all sites and folds can be fitted to in about a gigabyte, and in minutes."""


@dataclass(frozen=True)
class StateGrid:
    """Every pair (s, x) that strings have, in as many rows each as can be.

    Attributes:
        rows: that predict a state, t >= 2.
        split: labels s_t and folds of pairs.
        s, x: of each pair.
        start: rows of t = 1, where [EoI] stands for the state.
    """

    rows: Rows
    split: Split
    s: Int[Tensor, "pair"]
    x: Int[Tensor, "pair"]
    start: Rows


def state_grid(data: DataConfig, task: Task, generator: torch.Generator) -> StateGrid:
    """Build the grid of a task.

    Raises:
        ValueError: there is no chain of thought, no string of two inputs, fewer than 4 pairs, or states that do
            not depend on inputs.
    """
    task = check_data(data, task)
    longest = max(data.drawn_lengths)
    if longest < 2:
        raise ValueError(f"max_length = {longest}: must be at least 2, since s_0 is no state")
    if not uses(task, "x"):
        raise ValueError(f"task = {task}: must be one whose states depend on its inputs")
    n_pairs = task.n_states * (task.n_inputs - task.first_input)
    if n_pairs > MAX_ROWS:
        raise ValueError(f"task = {task}: has {n_pairs} pairs (s, x), must have at most {MAX_ROWS} to be probed")
    n_each = max(min(MIN_ROWS, MAX_ROWS // n_pairs), N_ROWS // n_pairs)
    drawn = draw_rows(data, task, 12 * n_each * n_pairs, generator)
    start = drawn[drawn.t == 1][:N_ROWS]
    drawn = drawn[drawn.t > 1]
    pair = drawn.s * task.n_inputs + drawn.x
    order = pair.argsort(stable=True)
    _, counts = pair.unique(return_counts=True)
    rank = torch.cat([torch.arange(int(n)) for n in counts])
    rows = drawn[order[rank < n_each]]
    kinds, groups = (rows.s * task.n_inputs + rows.x).unique(return_inverse=True)
    if len(kinds) < 4:
        raise ValueError(f"pairs (s, x) = {len(kinds)}: must be at least 4, and {task} has no more")
    s, x = kinds // task.n_inputs, kinds % task.n_inputs
    split = Split.draw(rows.answer, groups, N_FOLDS, generator, torch.stack([rows.s, rows.x], 1))
    return StateGrid(rows, split, s, x, start)
