"""What probes decode and what interchanges show over a run's training: decodable and used need not come together.

python probes/position_subtraction.py runs/parity-seed0 --all-steps
python probes/state_update.py runs/parity-seed0 --all-steps
python figures/probes_by_step.py runs/parity-seed0 --out probes.png

Writes an image (.png, .svg, .pdf: pip install kaleido, which needs a Chrome) or a page (.html).
"""

from pathlib import Path
from typing import Annotated

from compo_mech.cli.command import Positional, call
from compo_mech.cli.draw import drawing, save
from compo_mech.plots import trajectories
from compo_mech.plots.notes import with_notes
from compo_mech.runs.run import Run
from compo_mech.runs.trajectory import Quantity

PANELS = {
    "MLP 0: t, decoded from its output and held in the query": {
        "a probe of the output": Quantity("probe accuracy", variable="t", site="MLP output", layer=0),
        "a probe of the query": Quantity("probe accuracy", variable="t", site="query", layer=1),
        "answers follow the query": Quantity("IIA", "value", "t", "independent", "q", 1),
        "variance of the query by i − j": Quantity("subtraction score", variable="t", site="query", layer=1),
    },
    "MLP 1: the state, decoded from its output and held there": {
        "a probe of its input": Quantity("probe accuracy", variable="answer", site="MLP input", layer=1),
        "a probe of its output": Quantity("probe accuracy", variable="answer", site="MLP output", layer=1),
        "answers follow its output": Quantity("IIA", "value", "answer", "independent", "mlp_out", 1),
        "answers follow attention's x<sub>t</sub>": Quantity("IIA", "value", "x", "independent", "attn_out", 1),
    },
}
PROBES = ("position-subtraction", "state-update")


def main(run: Annotated[Path, Positional], out: Path) -> None:
    """Draw RUN's figures by step into OUT; dotted: its randomly initialised control.

    Args:
        run: folder of a run whose probes were followed over all steps.
        out: an image (.png, .svg, .pdf) or a page (.html).
    """
    import pandas as pd

    with drawing(out):
        opened = Run.open(run)
        table = pd.concat([opened.table(probe, "by-step") for probe in PROBES])
        panels: dict[str, dict] = {}
        controls: dict[str, dict[str, float]] = {}
        for panel, curves in PANELS.items():
            for name, quantity in curves.items():
                rows = quantity.rows(table)
                trained, control = (rows[rows["network"] == network] for network in ("trained", "control"))
                if len(trained):
                    points = list(zip(trained["value"], trained["low"], trained["high"], strict=True))
                    panels.setdefault(panel, {})[name] = (trained["step"].astype(int).tolist(), points)
                    if len(control):
                        controls.setdefault(panel, {})[name] = float(control["value"].iloc[0])
        if not panels:
            raise ValueError(f"run = {run}: must have two layers that were probed at every step")
        figure = trajectories.by_step(panels, controls, f"Decodable and used: {opened.name}")
        notes = [note for probe in PROBES for note in opened.analysed(probe).notes]
        save(with_notes(figure, list(dict.fromkeys(notes))), out, __doc__)


if __name__ == "__main__":
    call(main, description=__doc__)
