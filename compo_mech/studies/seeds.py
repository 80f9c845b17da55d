"""One recipe over many seeds: how often, how soon and how cleanly the iteration head forms."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from compo_mech import attention, emergence, report
from compo_mech.attention import Verdict
from compo_mech.config import RunConfig
from compo_mech.evaluate import CONTROL, measured, select
from compo_mech.runs import Run
from compo_mech.settings import changed
from compo_mech.sweeps import How, sweep


def seed_runs(recipe: RunConfig, seeds: Sequence[int], how: How, console: Console) -> list[dict[str, object]]:
    """Train what is missing of the seeds: a row of the table each; one that failed has a row that says so."""
    name = "+".join(task.name for task in recipe.data.measured_tasks)
    runs = {f"{name}-seed{seed}": changed(recipe, {"seed": seed}) for seed in seeds}
    rows: list[dict[str, object]] = []
    for seed, (_, found) in zip(seeds, sweep(runs, how, console).iterrows(), strict=True):
        if found["state"] == "done":
            rows.append({"seed": seed, "run": found["path"], **outcome(Run.open(Path(str(found["path"]))))})
        else:
            rows.append({"seed": seed, "run": found["path"], "failed": found["error"] or found["state"]})
    return rows


def outcome(run: Run) -> dict[str, object]:
    """What a run came to, for its first task: accuracy, the best head's scores, and when.

    Where no head is scored, without a chain of thought or with short strings only: accuracy alone, and when.
    """
    task = str(run.config.data.measured_tasks[0])
    of_task = measured(run.metrics, task)
    control = select(run.metrics, task=task, split=CONTROL, metric="iteration")
    accuracy = select(of_task, metric="generated_accuracy").groupby("step")["value"].min()
    reached = emergence.reached(accuracy.index.tolist(), accuracy.tolist(), report.ACCURACY_LEVEL)
    means = select(of_task, split="mean").dropna(subset="head")
    if not len(select(means, metric="iteration")):
        return {"accuracy": float(accuracy.iloc[-1]), "accuracy from step": reached}
    final = select(means, step=means["step"].max())
    table = final.pivot(index=["layer", "head"], columns="metric", values="value")
    layer, head = max(table.index, key=lambda place: table["iteration"][place])
    curve = select(means, metric="iteration", layer=layer, head=head)
    return {
        "accuracy": float(accuracy.iloc[-1]),
        "head": f"L{layer}H{head}",
        "iteration": round(float(table["iteration"][layer, head]), 3),
        "fresh model": round(float(control[control["length"].isna()]["value"].max()), 3),
        "lookup": round(float(table["lookup"].max()), 3),
        "verdict": str(Verdict(int(table["verdict"][layer, head]))),
        "accuracy from step": reached,
        "head from step": emergence.reached(curve["step"].tolist(), curve["value"].tolist(), attention.TEXTBOOK_SCORE),
    }
