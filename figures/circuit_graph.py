"""The circuit that the dissection of a run found, as a graph: edges as wide as their effect.

python experiments/dissect.py runs/parity-seed0
python figures/circuit_graph.py runs/parity-seed0 circuit.png

Writes a picture (.png, .svg, .pdf: pip install kaleido, which needs a Chrome) or a page (.html).
"""

from pathlib import Path
from typing import Annotated

import tyro

from compo_mech import plotting, report
from compo_mech.circuits import from_json
from compo_mech.runs import Run
from compo_mech.telling import complaints


def main(run: Annotated[Path, tyro.conf.Positional], out: Annotated[Path, tyro.conf.Positional]) -> None:
    """Draw RUN's latest circuit into OUT."""
    with complaints():
        opened = Run.open(run)
        circuit = from_json(opened.found("dissect", "circuit.json"), opened.config.model)
        report.write_figure(plotting.circuit_graph(circuit, f"Circuit of {opened.path.name}"), out)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
