"""In which order a task is learnt: its lengths, and what its answers depend on, as scores of a run."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from compo_mech.evaluation.explained import explained
from compo_mech.evaluation.head_scores import edges_of_roles
from compo_mech.evaluation.table import CONTROL, measured, select
from compo_mech.model.params import Model
from compo_mech.runs.outcome import ACCURACY_LEVEL
from compo_mech.runs.stacked_run import AnyRun
from compo_mech.studies import measures
from compo_mech.studies.run_scores import by_head, first_step, main_scores
from compo_mech.studies.scores import Network, RunScore

if TYPE_CHECKING:
    import pandas as pd

HALF = 0.5
"""From here on x_t is what answers depend on."""
SEEN = 0.05
"""Counts are used where they explain so much: answers as good as counts allow have 0.11 to 0.12 (bits, length 8)."""


def learning_order(run: AnyRun) -> list[RunScore]:
    """`main_scores`, when each length is learnt, and what answers depend on at each checkpoint; the head's invariance
    over strings, beside that of the control."""
    return [*main_scores(run), *_lengths(run), *_dependence(run), *_invariance(run)]


def _lengths(run: AnyRun) -> Iterator[RunScore]:
    """The first step at which each length is right."""
    for task in map(str, run.config.data.measured_tasks):
        rows = select(measured(run.metrics, task), metric="generated_accuracy")
        for length in run.config.data.drawn_lengths:
            curve = select(rows, length=length).set_index("step")["value"]
            first = first_step(curve, ACCURACY_LEVEL)
            yield RunScore(measures.FIRST_STEP_OF_LENGTH, first, task, position=f"length {length}")


def _dependence(run: AnyRun) -> Iterator[RunScore]:
    """What the answers at the longest length depend on, checkpoint after checkpoint.

    Raises:
        ValueError: a snapshot has no checkpoint, as in a stack that keeps the last alone.
    """
    config, length = run.config, max(run.config.data.drawn_lengths)
    tasks = config.data.measured_tasks
    snapshots = {step for task in tasks for step in measured(run.metrics, str(task))["step"]}  # losses have more steps
    if without := snapshots - set(run.steps):
        raise ValueError(f"run = {run.path}: has no checkpoint of {len(without)} snapshots, must have all of them")
    for task in tasks:
        found = {
            step: explained(Model(run.params(step), config.model), config.data, task, length) for step in run.steps
        }
        at_half = min((step for step, own in found.items() if own.by_next >= HALF), default=math.inf)
        before = [own.by_counts for step, own in found.items() if step < at_half]
        seen = min((step for step, own in found.items() if own.by_counts >= SEEN), default=math.inf)
        yield RunScore(measures.COUNTS_BEFORE, max(0.0, *before), str(task))
        yield RunScore(measures.COUNTS_FIRST, float(seen < at_half), str(task))
        yield RunScore(measures.FIRST_STEP_BY_NEXT, float(at_half), str(task))
        yield RunScore(measures.FIRST_STEP_BY_COUNTS, float(seen), str(task))
        control = explained(Model(run.control(), config.model), config.data, task, length)
        yield RunScore(measures.COUNTS_BEFORE, control.by_counts, str(task), network="control")


def _invariance(run: AnyRun) -> Iterator[RunScore]:
    """Of the head with the highest iteration score at the longest length, trained and control."""
    length = max(run.config.data.drawn_lengths)
    if "iteration" not in edges_of_roles(run.config.data.layout, length):
        return
    for task in map(str, run.config.data.measured_tasks):
        heads = select(run.metrics, task=task, length=length).dropna(subset="head")
        control = select(heads, split=CONTROL)
        trained = select(measured(heads, task), step=heads["step"].max())
        networks: tuple[tuple[Network, pd.DataFrame], ...] = (("trained", trained), ("control", control))
        for network, rows in networks:
            table = by_head(rows)
            best = table.iloc[int(table["iteration"].argmax())]
            yield RunScore(measures.INVARIANCE, float(best["iteration_invariance"]), task, network=network)
