"""What signals to a network that the string has ended, as scores of a run, and how often each answer comes."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, get_args

import torch

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.model.params import Model
from compo_mech.runs.stacked_run import AnyRun
from compo_mech.stats.intervals import wilson
from compo_mech.studies import measures
from compo_mech.studies.run_scores import run_scores
from compo_mech.studies.scores import RunScore, beside_control

if TYPE_CHECKING:
    import pandas as pd

KEPT = {
    measures.ACCURACY, measures.ITERATION, measures.LOOKUP, measures.TEXTBOOK, measures.END_ON_EOI
}  # fmt: skip


def last_row(run: AnyRun) -> list[RunScore]:
    """Some of `run_scores`, and what signals to the network that the string has ended."""
    kept = [score for score in run_scores(run) if score.measure in KEPT]
    return kept + beside_control(run, end_scores)


def end_scores(model: Model, data: DataConfig, task: Task, seed: int) -> Iterator[RunScore]:
    """The fractions of `end_row`, and for each verdict whether it is the network's."""
    from compo_mech.interventions.end_row import EndVerdict, end_row

    found = end_row(model, data, task, torch.Generator().manual_seed(seed))
    if found is None:
        return
    for signal, share in found.signals.items():
        if signal == "attention":
            yield RunScore(measures.END_BY_ATTENTION, share.mean)
        else:
            yield RunScore(measures.END_BY_OTHER, share.mean, statistic=signal)
    yield RunScore(measures.END_FOUND, found.end_found.mean, position="a state's row")
    yield RunScore(measures.END_FOUND, found.only_end_found.mean, position="the last row")
    for verdict in get_args(EndVerdict):
        yield RunScore(measures.END_VERDICT, float(found.verdict == verdict), statistic=verdict)
        if found.by_length:
            of_lengths = sum(own == verdict for own in found.by_length.values()) / len(found.by_length)
            yield RunScore(measures.END_OF_LENGTHS, of_lengths, statistic=verdict)


def end_verdicts(table: "pd.DataFrame") -> "pd.DataFrame":
    """Count the verdicts on the trained networks of each task that could be asked, with what attention is like in them.

    Args:
        table: of a study whose runs were asked `end_scores`; arms of one task are taken together.

    Returns:
        Columns task, end signalled by, n, of, fraction, low, high (Wilson), weight on EoI and iteration (medians).
    """
    import pandas as pd

    columns = ["task", "end signalled by", "n", "of", "fraction", "low", "high", "weight on EoI", "iteration"]
    table = pd.DataFrame(table[(table["network"] == "trained") & table["measure"].notna()])
    verdicts = table[table["measure"] == measures.END_VERDICT.name]
    if verdicts.empty:  # then the column of statistics need not be there
        return pd.DataFrame(columns=columns)
    rows = []
    for task, asked in verdicts.groupby("task", sort=False):
        scores = table[table["task"] == task].pivot_table(
            index=["arm", "seed"], columns="measure", values="value", aggfunc="first"
        )
        n = len(asked[["arm", "seed"]].drop_duplicates())
        for verdict, own in asked[asked["value"] == 1].groupby("statistic", sort=False):
            of_these = scores.loc[pd.MultiIndex.from_frame(own[["arm", "seed"]])]
            weight, iteration = (
                of_these[measure.name].median() if measure.name in of_these else math.nan
                for measure in (measures.END_ON_EOI, measures.ITERATION)
            )
            rows.append((task, verdict, len(own), n, *wilson(len(own), n), weight, iteration))
    return pd.DataFrame(rows, columns=columns).sort_values(["task", "n"], ascending=[True, False])
