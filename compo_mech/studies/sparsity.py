"""How sparse attention and MLP neurons are, at the end of training and where loss is the same, as scores of a run.

A larger step, a smaller batch or noise may leave a network sparser, or just earlier or later on its way: so each run is
also asked at the first snapshots at which its loss has come down to a level: one at which the task is nearly learnt,
and one on the way there that weak optimisers come to as well.
"""

import math
from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.evaluation.attention import MIN_LENGTH
from compo_mech.evaluation.sets import EvalSet, drawn_sets
from compo_mech.evaluation.table import measured, of_lengths, select
from compo_mech.model import blocks
from compo_mech.model.params import Model
from compo_mech.runs.stacked_run import AnyRun
from compo_mech.stats.over_seeds import SeedSummary, over_seeds
from compo_mech.studies import measures
from compo_mech.studies.run_scores import head_scores, main_scores
from compo_mech.studies.scores import RunScore, beside_control
from compo_mech.studies.table import score_rows, trained_rows
from compo_mech.weights.positions import participation_ratio

if TYPE_CHECKING:
    import pandas as pd

AT_EQUAL_LOSS, ON_THE_WAY = "first snapshot at equal loss", "first snapshot at equal loss on the way"
LEVELS = {AT_EQUAL_LOSS: 0.05, ON_THE_WAY: 0.4}
"""Mean loss on test strings over lengths, in nats, above the least that the labels' noise allows."""
N_STRINGS = 64
"""Test strings of each length."""
CHANGES = {"lr": (max, min), "batch_size": (min, max), "label_noise": (max, min)}
"""Factors that may make a network sparser, and of each which value should do so most and which least."""
OF_HEADS = {measures.ITERATION, measures.TEXTBOOK, measures.ENTROPY, measures.ATTENTION_SPARSITY}


def sparsity_scores(run: AnyRun) -> list[RunScore]:
    """`main_scores`, and how sparse the iteration head's attention and MLPs' neurons are, at the end and at
    equal loss.

    A run whose loss stays above one of `LEVELS` has no scores there.

    Raises:
        ValueError: some snapshots have no checkpoint.
    """
    data = run.config.data
    scores = main_scores(run, {*OF_HEADS, measures.ACCURACY_AT_LONGEST}) + beside_control(run, neuron_scores)
    for task in data.measured_tasks:
        of_task = measured(of_lengths(run.metrics, data.drawn_lengths), str(task))
        if lost := {int(step) for step in of_task["step"]} - set(run.steps):
            raise ValueError(f"steps = {min(lost)}: has no checkpoint, which every snapshot must have (keep = every)")
        least = least_loss(data, run.config.train.label_noise)
        for name, level in LEVELS.items():
            step = first_at_loss(of_task, level + least)
            if name == AT_EQUAL_LOSS:
                scores.append(RunScore(measures.STEP_AT_EQUAL_LOSS, step, str(task)))
            if step < math.inf:
                heads = select(of_task, split="mean", step=int(step)).dropna(subset="head")
                found = [score for score in head_scores(heads) if score.measure in OF_HEADS]
                found += neuron_scores(Model(run.params(int(step)), run.config.model), data, task, run.config.seed)
                scores += [score._replace(task=str(task), checkpoint=name) for score in found]
    return scores


def effects(table: "pd.DataFrame") -> "pd.DataFrame":
    """What a larger rate, a smaller batch and label noise change, all else equal: the most of each less the least.

    Args:
        table: of a study whose arms have the factors optimizer, lr, batch_size and label_noise.

    Returns:
        Columns optimizer, changed, at (the end, or one of `LEVELS`), measure, component, difference, low, high,
        n_seeds: of each seed the mean over the other factors, and Student's interval over seeds. Runs that have no such
        value are left out, and so is what fewer than two seeds have.
    """
    import pandas as pd

    found = []
    asked = [(measures.ATTENTION_SPARSITY, ""), (measures.ITERATION, "")]
    asked += [(measures.NEURON_SPARSITY, f"mlp{layer}") for layer in (0, 1)]
    for optimizer, of_optimizer in table.groupby("optimizer", sort=False):
        for factor, (most, least) in CHANGES.items():
            own = _all_else_equal(of_optimizer, factor)
            if own[factor].nunique() < 2:  # as the label noise of an optimiser that was not tried with any
                continue
            ends, others = (most(own[factor]), least(own[factor])), [name for name in CHANGES if name != factor]
            for at, (measure, component) in product(("", *LEVELS), asked):
                labels = {name: v for name, v in (("component", component), ("checkpoint", at)) if v}
                rows = trained_rows(score_rows(own, measure.name, labels))
                values = rows.pivot_table(index=["seed", *others], columns=factor, values="value")
                if not set(ends) <= set(values.columns):  # as where no run came to that loss
                    continue
                change = (values[ends[0]] - values[ends[1]]).dropna().groupby("seed").mean()
                if len(change) > 1:
                    interval = over_seeds(SeedSummary.MEAN, change.tolist(), (-1.0, 1.0))
                    row = {"optimizer": optimizer, "changed": factor, "at": at or "end", "measure": measure.name}
                    row |= {"component": component} | dict(zip(("difference", "low", "high"), interval, strict=True))
                    found.append(row | {"n_seeds": len(change)})
    return pd.DataFrame(found)


