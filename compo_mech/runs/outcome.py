"""The outcome of a run, as a sentence and a table by length and head."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from compo_mech.evaluation.attention import MIN_LENGTH, TEXTBOOK_SCORE, AttentionVerdict
from compo_mech.evaluation.table import CONTROL, measured, of_lengths, select
from compo_mech.model.finite import check_finite
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.files import shown
from compo_mech.runs.stacked_run import AnyRun, open_run
from compo_mech.stats import onset
from compo_mech.stats.intervals import on_its_side

if TYPE_CHECKING:
    import pandas as pd

ACCURACY_LEVEL = 0.99
POINTER_COLUMNS = {"iteration": "iteration", "pointer_sharp_rows": "sharp"}


@dataclass(frozen=True)
class HeadOutcome:
    """The head, of all layers, with the highest iteration score at the last checkpoint.

    Attributes:
        layer, head: which.
        score: its iteration score.
        control: that of the same head of the randomly initialised control; nan if it was not measured.
        verdict: on its pattern.
        since: the step from which on its score is that of a textbook head; None if at the end it is not.
        last: the last step.
    """

    layer: int
    head: int
    score: float
    control: float
    verdict: AttentionVerdict
    since: int | None
    last: int

    def __str__(self) -> str:
        name, score = f"L{self.layer}H{self.head}", on_its_side(self.score, TEXTBOOK_SCORE)
        known = "" if math.isnan(self.control) else f"; control {on_its_side(self.control, TEXTBOOK_SCORE)}"
        if self.verdict is AttentionVerdict.TEXTBOOK and self.control >= TEXTBOOK_SCORE:
            return (
                f"whether a head has learnt to attend as a textbook iteration head cannot be told: {name} does, with a "
                f"score of {score} ({TEXTBOOK_SCORE} needed{known}), and so does the control, which has learnt nothing"
            )
        if self.verdict is AttentionVerdict.TEXTBOOK:
            return (
                f"{name} attends as a textbook iteration head, with a score of {score} ({TEXTBOOK_SCORE} needed{known})"
                + _from_step(self.since, self.last)
            )
        return (
            f"no head attends as a textbook iteration head; {name} comes nearest, a {self.verdict} pattern with a "
            f"score of {score} ({TEXTBOOK_SCORE} needed{known})"
        )


@dataclass(frozen=True)
class AccuracyOutcome:
    """Accuracy at the worst length, generated freely.

    Attributes:
        final: at the last checkpoint.
        since: the step from which on it is at `ACCURACY_LEVEL`; None if at the end it is not.
        last: the last step.
    """

    final: float
    since: int | None
    last: int

    def __str__(self) -> str:
        final, level = on_its_side(self.final, ACCURACY_LEVEL, percent=True), f"{ACCURACY_LEVEL:.0%}"
        if self.since is None:
            return f"accuracy at the worst length ends at {final}, below {level}"
        return f"accuracy at the worst length ends at {final}, at {level} or more{_from_step(self.since, self.last)}"


def _from_step(since: int | None, last: int) -> str:
    """Say from which step on something holds."""
    return f" at the last checkpoint alone, step {last}" if since == last else f" from step {since} on"


def head_outcome(metrics: "pd.DataFrame", task: str) -> HeadOutcome | None:
    """Find the head that comes nearest to a textbook iteration head; None where no head is judged, without a chain of
    thought or with short strings only."""
    means = select(measured(metrics, task), split="mean").dropna(subset="head")
    scores = select(means, metric="iteration")
    verdicts = select(means, metric="verdict")
    if not len(scores) or not len(verdicts):
        return None
    last = int(scores["step"].max())
    at_last = _heads(select(scores, step=last))
    check_finite("iteration scores", torch.tensor([score for _, _, score in at_last]))
    layer, head, score = max(at_last, key=lambda row: row[2])
    curve = select(scores, layer=layer, head=head)
    control = select(metrics, task=task, split=CONTROL, metric="iteration", layer=layer, head=head)
    control = control.loc[control["length"].isna(), "value"].tolist()
    verdict = select(verdicts, step=last, layer=layer, head=head)["value"].item()
    since = onset.reached(curve["step"].tolist(), curve["value"].tolist(), TEXTBOOK_SCORE)
    return HeadOutcome(
        layer, head, score, control[0] if control else float("nan"), AttentionVerdict(int(verdict)), since, last
    )


def accuracy_outcome(metrics: "pd.DataFrame", task: str) -> AccuracyOutcome:
    """Find where accuracy at the worst length ends, and since when it is high."""
    by_step = select(measured(metrics, task), metric="generated_accuracy").groupby("step")["value"]
    accuracy = by_step.agg(lambda values: values.min(skipna=False))  # where one is NaN the worst is not known
    steps, values = accuracy.index.tolist(), accuracy.tolist()
    return AccuracyOutcome(values[-1], onset.reached(steps, values, ACCURACY_LEVEL), steps[-1])


def run_sentence(metrics: "pd.DataFrame", task: str, cause: str) -> str:
    """Return the outcome on one task: what its heads do, how they attend, and since when accuracy stays high.

    Args:
        metrics: rows of the run.
        task: one that is measured.
        cause: what its heads do, by intervention at the last checkpoint.
    """
    found = head_outcome(metrics, task)
    if found is None:
        found = f"no verdict on attention, which takes chain of thought and a length of {MIN_LENGTH} or more"
    return f"{task}: {cause}; {found}; {accuracy_outcome(metrics, task)}."


def _heads(rows: "pd.DataFrame") -> list[tuple[int, int, float]]:
    """Layer, head and value of rows that belong to heads."""
    return list(zip(rows["layer"].tolist(), rows["head"].tolist(), rows["value"].tolist(), strict=True))


def length_table(metrics: "pd.DataFrame", task: str) -> "pd.DataFrame":
    """Tabulate final figures by length; each head's score beside that of the randomly initialised control.

    Columns: split; accuracy generated and teacher-forced, grammar; then for each head its lookup
    (layer 0), or its iteration score and fraction of sharp rows (other layers, or a lone one; of layer 0
    also the head with the highest of all), the control's in brackets.
    """
    import pandas as pd

    of_task = measured(metrics, task)
    last = select(of_task, step=metrics["step"].max())
    last = last[last["length"].notna()]
    index = ["length", "layer", "head", "metric"]
    values = last[last["head"].notna()].set_index(index)["value"].to_dict()
    control = select(metrics, task=task, split=CONTROL).set_index(index)["value"].to_dict()
    heads = list(dict.fromkeys((layer, head) for layer, head, _ in _heads(last[last["head"].notna()])))
    several = any(layer > 0 for layer, _ in heads)
    nearest = head_outcome(metrics, task)
    rows = []
    for length in last["length"].unique():
        plain = select(last[last["head"].isna()], length=length)
        overall = plain.set_index("metric")["value"]
        row: dict[str, object] = {"length": length, "split": plain["split"].iloc[0]}
        row |= {"free": overall["generated_accuracy"], "forced": overall["accuracy"], "grammar": overall["grammar"]}
        for layer, head in heads:
            shown = POINTER_COLUMNS
            if layer == 0 and several:
                named = nearest is not None and (layer, head) == (nearest.layer, nearest.head)
                shown = {"lookup": "lookup"} | (POINTER_COLUMNS if named else {})
            for metric, column in shown.items():
                key = (length, layer, head, metric)
                known = f"{values[key]:.2f} [{control[key]:.2f}]" if key in values else "–"
                row[f"L{layer}H{head} {column}"] = known
        rows.append(row)
    return pd.DataFrame(rows)


def until(metrics: "pd.DataFrame", step: int | None) -> "pd.DataFrame":
    """Return the rows up to a step; None: all."""
    return metrics if step is None else metrics[metrics["step"] <= step]


def summary_or_failure(path: Path, step: int | None = None) -> dict[str, object]:
    """Summary of the run in a folder at a step, None: its last; of one that is damaged, what is wrong, as `failed`."""
    try:
        return run_summary(open_run(path), step)
    except RunError as error:
        return {"failed": str(error)}
    except (LookupError, ValueError):  # rows of an earlier version, which nothing vouches for
        return {"failed": f"{shown(path / 'metrics.csv')}: is damaged, it lacks rows"}


def run_summary(run: AnyRun, step: int | None = None) -> dict[str, object]:
    """Summary of a run on its first task: accuracy, the best head's scores, and the steps from which they hold.

    At an earlier step it is as if training had ended there.
    Where no head is scored, without a chain of thought or with short strings only: accuracy alone, and since when.
    """
    task = str(run.config.data.measured_tasks[0])
    metrics = until(run.metrics, step)
    rows = of_lengths(metrics, run.config.data.drawn_lengths)
    accuracy, best = accuracy_outcome(rows, task), head_outcome(rows, task)
    if best is None:
        return {"accuracy": accuracy.final, "accuracy from step": accuracy.since}
    control = select(metrics, task=task, split=CONTROL, metric="iteration")
    lookup = select(measured(rows, task), split="mean", metric="lookup", step=best.last).dropna(subset="head")
    return {
        "accuracy": accuracy.final,
        "head": f"L{best.layer}H{best.head}",
        "iteration": float(on_its_side(best.score, TEXTBOOK_SCORE, decimals=3)),
        "control": round(float(control[control["length"].isna()]["value"].max()), 3),
        "lookup": round(float(lookup["value"].max()), 3),
        "verdict": str(best.verdict),
        "accuracy from step": accuracy.since,
        "head from step": best.since,
    }
