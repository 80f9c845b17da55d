"""Several runs on one page: the settings in which they differ, results, curves in one figure, attention.

python experiments/compare.py runs/parity-seed0 runs/parity-seed1 --out compare.html
"""

from pathlib import Path
from typing import Annotated

import tyro

from compo_mech.cli.compare import main

if __name__ == "__main__":

    def command(runs: Annotated[tuple[Path, ...], tyro.conf.Positional], out: Path = Path("compare.html")) -> None:
        """Compare RUNS on the page `out`."""
        main(runs, out)

    tyro.cli(command, description=__doc__)
