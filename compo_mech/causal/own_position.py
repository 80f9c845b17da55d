"""Does the row's own position make t? The row alone is given another position, and nothing else changes."""

from dataclasses import replace

import torch

from compo_mech.causal.interchange import InterchangeScore, balanced_accuracy, balanced_interval
from compo_mech.causal.row_patching import continued, trace_rows
from compo_mech.causal.rows import cells, check_data, draw_inputs, rows_of
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.model import blocks
from compo_mech.model.finite import likeliest
from compo_mech.model.params import Model
from compo_mech.model.sites import Site


@torch.no_grad()
def own_position(model: Model, data: DataConfig, task: Task, n: int, generator: torch.Generator) -> InterchangeScore:
    """Score answers of rows that have the position of the row of s_{t'} in the same string.

    A network that subtracts positions should answer F(s_{t-1}, x_{t'}); one that counts the rows from [EoI] on answers
    as before. The placebo changes the row's embedding by as much in a random direction.

    Args:
        model: the network, which embeds positions.
        data: tasks, lengths and layout, with strings of 3 inputs or more.
        task: one of the data's.
        n: rows.
        generator: draws them.

    Raises:
        ValueError: no string has two rows that hold a state.

    Example:
        >>> from compo_mech.data import Parity
        >>> from compo_mech.ground_truth import build
        >>> built, generator = build(Parity(), max_length=4), torch.Generator().manual_seed(0)
        >>> own_position(built.model, built.data, Parity(), 64, generator).follows
        1.0
    """
    check_data(data, task)
    known = [(length, t) for length, t in cells(data).tolist() if length > 2 and t > 1]
    if not known:
        raise ValueError(f"max_length = {data.max_length}: must be at least 3, so that a row has another's position")
    length, t = torch.tensor(known)[torch.randint(len(known), (n,), generator=generator)].unbind(1)
    rows = rows_of(data, task, torch.stack([length, t], 1), draw_inputs(data, task, n, generator))
    other, permuted = (2 + (torch.rand(n, generator=generator) * (length - 1)).long() for _ in range(2))
    table, inputs = task.table[rows.s], rows.inputs
    answers, by_chance = (table.gather(1, inputs.gather(1, of[:, None] - 1))[:, 0] for of in (other, permuted))
    at = (rows.end + other - 1).to(model.device)
    moved, here = rows.to(model.device), torch.arange(n, device=model.device)
    position_ids = moved.position_ids.clone()
    position_ids[here, moved.position] = at
    answered = likeliest(trace_rows(model, replace(moved, position_ids=position_ids)).logits).cpu()
    change = blocks.position_embedding(model, at) - blocks.position_embedding(model, moved.position)
    direction = torch.randn(change.shape, generator=generator).to(change)
    direction = direction * (change.norm(dim=1) / direction.norm(dim=1))[:, None]
    found, site = trace_rows(model, moved), Site("resid_pre", 0)
    sham = likeliest(continued(model, found, site, found.at(site) + direction)).cpu()
    accuracy, follows, keeps = balanced_interval(answered, answers, answers != rows.answer)
    placebo = balanced_accuracy(sham, answers, answers != rows.answer)
    chance = balanced_accuracy(answered, by_chance, by_chance != rows.answer)
    return InterchangeScore(accuracy, follows, keeps, placebo, chance, n)
