"""Watch the circuit being born: every measure over a run's checkpoints, and when each component came about.

python experiments/watch.py runs/parity-seed0

Writes tables into RUN/analysis/ and adds a section to RUN/report.html. What was measured before is not measured again.
"""

from pathlib import Path
from typing import Annotated

import tyro

from compo_mech.cli.analyse import watch_main

if __name__ == "__main__":

    def command(
        run: Annotated[Path, tyro.conf.Positional],
        task: str | None = None,
        seed: int = 0,
        n_workers: int = 2,
        every: int = 2,
    ) -> None:
        """Watch RUN with `n_workers` processes; routes are asked of each `every`-th checkpoint only."""
        watch_main(run, task, seed, n_workers, every)

    tyro.cli(command, description=__doc__)
