"""One recipe over many seeds: how often, how soon and how cleanly the iteration head forms."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console

from compo_mech.cli.command import Count, Positional, Ungrouped
from compo_mech.cli.errors import fail, one_line_errors
from compo_mech.cli.tables import print_table
from compo_mech.launch.how import How
from compo_mech.launch.sweep import sweep
from compo_mech.runs.config import RunConfig
from compo_mech.runs.outcome import summary_or_failure
from compo_mech.runs.recipes import RECIPES, RecipeName
from compo_mech.settings import changed
from compo_mech.stats.intervals import wilson

if TYPE_CHECKING:
    import pandas as pd

HERE = How()
NOT_JUDGED = "no head is judged"
"""Said of runs without a chain of thought or with short strings only."""


def seed_runs(recipe: RunConfig, seeds: Sequence[int], how: How, console: Console) -> list[dict[str, object]]:
    """Train what is missing of the seeds: a row of the table each; one that failed has a row that says so."""
    name = "+".join(task.name for task in recipe.data.measured_tasks)
    runs = {f"{name}-seed{seed}": changed(recipe, {"seed": seed}) for seed in seeds}
    rows: list[dict[str, object]] = []
    for seed, (_, found) in zip(seeds, sweep(runs, how, console).iterrows(), strict=True):
        if found["state"] == "done":
            rows.append({"seed": seed, "run": found["path"], **summary_or_failure(Path(str(found["path"])))})
        else:
            rows.append({"seed": seed, "run": found["path"], "failed": found["error"] or found["state"]})
    return rows


def verdict_shares(table: "pd.DataFrame") -> "pd.DataFrame":
    """How often each verdict on the best head comes, and failure, most often first, with Wilson's intervals."""
    import pandas as pd

    ends = table["verdict"].fillna(NOT_JUDGED) if "verdict" in table else pd.Series(NOT_JUDGED, table.index)
    if "failed" in table:
        ends = ends.where(table["failed"].isna(), "failed")
    rows = [(what, n, *wilson(n, len(table))) for what, n in ends.value_counts().items()]
    return pd.DataFrame(rows, columns=["verdict", "n", "fraction", "low", "high"])


def seeds_command(
    recipe: Annotated[RecipeName, Positional], n_seeds: Count = 10, how: Annotated[How, Ungrouped] = HERE
) -> None:
    """Train a recipe with seeds 0 .. n_seeds - 1 and print a table, failures included; what is trained is read.

    Args:
        recipe: by its name.
        n_seeds: how many.
        how: where and how they are trained.
    """
    import pandas as pd

    console = Console()
    with one_line_errors(lambda: "the same command goes on"):
        table = pd.DataFrame(seed_runs(RECIPES[recipe](), range(n_seeds), how, console))
    print_table(console, table)
    print_table(console, verdict_shares(table))
    if "failed" in table and table["failed"].notna().all():
        fail(f"runs = {len(table)}: none was trained to its end; the table says why")
