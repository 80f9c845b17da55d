"""Networks of more heads and layers than are needed, as arms of a study, and how heads share the work of bringing x_t,
over all sets of heads of all layers, as scores of a run."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import torch

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.evaluation.measure import measure
from compo_mech.evaluation.sets import drawn_sets
from compo_mech.model.params import Model
from compo_mech.runs import recipes
from compo_mech.runs.stacked_run import AnyRun
from compo_mech.settings import changed
from compo_mech.studies import measures
from compo_mech.studies.circuit_scores import N_STRINGS, heads_needed
from compo_mech.studies.scores import RunScore, beside_control
from compo_mech.studies.study import SHORT, Arm

SHARES = 0.1
"""A head shares the work if its share is at least this."""
ROUNDING = 1e-9
"""Shares that differ by less are equal; either of two heads that have the largest has it."""


def size_arms(sizes: Sequence[tuple[int, int, int]]) -> Mapping[str, Arm]:
    """Return parity alone in networks of (layers, heads a layer, key-value heads a layer). Every head has the width of
    the one that is enough, so that arms differ in number alone."""
    base, arms = changed(recipes.parity_alone(), SHORT), {}
    for n_layers, n_heads, n_shared in sizes:
        n_kv = None if n_shared == n_heads else n_shared
        settings = {"model.n_layers": n_layers, "model.n_heads": n_heads, "model.n_key_value_heads": n_kv}
        name = f"{n_layers} layers x {n_heads} heads{'' if n_kv is None else f', {n_shared} key-value heads'}"
        factors = {"n_layers": n_layers, "n_heads": n_heads, "n_key_value_heads": n_shared}
        arms[name] = Arm(changed(base, settings | {"model.d_head": 64}), factors=factors)
    return arms


def heads_sharing(run: AnyRun) -> list[RunScore]:
    """`heads_needed`, and how heads share x_t."""
    return heads_needed(run) + beside_control(run, head_set_scores)


def head_set_scores(model: Model, data: DataConfig, task: Task, seed: int) -> Iterator[RunScore]:
    """How heads share x_t, and, of layers before the last, the position of [EoI] (see `head_sets`).

    `heads enough for x_t` is infinite where not even all heads are; which heads block it, and whether attention shows
    the share, is asked only where all heads bring some of it. A network that is right about too few rows, or that has
    too many heads, has no scores.
    """
    from compo_mech.interventions.head_sets import LITTLE, MAX_HEADS, head_sets

    n_layers, n_heads = model.config.n_layers, model.config.n_heads
    generator = torch.Generator().manual_seed(seed)
    found = head_sets(model, data, task, "x", generator) if n_layers * n_heads <= MAX_HEADS else None
    if found is not None:
        shares, enough = found.shares, found.smallest_enough()
        by_layer = (sum(shares[head] for head in heads) for _, heads in groupby(found.heads, lambda head: head.layer))
        yield RunScore(measures.X_BROUGHT, found.whole)
        yield RunScore(measures.LARGEST_SHARE, max(shares.values()))
        yield RunScore(measures.LARGEST_SHARE_OF_LAYER, max(by_layer))
        yield RunScore(measures.HEADS_SHARING, float(sum(share >= SHARES for share in shares.values())))
        yield RunScore(measures.HEADS_ENOUGH, math.inf if enough is None else float(len(enough)))
        if found.whole > LITTLE:
            yield RunScore(measures.HEADS_BLOCKING, float(len(found.smallest_blocking())))
            rows = measure(model, data, drawn_sets(data, task, N_STRINGS, model.device))
            attentive = {
                (row.layer, row.head): row.value for row in rows if row.split == "mean" and row.metric == "iteration"
            }
            most = max(found.heads, key=lambda head: attentive.get((head.layer, head.head), -math.inf))
            yield RunScore(measures.SHARE_SHOWS, float(shares[most] > max(shares.values()) - ROUNDING))
    if n_layers > 1 and (n_layers - 1) * n_heads <= MAX_HEADS:
        ends = head_sets(model, data, task, "end", generator)
        if ends is not None:
            yield RunScore(measures.LARGEST_SHARE_OF_EOI, max(ends.shares.values()))
