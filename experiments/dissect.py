"""Dissect a trained run: heads, patching, ablation, edges, circuit, faithfulness and routes, each with its control.

python experiments/dissect.py runs/parity-seed0
python experiments/dissect.py runs/parity-seed0 --step 600

Writes tables and the circuit into RUN/analysis/ and adds a section to RUN/report.html.
"""

from pathlib import Path
from typing import Annotated

import tyro

from compo_mech.cli.analyse import dissect_main

if __name__ == "__main__":
    CARD = Path(__file__).parents[1] / "figures" / "results" / "method_card.csv"

    def command(run: Annotated[Path, tyro.conf.Positional], step: int | None = None, seed: int = 0) -> None:
        """Take RUN apart at a step; None: at its last."""
        dissect_main(run, step, seed, CARD)

    tyro.cli(command, description=__doc__)
