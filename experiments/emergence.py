"""In which order do the components of the circuit come over many seeds, and do the maps get cleaner after accuracy?

python experiments/emergence.py train --recipe parity --n-seeds 20       trains with dense checkpoints, then watches
python experiments/emergence.py watch runs/a runs/b --out figures/mine   watches runs that there are
python figures/emergence.py figures/results/emergence.csv figures/results/emergence.png

A run that was trained or watched before is read; failures are listed and counted.
"""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from compo_mech.analyses.probe_trajectory import PROBE_OF_STATE, PROBE_OF_T, probe_accuracies
from compo_mech.analyses.watch import ExtraMeasure
from compo_mech.runs import recipes
from compo_mech.studies import emergence

PROBES = {
    "probe_accuracies": ExtraMeasure(
        probe_accuracies, probe_accuracies.__module__, {"probe of t": PROBE_OF_T, "probe of the state": PROBE_OF_STATE}
    )
}


def train(
    recipe: Literal["parity", "copy", "polynomial"] = "parity",
    n_seeds: int = 10,
    snapshot_every: int = 24,
    runs_dir: Path = Path("runs/emergence"),
    out: Path = Path("emergence"),
    n_workers: int = 2,
    quick: bool = False,
) -> None:
    """Train a recipe's seeds with a checkpoint each `snapshot_every` steps and watch them; quick: 40 tiny steps."""
    settings = getattr(recipes, recipe)()
    update = {"snapshot_every": snapshot_every}
    if quick:
        update = {"snapshot_every": 4, "n_steps": 40}
        small = {"max_length": 5, "curriculum": ()}
        settings = settings.model_copy(update={"data": settings.data.model_copy(update=small), "n_test_strings": 16})
    settings = settings.model_copy(update={"train": settings.train.model_copy(update=update)})
    paths = emergence.train_seeds(settings, n_seeds, runs_dir, n_workers, Console())
    emergence.main(paths, out, n_workers, 0, PROBES)


def watch(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    out: Path = Path("emergence"),
    n_workers: int = 2,
    seed: int = 0,
) -> None:
    """Watch RUNS and write OUT.csv, OUT-rises.csv, OUT-order.csv and OUT-verdict.csv."""
    emergence.main(runs, out, n_workers, seed, PROBES)


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"train": train, "watch": watch}, description=__doc__)
