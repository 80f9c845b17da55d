"""One recipe over many seeds: how often, how soon and how cleanly the iteration head forms."""

import concurrent.futures
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from compo_mech import attention, emergence, launch, report
from compo_mech.attention import Verdict
from compo_mech.config import RunConfig
from compo_mech.evaluate import CONTROL, measured, select
from compo_mech.runs import Run


def seed_runs(recipe: RunConfig, seeds: Sequence[int], runs_dir: Path, n_workers: int) -> Iterator[dict[str, object]]:
    """Train the seeds in processes of their own, and give each one's row of the table as it ends.

    A seed that has been trained is read from its run; one that was interrupted goes on; one that
    fails gets a row that says so, and the others go on.
    """
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(n_workers, spawn) as pool:
        jobs = {pool.submit(_train, recipe, seed, runs_dir): seed for seed in seeds}
        for job in concurrent.futures.as_completed(jobs):
            try:
                path, seconds = job.result()
                yield {"seed": jobs[job], **outcome(Run.open(path)), "seconds": round(seconds)}
            except Exception as error:
                yield {"seed": jobs[job], "failed": f"{type(error).__name__}: {error}"}


def _train(recipe: RunConfig, seed: int, runs_dir: Path) -> tuple[Path, float]:
    settings: dict[str, Any] = {name: getattr(recipe, name) for name in RunConfig.model_fields} | {"seed": seed}
    started = launch.Launch(**settings, runs_dir=runs_dir)
    resume = (started.path / "config.json").exists() and bool(Run.open(started.path).steps)
    begun = time.perf_counter()
    how = started.model_copy(update={"resume": resume, "overwrite": not resume})
    run = launch.launch(how, Console(quiet=True))
    return run.path, time.perf_counter() - begun


def outcome(run: Run) -> dict[str, object]:
    """What a run came to, for its first task: accuracy, the best head's scores, and when."""
    task = str(run.config.data.measured_tasks[0])
    of_task = measured(run.metrics, task)
    control = select(run.metrics, task=task, split=CONTROL, metric="iteration")
    accuracy = select(of_task, metric="generated_accuracy").groupby("step")["value"].min()
    means = select(of_task, split="mean").dropna(subset="head")
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
        "accuracy from step": emergence.reached(accuracy.index.tolist(), accuracy.tolist(), report.ACCURACY_LEVEL),
        "head from step": emergence.reached(curve["step"].tolist(), curve["value"].tolist(), attention.TEXTBOOK_SCORE),
    }
