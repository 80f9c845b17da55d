"""The effect of patching each component of a run's network at each position, beside its control's, from its dissection.

python experiments/dissect.py runs/parity-seed0
python figures/patching_map.py runs/parity-seed0 --out patching.png

Writes an image (.png, .svg, .pdf: pip install kaleido, which needs a Chrome) or a page (.html).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from compo_mech.analyses.network_findings import stage_name
from compo_mech.cli.command import Positional, call
from compo_mech.cli.draw import drawing, save
from compo_mech.model.sites import Site
from compo_mech.plots import patching
from compo_mech.plots.notes import with_notes
from compo_mech.plots.theme import indexed
from compo_mech.runs.run import Run

if TYPE_CHECKING:
    import pandas as pd

NETWORKS = {"trained": "trained", "control": "randomly initialised"}


def _names(table: "pd.DataFrame") -> list[str]:
    """`mlp_out0` of a whole component, `L0H1.z` of a head, in each row of the table."""
    columns = (table[name].tolist() for name in ("component", "layer", "head"))
    return [
        stage_name(component, None if layer != layer else int(layer))
        if head != head
        else str(Site("z", int(layer), int(head)))
        for component, layer, head in zip(*columns, strict=True)
    ]


def main(run: Annotated[Path, Positional], out: Path) -> None:
    """Draw RUN's latest dissection into OUT: whole components from the embedding up, then each head on its own.

    Args:
        run: folder of a dissected run.
        out: an image (.png, .svg, .pdf) or a page (.html).
    """
    with drawing(out):
        dissected = Run.open(run)
        table = dissected.table("dissect", "patching")
        table = table[table["span"].isna()]  # the others are of whole spans
        components, tokens = list(dict.fromkeys(_names(table))), list(dict.fromkeys(table["token"]))
        maps = {}
        for network, title in NETWORKS.items():
            own = table[table["network"] == network].assign(name=_names)
            effects = own.pivot(index="name", columns="token", values="effect")
            maps[title] = effects.loc[components, tokens].values.tolist()
        latest = dissected.analysed("dissect")
        title = f"Rise of {dissected.name}'s loss when one position carries another string's activation"
        figure = patching.effect_maps(maps, indexed(tokens), components, f"{title}, step {latest.step}")
        save(with_notes(figure, latest.notes), out, __doc__)


if __name__ == "__main__":
    call(main, description=__doc__)
