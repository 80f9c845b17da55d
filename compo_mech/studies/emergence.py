"""In which order the components of the circuit come, over many seeds; do the maps get cleaner once accuracy is flat?

Hypothesis: the iteration head's attention and the cost of ablating it come before accuracy, the lookup after it; with
accuracy flat, longer training goes on cleaning the maps. Primary measures: the lag from each component's midpoint to
accuracy's, and the mean change of the iteration score from the step on from which accuracy stays at 99%.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console

from compo_mech.analyses.emergence import after_accuracy, component_emergence
from compo_mech.analyses.watch import ExtraMeasure, watch
from compo_mech.cli.errors import one_line_errors
from compo_mech.cli.output import check_out, say, warn, write_table
from compo_mech.cli.progress import counting
from compo_mech.cli.tables import print_table
from compo_mech.launch.how import How
from compo_mech.parallel import each
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.config import RunConfig
from compo_mech.runs.names import distinct, once, opened
from compo_mech.runs.run import Run
from compo_mech.stats.onset import MIN_SEEDS, Moment
from compo_mech.stats.over_seeds import Lag, lag, survival
from compo_mech.stats.trend import rising_over_seeds
from compo_mech.studies.seeds import seed_runs

if TYPE_CHECKING:
    import pandas as pd

REFERENCE = "accuracy"
"""The component that all others are compared with."""

SLOW_EVERY = 4
"""Routes, and what is asked besides, are asked of each n-th checkpoint only."""


def main(
    paths: Sequence[Path], out: Path, n_workers: int, seed: int, more: Mapping[str, ExtraMeasure] | None = None
) -> None:
    """Watch runs and write the tables OUT.csv (components of each run), OUT-rises.csv, OUT-order.csv, OUT-verdict.csv.

    Exits with code 2 and one line on bad input.

    Args:
        paths: folders of runs.
        out: where the tables go, without their ending.
        n_workers: runs that are watched at a time, each by a process.
        seed: of all that is drawn.
        more: what else to ask, see `watch`.
    """
    console = Console()
    with one_line_errors(lambda: "the same command goes on"):
        check_tables(out)
        runs, unread = opened(once(paths))
        if unread and not runs:
            raise RunError(unread[0])
        components, rises, failed = watched(runs, n_workers, seed, console, more)
        failed = unread + failed
        for message in failed:
            warn(console, message)
        if not len(components):
            raise ValueError("runs = none: must hold at least one that can be watched")
        tables = (components, rises, order(components, seed), verdicts(rises))
        for name, table in zip(TABLES, tables, strict=True):
            write_table(out.with_name(f"{out.name}{name}.csv"), table, float_format="%.6g")
            if name in ("-order", "-verdict"):
                print_table(console, table)
        written = ", ".join(str(out.with_name(f"{out.name}{name}.csv")) for name in TABLES)
        say(console, f"{len(runs) + len(unread)} runs, {len(failed)} of them failed. Tables: {written}")


TABLES = ("", "-rises", "-order", "-verdict")
"""What the tables' names end in: components of each run, changes after accuracy, their order, the verdicts."""


def check_tables(out: Path) -> None:
    """Before anything is computed: whether all tables can be written.

    Raises:
        ValueError: they cannot.
    """
    for name in TABLES:
        check_out(out.with_name(f"{out.name}{name}.csv"), ".csv")


def train_seeds(recipe: RunConfig, n_seeds: int, how: How, console: Console) -> list[Path]:
    """Train what is missing of seeds 0 .. n_seeds - 1; folders of those that were trained to their end."""
    rows = seed_runs(recipe, range(n_seeds), how, console)
    for row in rows:
        if "failed" in row:
            warn(console, f"{row['run']}: {row['failed']}")
    return [Path(str(row["run"])) for row in rows if "failed" not in row]


def watched(
    runs: Sequence[Run], n_workers: int, seed: int, console: Console, more: Mapping[str, ExtraMeasure] | None = None
) -> "tuple[pd.DataFrame, pd.DataFrame, list[str]]":
    """Find when each component came in every run and how the maps changed with accuracy flat; a line for each run that
    failed."""
    import pandas as pd

    found: dict[int, tuple[pd.DataFrame, pd.DataFrame]] = {}
    failed = []
    with counting(console) as bar:
        shown = bar.add_task("runs watched", total=len(runs))
        for i, came in each(partial(_watch, seed=seed, more=more or {}), runs, n_workers):
            if isinstance(came, Exception):  # one run must not stop the others; it is reported and counted
                failed.append(f"{runs[i].path}: {type(came).__name__}: {came}")
            else:
                found[i] = came
            bar.advance(shown)
    tables, names = [], distinct([run.path for run in runs])
    for which in (0, 1):
        named = []
        for i, pair in sorted(found.items()):
            run, table = runs[i], pair[which]
            if len(table):
                table.insert(1, "seed", run.config.seed)
                table.insert(2, "run", names[i])
            named.append(table)
        tables.append(pd.concat(named, ignore_index=True) if named else pd.DataFrame())
    return tables[0], tables[1], failed


