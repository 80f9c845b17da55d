"""A study run: what is missing is trained, every run is asked for its scores, the table is written."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.console import Console

from compo_mech.cli.errors import fail, one_line_errors
from compo_mech.cli.output import check_out, say, write_table
from compo_mech.cli.progress import counting
from compo_mech.cli.settings import read
from compo_mech.cli.tables import print_table
from compo_mech.launch.how import How
from compo_mech.launch.sweep import sweep
from compo_mech.parallel import each
from compo_mech.runs.config import RunConfig
from compo_mech.runs.stacked_run import open_run
from compo_mech.settings import changed
from compo_mech.studies.scores import RunScore, RunScorer
from compo_mech.studies.study import Arm, Options, Study
from compo_mech.studies.summary import summary
from compo_mech.studies.table import RunKey, failed_runs, study_table

if TYPE_CHECKING:
    import pandas as pd

FurtherTable = Callable[["pd.DataFrame"], "pd.DataFrame"]
"""Makes of a study's table another one that is printed after the summary."""


def main(study: Study, further: Mapping[str, FurtherTable] | None = None, argv: Sequence[str] | None = None) -> None:
    """What a study's script runs: trains what is missing, writes the table, prints what the arms came to.

    Exits with code 2 and one line on bad input and where all runs failed.

    Args:
        study: to run.
        further: tables to be printed besides, by their titles.
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
    with one_line_errors(lambda: "the same command goes on"):
        if settings.out is not None or settings.runs_dir.is_dir():
            check_out(out, ".csv")
        _declare(study, n_seeds, console)
        table = run_study(study, range(n_seeds), settings, console)
        try:
            write_table(out, table, float_format="%.6g")
        finally:  # on a full disk what was found is told here alone
            _print_tables({study.primary.name: summary(table, study)}, console)
            _print_tables({title: make(table) for title, make in (further or {}).items()}, console)
        n_failed, n_runs = len(failed_runs(table)), n_seeds * len(study.arms)
        say(console, f"{n_failed} of {n_runs} runs failed. Table: {out}")
        if n_failed == n_runs:
            fail(f"runs = {n_runs}: none gave scores; {out} says why")


def _declare(study: Study, n_seeds: int, console: Console) -> None:
    primary = f"{study.primary.name}, over {n_seeds} seeds of {len(study.arms)} arms"
    what = "arms of a pair" if study.pairs else f"arms and {study.reference}" if study.reference else "arms"
    primary += f"; {what} that differ by no more than {study.primary.margin:g} are equal"
    for what, text in (
        ("Question", study.question),
        ("Hypothesis", study.hypothesis),
        ("Primary measure", primary),
    ):
        say(console, f"{what}: {text}")


def _print_tables(tables: "Mapping[str, pd.DataFrame]", console: Console) -> None:
    for title, table in tables.items():
        say(console, f"\n{title}")
        print_table(console, table, ".3g")


def run_study(study: Study, seeds: Sequence[int], how: How, console: Console) -> "pd.DataFrame":
    """Train what is missing and ask every run for its scores.

    Returns:
        The study's table (see `table.study_table`).

    Raises:
        ValueError: arms would share a folder, or start from one that there is not.
    """
    paths: dict[RunKey, Path] = {}
    errors: dict[RunKey, str] = {}
    generations = list(_generations(study.arms))
    for i, arms in enumerate(generations):
        runs: dict[str, RunConfig] = {}
        keys: dict[str, RunKey] = {}
        for name in arms:
            for seed in seeds:
                config = changed(study.arms[name].config, {"seed": seed})
                start = study.arms[name].start
                if start is not None:
                    if (start, seed) not in paths:
                        errors[name, seed] = f"its start failed: {start}, seed {seed}"
                        continue
                    config = changed(config, {"start_from": paths[start, seed]})
                folder = f"{name.replace(' ', '-').replace('/', '-')}-seed{seed}"
                if folder in runs:
                    raise ValueError(f"arms = {name}: goes into the folder of another arm, {folder}")
                runs[folder], keys[folder] = config, (name, seed)
        later = [study.arms[name].config for names in generations[i + 1 :] for name in names for _ in seeds]
        for _, row in sweep(runs, how, console, later).iterrows():
            key = keys[str(row["run"])]
            if row["state"] == "done":
                paths[key] = Path(str(row["path"]))
            else:
                error = str(row["error"]) or str(row["state"])
                errors[key] = error.replace(f"{how.runs_dir}/", "")  # a table goes to where that folder is not
    scores, unscored = _scored(study.scorer, paths, how, console)
    return study_table(study, seeds, scores, errors | unscored)


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


def _scored(
    scorer: RunScorer, paths: Mapping[RunKey, Path], how: How, console: Console
) -> tuple[dict[RunKey, Sequence[RunScore]], dict[RunKey, str]]:
    """Scores of each run, and errors of those that gave none; by processes, unless all is done here."""
    scores: dict[RunKey, Sequence[RunScore]] = {}
    errors: dict[RunKey, str] = {}
    keys, folders = list(paths), list(paths.values())
    ask = partial(_ask, scorer)
    results = _one_by_one(ask, folders) if how.on == "here" else each(ask, folders, how.n_workers)
    with counting(console) as bar:
        shown = bar.add_task("runs scored", total=len(paths))
        for i, result in results:
            if isinstance(result, Exception):  # one run must not stop the others; it is listed and counted
                errors[keys[i]] = f"{type(result).__name__}: {result}"
            else:
                scores[keys[i]] = result
            bar.advance(shown)
    return scores, errors


def _one_by_one(
    ask: Callable[[Path], Sequence[RunScore]], paths: Sequence[Path]
) -> Iterator[tuple[int, Sequence[RunScore] | Exception]]:
    for i, path in enumerate(paths):
        try:
            yield i, ask(path)
        except Exception as error:
            yield i, error


def _ask(scorer: RunScorer, path: Path) -> Sequence[RunScore]:
    return scorer(open_run(path))
