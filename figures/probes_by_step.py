"""What probes tell and what interchanges show over a run's training: decodable and used need not come together.

python probes/position_subtraction.py runs/parity-seed0 --all-steps
python probes/state_update.py runs/parity-seed0 --all-steps
python figures/probes_by_step.py runs/parity-seed0 probes.png

Writes a picture (.png, .svg, .pdf: pip install kaleido, which needs a Chrome) or a page (.html).
"""

import io
from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro

from compo_mech.cli.errors import one_line_errors
from compo_mech.plots import trajectories
from compo_mech.report import html_parts
from compo_mech.runs.run import Run

PANELS = {
    "MLP 0: t, told from its output and held in the query": {
        "a probe of the output": ("position", "probe of t", "MLP output"),
        "a probe of the query": ("position", "probe of t", "query"),
        "answers follow the query": ("position", "interchange of t, free others", "q1"),
        "variance of the query by i − j": ("position", "subtraction score", "query"),
    },
    "MLP 1: the state, told from its output and held there": {
        "a probe of its input": ("state", "probe of the state", "MLP input"),
        "a probe of its output": ("state", "probe of the state", "MLP output"),
        "answers follow its output": ("state", "interchange of answer, free others", "mlp_out1"),
        "answers follow attention's x<sub>t</sub>": ("state", "interchange of x, free others", "attn_out1"),
    },
}
FOLDERS = {"position": "position-subtraction", "state": "state-update"}


def main(run: Annotated[Path, tyro.conf.Positional], out: Annotated[Path, tyro.conf.Positional]) -> None:
    """Draw RUN's figures by step into OUT; dotted: its freshly initialised network."""
    with one_line_errors():
        opened = Run.open(run)
        tables = {
            name: pd.read_csv(io.StringIO(opened.found(folder, "by-step.csv"))) for name, folder in FOLDERS.items()
        }
        panels: dict[str, dict] = {}
        control: dict[str, dict[str, float]] = {}
        for panel, curves in PANELS.items():
            for name, (which, measure, site) in curves.items():
                rows = tables[which]
                rows = rows[(rows["measure"] == measure) & (rows["site"] == site)]
                own, fresh = rows[rows["step"] >= 0], rows[rows["step"] < 0]
                if len(own):
                    points = list(zip(own["value"], own["low"], own["high"], strict=True))
                    panels.setdefault(panel, {})[name] = (own["step"].tolist(), points)
                    control.setdefault(panel, {}).update({name: float(fresh["value"].iloc[0])} if len(fresh) else {})
        if not panels:
            raise ValueError(f"run = {run}: must have two layers that were probed at every step")
        html_parts.write_figure(trajectories.by_step(panels, control, f"Decodable and used: {opened.path.name}"), out)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
