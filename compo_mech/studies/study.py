"""What every study shares: arms that differ in a setting, seeds, a tidy table, what each arm came to beside another.

A study says what it expects, by which measure it judges and over how many seeds, before it runs.
"""

import math
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pydantic import Field
from rich.console import Console
from scipy.special import stdtrit
from scipy.stats import binom

from compo_mech import command_line
from compo_mech.config import RunConfig
from compo_mech.metrics import wilson
from compo_mech.processes import each
from compo_mech.runs import Run
from compo_mech.settings import changed
from compo_mech.studies.measures import Score
from compo_mech.sweeps import How, sweep
from compo_mech.telling import complaints, counting

MEASURING = {"n_test_strings": 64, "train.snapshot_every": 100}
"""How the runs of most studies are measured: a quarter of the test strings of a run by hand, twice as often."""

SHORT = MEASURING | {"data.max_length": 8, "train.n_steps": 1600}
"""Lengths 1 to 8, which parity is learnt at in about a thousand steps."""

QUICK = {"train.n_steps": 20, "train.snapshot_every": 20, "n_test_strings": 16}
N_QUICK_SEEDS = 2

SHARES = ("solved", "textbook", "an iteration head", "table", "rule")
"""Measures that are 0 or 1 for a run; over seeds they are shares."""

