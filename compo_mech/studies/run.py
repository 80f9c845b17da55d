"""A study run: what is missing is trained, every run measured, the table written."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console

from compo_mech.cli.errors import one_line_errors
from compo_mech.cli.progress import counting
from compo_mech.cli.settings import read
from compo_mech.launch.sweep import How, sweep
from compo_mech.parallel import each
from compo_mech.runs.config import RunConfig
from compo_mech.runs.run import Run
from compo_mech.settings import changed
from compo_mech.studies.measures import Score
from compo_mech.studies.study import Arm, Options, RunMeasure, Study
from compo_mech.studies.summary import summary


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
    settings = read(
        Options(runs_dir=Path("runs") / study.name), argv, sys.modules["__main__"].__doc__ or study.question
    )
    torch.set_num_threads(1)
    console = Console()
    if settings.quick:
        study, settings = study.quick(), changed(settings, {"runs_dir": settings.runs_dir / "quick"})
    n_seeds = settings.n_seeds or study.n_seeds
    out = settings.out or settings.runs_dir / f"{study.name}.csv"
    with one_line_errors():
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
    measure: RunMeasure, paths: Mapping[Place, Path], how: How, console: Console
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


def _ask(measure: RunMeasure, path: Path) -> Sequence[Score]:
    return measure(Run.open(path))
