"""What came of a run, read off its rows: accuracy, when it came, and how clean the heads are at the end."""

import math
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from compo_mech.evaluation import attention
from compo_mech.evaluation.table import CONTROL, TRAIN, measured, of_lengths, select
from compo_mech.runs.outcome import ACCURACY_LEVEL
from compo_mech.runs.stacked_run import AnyRun
from compo_mech.stats import onset
from compo_mech.studies import measures
from compo_mech.studies.measures import Measure
from compo_mech.studies.scores import Network, RunScore

if TYPE_CHECKING:
    import pandas as pd


def run_scores(run: AnyRun) -> list[RunScore]:
    """Accuracy of each of a run's tasks, when it came, and the scores of its heads beside those of the control.

    A time to event is infinite where it is censored.
    """
    import pandas as pd

    scores: list[RunScore] = []
    for task in map(str, run.config.data.measured_tasks):
        of_task = measured(of_lengths(run.metrics, run.config.data.drawn_lengths), task)
        scores += [score._replace(task=task) for score in _accuracy(of_task)]
        known = select(run.metrics, split=TRAIN, task=task, metric="accuracy").groupby("step")["value"].min()
        if len(known):
            first = first_step(known, ACCURACY_LEVEL)
            scores.append(RunScore(measures.TRAINING_ACCURACY, float(known.iloc[-1]), task))
            scores.append(RunScore(measures.FIRST_TRAINING_STEP_AT_99, first, task))
        means = select(of_task, split="mean").dropna(subset="head")
        control = select(run.metrics, task=task, split=CONTROL).dropna(subset="head")
        final, control = select(means, step=means["step"].max()), pd.DataFrame(control[control["length"].isna()])
        networks: tuple[tuple[Network, pd.DataFrame], ...] = (("trained", final), ("control", control))
        for network, rows in networks:
            scores += [score._replace(task=task, network=network) for score in head_scores(rows)]
    return scores


MAIN = {
    measures.ACCURACY, measures.FIRST_STEP_AT_99, measures.ITERATION, measures.LOOKUP, measures.TEXTBOOK
}  # fmt: skip


def main_scores(run: AnyRun, also: Collection[Measure] = ()) -> list[RunScore]:
    """Those of `run_scores` that say whether, how soon and by what kind of head a task is learnt, for many seeds; and
    those of the measures that are wanted `also`."""
    return [score for score in run_scores(run) if score.measure in MAIN or score.measure in also]


def cleanliness_scores(run: AnyRun) -> list[RunScore]:
    """`main_scores`, and the entropy of the head with the highest lookup score, of the network and of its control."""
    scores = main_scores(run)
    for task in map(str, run.config.data.measured_tasks):
        of_task = select(run.metrics, task=task).dropna(subset="head")
        means = select(of_task, split="mean")
        control = select(of_task, split=CONTROL)
        networks: tuple[tuple[Network, pd.DataFrame], ...] = (
            ("trained", select(means, step=means["step"].max())), ("control", control[control["length"].isna()]),
        )  # fmt: skip
        for network, rows in networks:
            heads = by_head(rows)
            if "lookup" in heads:
                value = float(heads.iloc[int(heads["lookup"].argmax())]["entropy"])
                scores.append(RunScore(measures.ENTROPY, value, task, network, component="lookup head"))
    return scores


def _accuracy(of_task: "pd.DataFrame") -> Iterator[RunScore]:
    accuracy = select(of_task, metric="generated_accuracy")
    worst = accuracy.groupby("step")["value"].min()
    longest = select(accuracy, length=accuracy["length"].max(), step=accuracy["step"].max())["value"]
    since = onset.reached(worst.index.tolist(), worst.tolist(), ACCURACY_LEVEL)
    yield RunScore(measures.ACCURACY, float(worst.iloc[-1]))
    yield RunScore(measures.ACCURACY_AT_LONGEST, float(longest.iloc[0]))
    yield RunScore(measures.SOLVED, float(worst.iloc[-1] >= ACCURACY_LEVEL))
    yield RunScore(measures.STEPS_TO_99, math.inf if since is None else float(since))
    yield RunScore(measures.FIRST_STEP_AT_95, first_step(worst, 0.95))
    yield RunScore(measures.FIRST_STEP_AT_99, first_step(worst, ACCURACY_LEVEL))


def first_step(curve: "pd.Series", level: float) -> float:
    """The first step at which a curve is at a level; infinite if there is none."""
    return float(min(curve.index[curve >= level], default=math.inf))


def by_head(rows: "pd.DataFrame") -> "pd.DataFrame":
    """A row a head, a column a metric, from long rows of one step and length."""
    return rows.pivot(index=["layer", "head"], columns="metric", values="value")


def head_scores(rows: "pd.DataFrame") -> Iterator[RunScore]:
    """Scores of the head with the highest iteration score, and the highest lookup score of any; of one step's rows."""
    table = by_head(rows)
    if "iteration" not in table:
        return
    best = table.iloc[int(table["iteration"].argmax())]
    yield RunScore(measures.ITERATION, float(best["iteration"]))
    if "lookup" in table:
        yield RunScore(measures.LOOKUP, float(table["lookup"].max()))
    yield RunScore(measures.TEXTBOOK, float(best["iteration"] >= attention.TEXTBOOK_SCORE))
    for measure in measures.HEAD_METRICS:
        if measure.name in table:
            yield RunScore(measure, float(best[measure.name]))
