"""One recipe over many seeds: how often, how soon and how cleanly the iteration head forms."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from compo_mech.launch.sweep import How, sweep
from compo_mech.runs.config import RunConfig
from compo_mech.runs.outcome import run_summary
from compo_mech.runs.run import Run
from compo_mech.settings import changed


def seed_runs(recipe: RunConfig, seeds: Sequence[int], how: How, console: Console) -> list[dict[str, object]]:
    """Train what is missing of the seeds: a row of the table each; one that failed has a row that says so."""
    name = "+".join(task.name for task in recipe.data.measured_tasks)
    runs = {f"{name}-seed{seed}": changed(recipe, {"seed": seed}) for seed in seeds}
    rows: list[dict[str, object]] = []
    for seed, (_, found) in zip(seeds, sweep(runs, how, console).iterrows(), strict=True):
        if found["state"] == "done":
            rows.append({"seed": seed, "run": found["path"], **run_summary(Run.open(Path(str(found["path"]))))})
        else:
            rows.append({"seed": seed, "run": found["path"], "failed": found["error"] or found["state"]})
    return rows
