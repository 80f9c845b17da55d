"""The commands that ask over many seeds in which order the components of the circuit emerge."""

from pathlib import Path
from typing import Annotated

from rich.console import Console

from compo_mech.analyses.probe_trajectory import PROBE_OF_STATE, PROBE_OF_T, probe_accuracies
from compo_mech.analyses.watch import ExtraMeasure
from compo_mech.cli.command import Positional
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
    n_seeds: int = 10,
    snapshot_every: int = 24,
    runs_dir: Path = Path("runs/emergence"),
    out: Path = Path("emergence"),
    n_workers: int = 2,
    quick: bool = False,
) -> None:
    """Train a recipe's seeds with a checkpoint each `snapshot_every` steps and watch them; quick: 40 tiny steps."""
    settings = changed(RECIPES[recipe](), QUICK if quick else {"train.snapshot_every": snapshot_every})
    paths = emergence.train_seeds(settings, n_seeds, runs_dir, n_workers, Console())
    emergence.main(paths, out, n_workers, 0, PROBES)


def watch_runs(
    runs: Annotated[tuple[Path, ...], Positional], out: Path = Path("emergence"), n_workers: int = 2, seed: int = 0
) -> None:
    """Watch RUNS and write OUT.csv, OUT-rises.csv, OUT-order.csv and OUT-verdict.csv."""
    emergence.main(runs, out, n_workers, seed, PROBES)


EMERGENCE = {"train": train_and_watch, "watch": watch_runs}
"""Commands by name."""
