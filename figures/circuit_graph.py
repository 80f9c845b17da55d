"""The circuit that the dissection of a run found, as a graph: edges as wide as their effect.

python experiments/dissect.py runs/parity-seed0
python figures/circuit_graph.py runs/parity-seed0 --out circuit.png

Writes an image (.png, .svg, .pdf: pip install kaleido, which needs a Chrome) or a page (.html).
"""

from pathlib import Path
from typing import Annotated

from compo_mech.circuits.circuit import from_json
from compo_mech.cli.command import Positional, call
from compo_mech.cli.draw import drawing, save
from compo_mech.plots import circuits
from compo_mech.plots.notes import with_notes
from compo_mech.runs.run import Run


def main(run: Annotated[Path, Positional], out: Path) -> None:
    """Draw RUN's latest circuit into OUT.

    Args:
        run: folder of a dissected run.
        out: an image (.png, .svg, .pdf) or a page (.html).
    """
    with drawing(out):
        opened = Run.open(run)
        circuit = from_json(opened.found("dissect", "circuit.json"), opened.config.model)
        latest = opened.analysed("dissect")
        figure = circuits.circuit_graph(circuit, f"Circuit of {opened.name}, step {latest.step}")
        save(with_notes(figure, latest.notes), out, __doc__)


if __name__ == "__main__":
    call(main, description=__doc__)
