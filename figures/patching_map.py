"""The effect of patching each part of a run's network at each place, beside a fresh network's, from its dissection.

python experiments/dissect.py runs/parity-seed0
python figures/patching_map.py runs/parity-seed0 patching.png

Writes a picture (.png, .svg, .pdf: pip install kaleido, which needs a Chrome) or a page (.html).
"""

import io
from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro

from compo_mech.cli.errors import one_line_errors
from compo_mech.plots import patching
from compo_mech.report import html_parts
from compo_mech.runs.run import Run

NETWORKS = {"trained": "trained", "control": "freshly initialised"}


def main(run: Annotated[Path, tyro.conf.Positional], out: Annotated[Path, tyro.conf.Positional]) -> None:
    """Draw RUN's latest dissection into OUT: whole parts from the embedding up, then each head on its own."""
    with one_line_errors():
        opened = Run.open(run)
        table = pd.read_csv(io.StringIO(opened.found("dissect", "patching.csv")))
        by_place = table[table["length"].notna()]  # the others are of whole spans
        parts, places = list(dict.fromkeys(by_place["part"])), list(dict.fromkeys(by_place["place"]))
        maps = {}
        for network, title in NETWORKS.items():
            own = by_place[by_place["network"] == network]
            maps[title] = own.pivot(index="part", columns="place", values="effect").loc[parts, places].values.tolist()
        title = f"Rise of {opened.path.name}'s loss when one place carries another string's activation"
        html_parts.write_figure(patching.effect_maps(maps, places, parts, title), out)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
