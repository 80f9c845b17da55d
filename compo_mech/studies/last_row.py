"""What signals to a network that the string has ended, as scores of a run, and how often each answer comes."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

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

    from compo_mech.interventions.end_row import EndSignal, EndVerdict

KEPT = {
    measures.ACCURACY, measures.ITERATION, measures.LOOKUP, measures.TEXTBOOK, measures.END_ON_EOI
}  # fmt: skip

SIGNALS: "Mapping[EndSignal, measures.Measure]" = {
    "attention": measures.END_BY_ATTENTION,
    "stream": measures.END_BY_STREAM,
    "both needed": measures.END_BY_BOTH,
    "either enough": measures.END_BY_EITHER,
}
OF_LENGTHS: "Mapping[EndVerdict, measures.Measure]" = {
    "attention": measures.LENGTHS_BY_ATTENTION,
    "stream": measures.LENGTHS_BY_STREAM,
    "mixed": measures.LENGTHS_MIXED,
}


def last_row(run: AnyRun) -> list[RunScore]:
    """Some of `run_scores`, and what signals to the network that the string has ended."""
    kept = [score for score in run_scores(run) if score.measure in KEPT]
    return kept + beside_control(run, end_scores)


def end_scores(model: Model, data: DataConfig, task: Task, seed: int) -> Iterator[RunScore]:
    """The fractions of `end_row`, of strings and of lengths; none where the network could not be asked."""
    from compo_mech.interventions.end_row import end_row

    found = end_row(model, data, task, torch.Generator().manual_seed(seed))
    if found is None:
        return
    for signal, measure in SIGNALS.items():
        yield RunScore(measure, found.signals[signal].mean)
    yield RunScore(measures.END_FOUND, found.end_found.mean, position="a state's row")
    yield RunScore(measures.END_FOUND, found.only_end_found.mean, position="the last row")
    if found.by_length:
        verdicts = list(found.by_length.values())
        for verdict, measure in OF_LENGTHS.items():
            yield RunScore(measure, verdicts.count(verdict) / len(verdicts))


def end_verdicts(table: "pd.DataFrame") -> "pd.DataFrame":
    """Count what signals the end in the trained networks of each arm and task that could be asked.

    Args:
        table: of a study whose runs were asked `end_scores`.

    Returns:
        Columns arm, task, end signalled by (what is in `MOST` of the strings; mixed: nothing is), n, of, fraction, low,
        high (Wilson), and medians of the weight on EoI and of the iteration score.
    """
    import pandas as pd

    from compo_mech.interventions.end_row import MOST

    columns = ["arm", "task", "end signalled by", "n", "of", "fraction", "low", "high", "weight on EoI", "iteration"]
    wanted = {*SIGNALS.values(), measures.END_ON_EOI, measures.ITERATION}
    own = table[(table["network"] == "trained") & table["measure"].isin({measure.name for measure in wanted})]
    scores = own.pivot_table(index=["arm", "task", "seed"], columns="measure", values="value", sort=False)
    scores = scores.reindex(columns=[measure.name for measure in wanted]).dropna(subset=[SIGNALS["attention"].name])
    rows = []
    for (arm, task), asked in scores.groupby(["arm", "task"], sort=False):
        signals = asked[[measure.name for measure in SIGNALS.values()]].set_axis(list(SIGNALS), axis=1)
        verdicts = signals.idxmax(axis=1).where(signals.max(axis=1) >= MOST, "mixed")
        for verdict, n in verdicts.value_counts().items():
            of_these = asked[verdicts == verdict].median()
            medians = [of_these[measure.name] for measure in (measures.END_ON_EOI, measures.ITERATION)]
            rows.append((arm, task, verdict, n, len(asked), *wilson(int(n), len(asked)), *medians))
    return pd.DataFrame(rows, columns=columns)
