"""The commands that ask over many seeds in which order the components of the circuit emerge."""

from pathlib import Path
from typing import Annotated

from rich.console import Console

from compo_mech.analyses.probe_trajectory import PROBE_OF_STATE, PROBE_OF_T, probe_accuracies
from compo_mech.analyses.watch import ExtraMeasure
from compo_mech.cli.command import Count, Flag, NWorkers, Runs, Seed
from compo_mech.cli.errors import one_line_errors
from compo_mech.launch.how import How
from compo_mech.runs.recipes import RECIPES, RecipeName
from compo_mech.settings import changed
from compo_mech.studies import emergence

PROBES = {
    "probe_accuracies": ExtraMeasure(
        probe_accuracies, probe_accuracies.__module__, {"probe of t": PROBE_OF_T, "probe of the state": PROBE_OF_STATE}
    )
}
QUICK = {
    "train.snapshot_every": 4,
    "train.n_steps": 40,
    "data.max_length": 5,
    "data.curriculum": (),
    "n_test_strings": 16,
}
"""Settings of seconds, to see that it runs."""


def train_and_watch(
    recipe: RecipeName = "parity",
    n_seeds: Count = 10,
    snapshot_every: Count = 24,
    runs_dir: Path = Path("runs/emergence"),
    out: Path = Path("emergence"),
    n_workers: NWorkers = 2,
    quick: bool = False,
    yes: Annotated[bool, Flag] = False,
) -> None:
    """Train a recipe's seeds and watch them.

    Args:
        recipe: by its name.
        n_seeds: seeds 0 .. n - 1.
        snapshot_every: steps between checkpoints.
        runs_dir: folder of the runs; what is trained there is read.
        out: what the names of the tables begin with.
        n_workers: processes.
        quick: 40 steps of a tiny network, to see that it runs.
        yes: go on where training takes more than an hour.
    """
    how = How(runs_dir=runs_dir, n_workers=n_workers, yes=yes)
    with one_line_errors(lambda: "the same command goes on"):
        emergence.check_tables(out)
        settings = changed(RECIPES[recipe](), QUICK if quick else {"train.snapshot_every": snapshot_every})
        paths = emergence.train_seeds(settings, n_seeds, how, Console())
    emergence.main(paths, out, n_workers, 0, PROBES)


def watch_runs(runs: Runs, out: Path = Path("emergence"), n_workers: NWorkers = 2, seed: Seed = 0) -> None:
    """Watch RUNS and write OUT.csv, OUT-rises.csv, OUT-order.csv and OUT-verdict.csv.

    Args:
        runs: folders of runs.
        out: what the names of the tables begin with.
        n_workers: processes.
        seed: of all that is drawn.
    """
    emergence.main(runs, out, n_workers, seed, PROBES)


EMERGENCE = {"train": train_and_watch, "watch": watch_runs}
"""Commands by name."""
