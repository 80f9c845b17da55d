"""Rules written out as tables: all states of a batch, whatever its rows' tasks, by one lookup a position."""

import itertools
from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Int
from torch import Tensor


def stack_tables(
    tables: Sequence[Int[Tensor, "_state_or_start _input"]],
) -> Int[Tensor, "task state_or_start input"]:
    """Stack the tables of several tasks (`Task.table`) in one tensor, the step out of the start last in each.

    Example:
        >>> from compo_mech.data import Copy, Counter, stack_tables
        >>> stack_tables([Copy().table, Counter(modulus=3).table]).shape
        torch.Size([2, 4, 3])
    """
    n_rows, n_inputs = (max(sizes) for sizes in zip(*(table.shape for table in tables), strict=True))
    stacked = torch.zeros(len(tables), n_rows, n_inputs, dtype=torch.long)
    for i, table in enumerate(tables):
        stacked[i, : len(table) - 1, : table.shape[1]] = table[:-1]
        stacked[i, -1, : table.shape[1]] = table[-1]
    return stacked


def run_tables(
    tables: Int[Tensor, "task state_or_start input"],
    task: Int[Tensor, "*batch"],
    inputs: Int[Tensor, "*batch length"],
) -> Int[Tensor, "*batch length"]:
    """Return all states of each row under its own task: one table lookup per position for the whole batch.

    Example:
        >>> from compo_mech.data import Copy, Parity, run_tables, stack_tables
        >>> tables = stack_tables([Copy().table, Parity().table])
        >>> run_tables(tables, torch.tensor([0, 1]), torch.tensor([[1, 1], [1, 1]])).tolist()
        [[1, 1], [1, 0]]
    """
    n_tasks, n_rows, n_inputs = tables.shape
    first_row = torch.arange(n_tasks, device=tables.device) * n_rows
    row_after = (tables + first_row[:, None, None]) * n_inputs  # where the next state's row begins among all tables
    row = (task * n_rows + n_rows - 1) * n_inputs
    cells = []
    for column in inputs.unbind(-1):
        cells.append(row + column)
        row = row_after.take(cells[-1])
    return tables.take(torch.stack(cells, -1)) if cells else torch.empty_like(inputs)


@lru_cache
def permutation_products(n: int) -> Int[Tensor, "element element"]:
    """Return the products of the permutations of n things, (s x)(i) = s(x(i)), numbered in lexicographic order."""
    elements = torch.tensor(list(itertools.permutations(range(n))))
    powers = n ** torch.arange(n)
    products = elements[:, elements]  # [s, x, i] = s(x(i))
    codes = elements @ powers
    order = codes.argsort()
    return order[torch.searchsorted(codes[order], products @ powers)]
