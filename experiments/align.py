"""Where a trained network holds the algorithm's variables t, x_t, s_{t-1} and s_t, each figure with its controls.

python experiments/align.py runs/parity-seed0
python experiments/align.py runs/parity-seed0 --all-steps

Writes tables into RUN/analysis/ and adds a section to RUN/report.html.
"""

from pathlib import Path
from typing import Annotated

import tyro

from compo_mech.cli.analyse import align_main

if __name__ == "__main__":

    def command(
        run: Annotated[Path, tyro.conf.Positional],
        step: int | None = None,
        all_steps: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
        task: str | None = None,
        seed: int = 0,
    ) -> None:
        """Align RUN at a step (None: its last), with maps at every step if asked; one task or all of them."""
        align_main(run, step, all_steps, task, seed)

    tyro.cli(command, description=__doc__)
