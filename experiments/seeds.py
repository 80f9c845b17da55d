"""Train one recipe with many seeds and print a table, failures included.

python experiments/seeds.py parity --n-seeds 10
"""

from typing import Annotated, Literal

import pandas as pd
import tyro
from rich.console import Console

from compo_mech.cli.errors import one_line_errors
from compo_mech.launch.sweep import How
from compo_mech.runs import recipes
from compo_mech.studies.seeds import seed_runs

HERE = How()


def main(
    recipe: Annotated[Literal["parity", "copy", "polynomial", "automaton"], tyro.conf.Positional],
    n_seeds: int = 10,
    how: Annotated[How, tyro.conf.arg(name="")] = HERE,
) -> None:
    """Seeds 0 .. n_seeds - 1; seeds that are trained already are read."""
    console = Console()
    with one_line_errors():
        table = pd.DataFrame(seed_runs(getattr(recipes, recipe)(), range(n_seeds), how, console))
    console.print(
        table.to_string(index=False, float_format=lambda value: f"{value:.3f}"), highlight=False, soft_wrap=True
    )


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
