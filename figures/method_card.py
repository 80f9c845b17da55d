"""The method card as a picture: how well each edge scorer finds the circuits of each family of networks.

python figures/method_card.py compo_mech/ground_truth/method_card.csv --out method_card.png

Writes an image (.png, .svg, .pdf: pip install kaleido, which needs a Chrome) or a page (.html).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from compo_mech.circuits.scorers import SCORERS
from compo_mech.cli.command import Positional, call
from compo_mech.cli.draw import drawing, save
from compo_mech.cli.output import table_of
from compo_mech.ground_truth.method_card import USUAL, by_family
from compo_mech.plots import theme

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

COLUMNS = ("family", "task", "build", "counterfactual", "method", "top_is_truth")
NUMBERS = ("auc_all", "n_forwards")


def drawn(card: "pd.DataFrame") -> "go.Figure":
    """A row a method, a column a family and one of its two kinds of pairs.

    Args:
        card: a row a network, counterfactual and method.
    """
    import plotly.graph_objects as go

    summary = by_family(card.assign(top_is_truth=card["top_is_truth"] == "True"))
    methods = list(dict.fromkeys(summary["method"]))
    columns = list(dict.fromkeys(zip(summary["family"], summary["counterfactual"], strict=True)))
    columns.sort(key=lambda column: column[1] == USUAL)  # what finds circuits first
    found = {(row.method, row.family, row.counterfactual): row for row in summary.itertuples()}
    areas, texts = [], []
    for method in methods:
        rows = [found.get((method, *column)) for column in columns]
        areas.append([None if row is None else row.auc for row in rows])
        texts.append(["" if r is None else f"{r.auc:.3f}<br>{r.n_top_is_truth} of {r.n_networks}" for r in rows])
    heads = [f"<b>{family}</b><br>{pairs.replace(', ', ',<br>')}" for family, pairs in columns]
    figure = go.Figure()
    figure.add_heatmap(
        z=areas, x=heads, y=methods, text=texts, texttemplate="%{text}",
        zmin=0.5, zmax=1.0, colorscale=theme.scale(theme.SEQUENTIAL), xgap=2, ygap=2,
        hoverongaps=False,
        colorbar={"title": "area"}, hovertemplate="%{y}, %{x}: %{text}<extra></extra>",
    )  # fmt: skip
    n_networks = summary.groupby("family")["n_networks"].max().sum()
    title = f"True edges found: median area under the ROC curve, and truth on top, of {n_networks} networks"
    figure.update_layout(
        **{**theme.base_layout(), "margin": {"l": 150, "r": 20, "t": 130, "b": 20}}, title=title,
        width=240 + 120 * len(columns), height=170 + 44 * len(methods),
    )  # fmt: skip
    figure.update_xaxes(side="top", showgrid=False)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure


def main(table: Annotated[Path, Positional], out: Path) -> None:
    """Draw TABLE into OUT.

    Args:
        table: as experiments/grade_methods.py writes it.
        out: an image (.png, .svg, .pdf) or a page (.html).
    """
    with drawing(out):
        card = table_of(table, "experiments/grade_methods.py", COLUMNS, NUMBERS, (*COLUMNS, *NUMBERS))
        if unknown := sorted(set(card["method"]) - set(SCORERS)):
            raise ValueError(f"table = {table}: must have methods of {', '.join(SCORERS)}, and has {unknown[0]!r}")
        save(drawn(card), out, __doc__)


if __name__ == "__main__":
    call(main, description=__doc__)
