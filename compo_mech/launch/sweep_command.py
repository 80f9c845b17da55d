"""The command that trains a grid of settings, many seeds each, and tables what came of it."""

import sys
from pathlib import Path
from typing import Annotated

from rich.console import Console

from compo_mech.cli.command import Count, Positional, Ungrouped
from compo_mech.cli.errors import fail, one_line_errors
from compo_mech.cli.output import check_out, say, write_table
from compo_mech.cli.tables import print_table
from compo_mech.launch.grid import grid, read_axis
from compo_mech.launch.how import How
from compo_mech.launch.settings import dropped
from compo_mech.launch.sweep import sweep
from compo_mech.runs.outcome import summary_or_failure
from compo_mech.runs.recipes import RECIPES, RecipeName

HERE = How()


def sweep_command(
    recipe: Annotated[RecipeName, Positional],
    axes: Annotated[tuple[str, ...], Positional] = (),
    n_seeds: Count = 1,
    out: Path | None = None,
    how: Annotated[How, Ungrouped] = HERE,
) -> None:
    """Train every combination of AXES, each `setting=value,value`, and of seeds 0 .. n_seeds - 1; only what is missing.

    Args:
        recipe: all other settings.
        axes: what is varied.
        n_seeds: of each combination.
        out: the table, a .csv; None: sweep.csv in runs_dir. One that is there is replaced.
        how: where the runs are trained.
    """
    import pandas as pd

    console = Console()
    with one_line_errors(lambda: "the same command goes on"):
        file = out or how.runs_dir / "sweep.csv"
        if out is not None or how.runs_dir.is_dir():
            check_out(file, ".csv")
        settings = [read_axis(axis) for axis in axes] + [("seed", list(range(n_seeds)))]
        if len({name for name, _ in settings}) < len(settings):
            raise ValueError(f"axes = {' '.join(axes)}: must name each setting once, and not the seed")
        base = RECIPES[recipe]()
        runs = {f"{recipe},{name}": run for name, run in grid(base, dict(settings)).items()}
        for told in dict.fromkeys(dropped(base.data, run.data) for run in runs.values()):
            if told:
                print(told, file=sys.stderr)
        table = sweep(runs, how, console)
        came = [summary_or_failure(Path(str(row.path))) if row.state == "done" else {} for row in table.itertuples()]
        whole = table.join(pd.DataFrame(came, index=table.index))
        try:
            write_table(file, whole)
        finally:  # on a full disk the reasons are told here alone
            print_table(console, whole.drop(columns="path"))
    say(console, f"Table: {file}")
    if (table["state"] != "done").all():
        fail(f"runs = {len(table)}: none was trained to its end; the table says why")