WAITS = ("steps to 99%", "first step at 99%", "first step at 95%", "first step at 99%, training")
"""Measures that are infinite where what they wait for did not come; over seeds they are medians of such waits."""


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        config: its settings; the seed is the study's to set.
        start: the arm whose run of the same seed its weights start from; None: fresh ones.
        factors: columns of the table that tell arms apart, where arms are a grid.
    """

    config: RunConfig
    start: str | None = None
    factors: Mapping[str, Any] = field(default_factory=dict)


Measure = Callable[[Run], Sequence[Score]]
"""Scores of a run; a function of a module, since processes ask it."""


@dataclass(frozen=True)
class Study:
    """A question and how it is put.

    Attributes:
        name: of its folder of runs and of its table.
        question: that it answers.
        hypothesis: what is expected.
        primary: the measure that decides.
        arms: by name; an arm that another starts from stands before it.
        measure: what is asked of each run when it is trained.
        n_seeds: 0 .. n - 1 of each arm.
        reference: the arm that the others are compared with, seed by seed; None: none.
    """

    name: str
    question: str
    hypothesis: str
    primary: str
    arms: Mapping[str, Arm]
    measure: Measure
    n_seeds: int = 5
    reference: str | None = None

    def quick(self) -> "Study":
        """The same in a minute: arms of `QUICK` steps, two seeds. Its figures mean nothing."""
        arms = {name: replace(arm, config=changed(arm.config, QUICK)) for name, arm in self.arms.items()}
        return replace(self, arms=arms, n_seeds=N_QUICK_SEEDS)


class Options(How):
    """How a study is run."""

    n_seeds: int | None = Field(default=None, gt=0, description="seeds of each arm; None: the study's number")
    out: Path | None = Field(default=None, description="the table; None: NAME.csv in runs_dir")
    quick: bool = Field(
        default=False, description="twenty steps and two seeds, in a folder quick of runs_dir, to see that it runs"
    )


def main(
    study: Study,
    more: Callable[[pd.DataFrame], Mapping[str, pd.DataFrame]] | None = None,
    argv: Sequence[str] | None = None,
) -> None:
    """What a study's script runs: trains what is missing, measures, writes the table, tells what it came to.

    Exits with code 2 and one line on bad input, and with code 1 where all runs failed.

    Args:
        study: to run.
        more: further tables that its own table comes to, by what they are called, to be told.
        argv: None: the process' arguments.
    """
    settings = command_line.read(Options(runs_dir=Path("runs") / study.name), argv, study.question)
    torch.set_num_threads(1)
    console = Console()
    if settings.quick:
        study, settings = study.quick(), changed(settings, {"runs_dir": settings.runs_dir / "quick"})
    n_seeds = settings.n_seeds or study.n_seeds
    out = settings.out or settings.runs_dir / f"{study.name}.csv"
    with complaints():
        if out.suffix != ".csv":
            raise ValueError(f"out = {out}: must end in .csv")
        if settings.out is not None and not out.parent.is_dir():
            raise ValueError(f"out = {out}: must be in a folder that exists")
        for what, told in (
            ("Question", study.question),
            ("Hypothesis", study.hypothesis),
            ("Primary measure", f"{study.primary}, over {n_seeds} seeds of {len(study.arms)} arms"),
        ):
            console.print(f"{what}: {told}", highlight=False, soft_wrap=True)
        try:
            table = run_study(study, range(n_seeds), settings, console)
        except KeyboardInterrupt:
            print("interrupted; the same command goes on", file=sys.stderr)
            sys.exit(130)
        part = out.with_name(f".{out.name}.part")
        table.to_csv(part, index=False, float_format="%.6g")
        part.replace(out)
    for title, shown in {study.primary: summary(table, study), **(more(table) if more else {})}.items():
        console.print(f"\n{title}", highlight=False)
        console.print(shown.to_string(index=False, float_format=lambda v: f"{v:.3g}"), highlight=False, soft_wrap=True)
    failed = table[table["measure"] == "failed"]
    n_runs = n_seeds * len(study.arms)
    console.print(f"{len(failed)} of {n_runs} runs failed. Table: {out}", highlight=False, soft_wrap=True)
    if len(failed) == n_runs:
        sys.exit(1)


def run_study(study: Study, seeds: Sequence[int], how: How, console: Console) -> pd.DataFrame:
    """Train what is missing and measure every run.

    Returns:
        A row a run, task and measure: study, arm, the arms' factors, seed, task, measure, value. A run that failed has
        the one measure `failed`, whose task holds the error.
    """
    paths: dict[tuple[str, int], Path] = {}
    errors: dict[tuple[str, int], str] = {}
    for arms in _generations(study.arms):
        runs: dict[str, RunConfig] = {}
        places = {}
        for name in arms:
            for seed in seeds:
                arm = study.arms[name]
                changes: dict[str, Any] = {"seed": seed}
                if arm.start is not None:
                    if (arm.start, seed) not in paths:
                        errors[name, seed] = f"its start failed: {arm.start}, seed {seed}"
                        continue
                    changes["start_from"] = paths[arm.start, seed]
                folder = f"{name.replace(' ', '-').replace('/', '-')}-seed{seed}"
                if folder in runs:
                    raise ValueError(f"arms = {name}: goes into the folder of another arm, {folder}")
                runs[folder], places[folder] = changed(arm.config, changes), (name, seed)
        for _, row in sweep(runs, how, console).iterrows():
            place = places[str(row["run"])]
            if row["state"] == "done":
                paths[place] = Path(str(row["path"]))
            else:
                error = str(row["error"]) or str(row["state"])
                errors[place] = error.replace(f"{how.runs_dir}/", "")  # a table goes to where that folder is not
    found, failed = _measured(study.measure, paths, how, console)
    rows = []
    for name, arm in study.arms.items():
        for seed in seeds:
            place = {"study": study.name, "arm": name, **arm.factors, "seed": seed}
            error = errors.get((name, seed)) or failed.get((name, seed))
            if error is not None:
                rows.append({**place, "task": error, "measure": "failed", "value": 1.0})
            for task, measure, value in found.get((name, seed), ()):
                rows.append({**place, "task": task, "measure": measure, "value": value})
    return pd.DataFrame(rows)


def _generations(arms: Mapping[str, Arm]) -> Iterator[list[str]]:
    """Names of arms in turn: each starts from those of an earlier turn."""
    left, known = dict(arms), set()
    while left:
        ready = [name for name, arm in left.items() if arm.start is None or arm.start in known]
        if not ready:
            raise ValueError(f"arms = {', '.join(left)}: start from no other arm that there is")
        yield ready
        known |= set(ready)
        left = {name: arm for name, arm in left.items() if name not in known}


Place = tuple[str, int]


def _measured(
    measure: Measure, paths: Mapping[Place, Path], how: How, console: Console
) -> tuple[dict[Place, Sequence[Score]], dict[Place, str]]:
    """What each run scores, and errors of those that could not be measured; by processes, unless all is done here."""
    found: dict[Place, Sequence[Score]] = {}
    failed: dict[Place, str] = {}
    places = list(paths)
    ask = partial(_ask, measure)
    results = _one_by_one(ask, list(paths.values())) if how.on == "here" else each(
        ask, list(paths.values()), how.n_workers
    )  # fmt: skip
    with counting(console) as bar:
        shown = bar.add_task("runs measured", total=len(paths))
        for i, result in results:
            if isinstance(result, Exception):  # one run must not stop the others; it is told and counted
                failed[places[i]] = f"{type(result).__name__}: {result}"
            else:
                found[places[i]] = result
            bar.advance(shown)
    return found, failed


def _one_by_one(
    ask: Callable[[Path], Sequence[Score]], paths: Sequence[Path]
) -> Iterator[tuple[int, Sequence[Score] | Exception]]:
    for i, path in enumerate(paths):
        try:
            yield i, ask(path)
        except Exception as error:
            yield i, error


def _ask(measure: Measure, path: Path) -> Sequence[Score]:
    return measure(Run.open(path))


# ------------------------------------------------------------------------------------- verdict


def over_seeds(measure: str, values: Sequence[float]) -> tuple[float, float, float]:
    """A measure over seeds with its 95% interval.

    A share with Wilson's interval; the median of waits, those that did not end counted as longer than all, with the
    order statistics that hold it (of fewer than six the lowest and the highest: for five, 94%); the mean with Student's
    interval otherwise, which takes two seeds at least (nan: no interval), or, where one is infinite, the median.

    Args:
        measure: its name.
        values: one a seed.
    """
    n, ordered = len(values), sorted(values)
    if measure in SHARES:
        return wilson(int(sum(values)), n)
    if measure in WAITS:
        aside = max(0, int(binom.ppf(0.025, n, 0.5)) - 1)
        return statistics.median_low(ordered), ordered[aside], ordered[n - 1 - aside]
    if ordered[-1] == math.inf:
        return statistics.median_low(ordered), math.nan, math.nan
    mean = statistics.fmean(values)
    if n < 2:
        return mean, math.nan, math.nan
    half = float(stdtrit(n - 1, 0.975)) * statistics.stdev(values) / math.sqrt(n)
    return mean, mean - half, mean + half


def summary(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The primary measure of every arm and task, and beside it by how much it differs from the reference arm.

    A run that failed counts as one that never came there, and as not solved; from a mean it is left out.

    Returns:
        Columns arm, task, n (runs that count), n_failed, the primary measure, low, high; with a reference: difference,
        d_low, d_high, over seeds of two runs of one seed each: the mean with Student's interval, or of waits the median
        with its lowest and highest (which for five seeds is an interval of 94%; two that never came do not differ).
    """
    measure, rows = study.primary, []
    of_arms = {
        (str(arm), task): own for (arm, task), own in _with_failed(table, study).groupby(["arm", "task"], sort=False)
    }
    for (arm, task), own in of_arms.items():
        values = own["value"].dropna()
        row: dict[str, object] = {"arm": arm, "task": task, "n": len(values), "n_failed": int(own["failed"].sum())}
        if len(values):
            row |= dict(zip((measure, "low", "high"), over_seeds(measure, values.tolist()), strict=True))
        if study.reference is not None and arm != study.reference and (study.reference, task) in of_arms:
            other = of_arms[study.reference, task].set_index("seed")["value"]
            both = pd.concat([own.set_index("seed")["value"], other], axis=1).dropna().to_numpy().tolist()
            pairs = [0.0 if one == two else one - two for one, two in both]
            if measure in WAITS and pairs:
                row |= {"difference": statistics.median(pairs), "d_low": min(pairs), "d_high": max(pairs)}
            elif len(pairs) >= 2:
                difference = over_seeds("difference", pairs)
                row |= dict(zip(("difference", "d_low", "d_high"), difference, strict=True))
        rows.append(row)
    return pd.DataFrame(rows)


def _with_failed(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The rows of the primary measure, with one for each run that failed: infinite, 0 or nan, as befits it."""
    own = table[table["measure"] == study.primary].assign(failed=False)
    stand_in = math.inf if study.primary in WAITS else 0.0 if study.primary in SHARES else math.nan
    lost = [
        {"arm": row["arm"], "seed": row["seed"], "task": str(task), "value": stand_in, "failed": True}
        for row in table[table["measure"] == "failed"].to_dict("records")
        for task in study.arms[str(row["arm"])].config.data.measured_tasks
    ]
    whole = pd.concat([own, pd.DataFrame(lost)], ignore_index=True) if lost else own
    order = {arm: i for i, arm in enumerate(study.arms)}
    return whole.sort_values("arm", key=lambda arms: arms.map(order), kind="stable")
