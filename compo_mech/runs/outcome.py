"""The outcome of a run, as a sentence and a table by length and head."""

from pathlib import Path

import pandas as pd

from compo_mech.evaluation import attention
from compo_mech.evaluation.attention import MIN_LENGTH, TEXTBOOK_SCORE, AttentionVerdict
from compo_mech.evaluation.table import CONTROL, measured, of_lengths, select
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.run import Run
from compo_mech.stats import onset

ACCURACY_LEVEL = 0.99
POINTER_COLUMNS = {"iteration": "iteration", "pointer_sharp_rows": "sharp"}


def run_sentence(metrics: pd.DataFrame, task: str) -> str:
    """Return the outcome on one task: the verdict on its heads, and the step from which accuracy stays high."""
    of_task = measured(metrics, task)
    last = of_task["step"].max()
    means = select(of_task, split="mean")
    verdicts = select(means, metric="verdict", step=last)
    pointers = verdicts[verdicts["layer"] > 0] if (verdicts["layer"] > 0).any() else verdicts
    if not len(pointers):
        found = f"{task}: no verdict on heads, which takes chain of thought and a length of {MIN_LENGTH} or more"
    else:
        final = select(means, metric="iteration", step=last).set_index(["layer", "head"])["value"]
        ranked = [(value, final[layer, head], layer, head) for layer, head, value in _heads(pointers)]
        value, score, layer, head = max(ranked)
        where = f"layer {layer} head {head}"
        if value == AttentionVerdict.TEXTBOOK:
            curve = select(means, metric="iteration", layer=layer, head=head)
            step = onset.reached(curve["step"].tolist(), curve["value"].tolist(), TEXTBOOK_SCORE)
            found = f"{task}: an iteration head formed in {where} by step {step} (score {score:.2f})"
        else:
            found = (
                f"{task}: no textbook iteration head; {where} comes nearest, a {AttentionVerdict(int(value))} "
                f"pattern with score {score:.2f}"
            )
    accuracy = select(of_task, metric="generated_accuracy").groupby("step")["value"].min()
    step = onset.reached(accuracy.index.tolist(), accuracy.tolist(), ACCURACY_LEVEL)
    if step is None:
        return f"{found}; accuracy did not reach 99% at every length (lowest at the end: {accuracy.iloc[-1]:.1%})."
    return f"{found}; accuracy reached 99% at every length at step {step}."


def _heads(rows: pd.DataFrame) -> list[tuple[int, int, float]]:
    """Layer, head and value of rows that belong to heads."""
    return list(zip(rows["layer"].tolist(), rows["head"].tolist(), rows["value"].tolist(), strict=True))


def length_table(metrics: pd.DataFrame, task: str) -> pd.DataFrame:
    """Tabulate final figures by length; each head's score beside that of the randomly initialised control.

    Columns: split; accuracy generated and teacher-forced, grammar; then for each head its lookup
    (layer 0), or its iteration score and fraction of sharp rows (other layers, or a lone one), the
    control's in brackets.
    """
    of_task = measured(metrics, task)
    last = select(of_task, step=metrics["step"].max())
    last = last[last["length"].notna()]
    index = ["length", "layer", "head", "metric"]
    values = last[last["head"].notna()].set_index(index)["value"].to_dict()
    control = select(metrics, task=task, split=CONTROL).set_index(index)["value"].to_dict()
    heads = list(dict.fromkeys((layer, head) for layer, head, _ in _heads(last[last["head"].notna()])))
    several = any(layer > 0 for layer, _ in heads)
    rows = []
    for length in last["length"].unique():
        plain = select(last[last["head"].isna()], length=length)
        overall = plain.set_index("metric")["value"]
        row: dict[str, object] = {"length": length, "split": plain["split"].iloc[0]}
        row |= {"free": overall["generated_accuracy"], "forced": overall["accuracy"], "grammar": overall["grammar"]}
        for layer, head in heads:
            shown = {"lookup": "lookup"} if layer == 0 and several else POINTER_COLUMNS
            for metric, column in shown.items():
                key = (length, layer, head, metric)
                known = f"{values[key]:.2f} [{control[key]:.2f}]" if key in values else "–"
                row[f"L{layer}H{head} {column}"] = known
        rows.append(row)
    return pd.DataFrame(rows)


def summary_or_failure(path: Path) -> dict[str, object]:
    """Summary of the run in a folder; of one that is damaged, what is wrong with it, as `failed`."""
    try:
        return run_summary(Run.open(path))
    except RunError as error:
        return {"failed": str(error)}
    except (LookupError, ValueError):  # rows of an earlier version, which nothing vouches for
        return {"failed": f"{path / 'metrics.csv'}: is damaged, it lacks rows"}


def run_summary(run: Run) -> dict[str, object]:
    """Summary of a run on its first task: accuracy, the best head's scores, and the steps at which they were reached.

    Where no head is scored, without a chain of thought or with short strings only: accuracy alone, and when.
    """
    task = str(run.config.data.measured_tasks[0])
    of_task = measured(of_lengths(run.metrics, run.config.data.drawn_lengths), task)
    control = select(run.metrics, task=task, split=CONTROL, metric="iteration")
    accuracy = select(of_task, metric="generated_accuracy").groupby("step")["value"].min()
    since = onset.reached(accuracy.index.tolist(), accuracy.tolist(), ACCURACY_LEVEL)
    means = select(of_task, split="mean").dropna(subset="head")
    if not len(select(means, metric="iteration")):
        return {"accuracy": float(accuracy.iloc[-1]), "accuracy from step": since}
    final = select(means, step=means["step"].max())
    table = final.pivot(index=["layer", "head"], columns="metric", values="value")
    layer, head = max(table.index, key=lambda key: table["iteration"][key])
    curve = select(means, metric="iteration", layer=layer, head=head)
    return {
        "accuracy": float(accuracy.iloc[-1]),
        "head": f"L{layer}H{head}",
        "iteration": round(float(table["iteration"][layer, head]), 3),
        "control": round(float(control[control["length"].isna()]["value"].max()), 3),
        "lookup": round(float(table["lookup"].max()), 3),
        "verdict": str(AttentionVerdict(int(table["verdict"][layer, head]))),
        "accuracy from step": since,
        "head from step": onset.reached(curve["step"].tolist(), curve["value"].tolist(), attention.TEXTBOOK_SCORE),
    }