def _all_else_equal(table: "pd.DataFrame", factor: str) -> "pd.DataFrame":
    """The arms without label noise; of label noise those at whose rate and batch size it was tried."""
    noisy = table[table["label_noise"] > 0]
    if factor == "label_noise":
        return table[table["lr"].isin(noisy["lr"]) & table["batch_size"].isin(noisy["batch_size"])]
    return table[table["label_noise"] == 0]


def first_at_loss(rows: "pd.DataFrame", level: float) -> float:
    """The first snapshot at which the mean loss over lengths is at a level or below; infinite if there is none."""
    loss = select(rows, metric="loss").groupby("step")["value"].mean()
    return float(min(loss.index[loss <= level], default=math.inf))


def least_loss(data: DataConfig, label_noise: float) -> float:
    """The loss on right labels, in nats, of a network that answers as the noisy labels are, which is the least that
    training on them leads to; the mean over lengths.

    >>> least_loss(DataConfig(max_length=4), 0.0)
    0.0
    """
    of_state = -math.log(1 - label_noise + label_noise / data.vocabulary.n_values)
    of_end = -math.log(1 - label_noise)  # which no value is
    n_states = [data.layout.n_states(length) for length in data.drawn_lengths]
    return sum((n * of_state + of_end) / (n + 1) for n in n_states) / len(n_states)


@torch.no_grad()
def neuron_scores(model: Model, data: DataConfig, task: Task, seed: int) -> Iterator[RunScore]:
    """Sparsity of each MLP's neurons at the scored rows of test strings, of lengths from `MIN_LENGTH` on if any is."""
    if model.config.attn_only:
        return
    sets = drawn_sets(data, task, N_STRINGS, model.device)
    long = [one for one in sets if one.length >= MIN_LENGTH] or sets
    for layer, parts in enumerate(zip(*(neuron_contributions(model, strings) for strings in long), strict=True)):
        value = float(sparsity_of_parts(torch.cat(parts)).mean())
        yield RunScore(measures.NEURON_SPARSITY, value, component=f"mlp{layer}")


def neuron_contributions(model: Model, strings: EvalSet) -> list[Float[Tensor, "row neuron"]]:
    """By layer, the length of what each neuron adds to the stream at each scored row: its activation times the length
    of its output."""
    from compo_mech.interventions.traces import trace

    run, scored = trace(model, strings.read, strings.position_ids), list(strings.layout.scored(strings.length))
    found = []
    for layer, (pre, mid) in enumerate(zip(run.resid_pre, run.resid_mid, strict=True)):
        active = blocks.neurons(model, layer, blocks.mlp_input(model, pre[:, scored], mid[:, scored]))
        found.append((active.abs() * blocks.neuron_outputs(model, layer).norm(dim=1)).flatten(0, 1))
    return found


def sparsity_of_parts(rows: Float[Tensor, "row part"]) -> Float[Tensor, "row"]:
    """How few parts make up a row of values from 0 on: 1 for one part, 0 for all alike, as `attention.sparsity`.

    The number of parts is their participation ratio; 1 where all are 0.

    Raises:
        NotFinite: a value is not finite.

    >>> sparsity_of_parts(torch.tensor([[0.0, 2.0, 0.0], [1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])).tolist()
    [1.0, 0.0, 0.5]
    """
    n = rows.shape[1]
    return ((n - participation_ratio(rows.mT)) / max(n - 1, 1)).clamp(max=1)
