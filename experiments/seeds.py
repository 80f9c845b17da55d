"""Train one recipe with many seeds and print a table, failures included.

python experiments/seeds.py parity --n-seeds 10
"""

from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import tyro
from rich.console import Console

from compo_mech import recipes
from compo_mech.studies.seeds import seed_runs


def main(
    recipe: Annotated[Literal["parity", "copy", "polynomial", "automaton"], tyro.conf.Positional],
    n_seeds: int = 10,
    n_workers: int = 2,
    runs_dir: Path = Path("runs/seeds"),
) -> None:
    """Seeds 0 .. n_seeds - 1, `n_workers` at a time; seeds that are trained already are read."""
    console = Console()
    rows = []
    for row in seed_runs(getattr(recipes, recipe)(), range(n_seeds), runs_dir, n_workers):
        console.print(row, highlight=False)
        rows.append(row)
    table = pd.DataFrame(rows).sort_values("seed")
    console.print(
        table.to_string(index=False, float_format=lambda value: f"{value:.3f}"), highlight=False, soft_wrap=True
    )


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