def _watch(run: Run, seed: int, more: Mapping[str, ExtraMeasure]) -> "tuple[pd.DataFrame, pd.DataFrame]":
    import pandas as pd

    every, tables = dict.fromkeys(("route_scores", *more), SLOW_EVERY), ([], [])
    for task in run.config.data.measured_tasks:
        found = watch(run, task, seed=seed, every=every, more=more)
        components = component_emergence(found, torch.Generator().manual_seed(seed))
        for rows, table in zip(tables, (components, after_accuracy(found).changes), strict=True):
            if len(table):
                table.insert(0, "task", str(task))
            rows.append(table)
    return pd.concat(tables[0], ignore_index=True), pd.concat(tables[1], ignore_index=True)


def order(components: "pd.DataFrame", seed: int) -> "pd.DataFrame":
    """Find when each component is half way over runs, and how many steps before accuracy: a row a task and component.

    Runs in which it is not dated are left out; where they are half of all or more, what is left would be a choice of
    late ones, and there is no median, no lag and no fraction.

    Returns:
        Columns task, component, n_runs (all), n_undated (left out), n_censored, median_step, low, high, lag, lag_low,
        lag_high (median of accuracy's midpoint less this one's: above 0 is before accuracy), before, before_low,
        before_high (fraction of runs in which it came first), n_unordered.
    """
    import pandas as pd

    rows = []
    for task, of_task in components.groupby("task", sort=False):
        reference = of_task[of_task["component"] == REFERENCE].set_index("run")["midpoint"].dropna()
        for component, own in of_task.groupby("component", sort=False):
            n_runs = len(own)
            row: dict[str, object] = {"task": task, "component": component, "n_runs": n_runs}
            row["n_undated"] = int(own["midpoint"].isna().sum())
            row["n_censored"] = int((own["midpoint"] == math.inf).sum())
            own = own.dropna(subset="midpoint").set_index("run")
            if len(own) >= MIN_SEEDS and 2 * len(own) > n_runs:
                row |= _moment(survival(own["midpoint"].tolist(), own["last_step"].tolist()).median)
                both = own.index.intersection(reference.index)
                if component != REFERENCE and len(both) >= MIN_SEEDS:
                    generator = torch.Generator().manual_seed(seed)
                    row |= _lag(lag(own.loc[both, "midpoint"].tolist(), reference[both].tolist(), generator))
            rows.append(row)
    table = pd.DataFrame(rows)
    return table.sort_values(["task", "median_step"], kind="stable") if "median_step" in table else table


def _moment(moment: Moment) -> dict[str, object]:
    return {"median_step": moment.step, "low": moment.low, "high": moment.high}


def _lag(found: Lag) -> dict[str, object]:
    row: dict[str, object] = {}
    if found.median is not None:
        row |= dict(zip(("lag", "lag_low", "lag_high"), found.median, strict=True))
    if found.before is not None:
        row |= dict(zip(("before", "before_low", "before_high"), found.before, strict=True))
    return row | {"n_unordered": found.n_unordered}


def verdicts(rises: "pd.DataFrame") -> "pd.DataFrame":
    """Does each measure go on changing once accuracy is flat? Over the runs in which it is flat for long enough.

    Returns:
        Columns task, measure, n_runs, at_since, final (means over runs), change, low, high (mean of the runs' straight
        lines with its 95% interval), verdict (does it rise: yes, no, undecided), n_up (runs whose own interval is above
        0), n_down.
    """
    import pandas as pd

    rows = []
    for (task, measure), own in rises.groupby(["task", "measure"], sort=False) if len(rises) else ():
        of_runs = own.groupby("run")[["at_since", "final", "total", "low", "high", "slope"]].mean()
        row: dict[str, object] = {"task": task, "measure": measure, "n_runs": len(of_runs)}
        row |= {"at_since": of_runs["at_since"].mean(), "final": of_runs["final"].mean()}
        if len(of_runs) >= MIN_SEEDS:
            over = rising_over_seeds(of_runs["total"].tolist())
            row |= dict(zip(("change", "low", "high"), over.mean, strict=True)) | {"verdict": over.verdict}
        rows.append(row | {"n_up": int((of_runs["low"] > 0).sum()), "n_down": int((of_runs["high"] < 0).sum())})
    return pd.DataFrame(rows)
