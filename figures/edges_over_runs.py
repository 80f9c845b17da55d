"""In how many of several networks' circuits each edge is: from what writes, to what reads.

python experiments/dissect.py runs/parity-seed* --out dissected
python figures/edges_over_runs.py dissected/edges_over_runs.csv --out edges_over_runs.png

Writes an image (.png, .svg, .pdf: pip install kaleido, which needs a Chrome) or a page (.html).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from compo_mech.cli.command import Positional, call
from compo_mech.cli.draw import drawing, save
from compo_mech.cli.output import table_of
from compo_mech.plots import theme

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

COLUMNS = ("task", "shape", "writer", "reader")
COUNTS = ("n_circuits_with", "n_circuits")


def drawn(table: "pd.DataFrame") -> "go.Figure":
    """A panel for each task and shape of network: a column a writer, a row a reader, how many circuits have it.

    Raises:
        ValueError: an edge has two numbers.
    """
    from plotly.subplots import make_subplots

    if table.duplicated(list(COLUMNS)).any():
        raise ValueError("table = edges twice: must have each edge once for each task and shape")
    groups = [group for _, group in table.groupby(["task", "shape"], sort=False)]
    numbers = [int(group["n_circuits"].max()) for group in groups]
    titles = [
        f"{group['task'].iloc[0]}, {group['shape'].iloc[0]}: {n} circuits"
        for group, n in zip(groups, numbers, strict=True)
    ]
    writers, readers = (list(dict.fromkeys(table[name])) for name in ("writer", "reader"))
    figure = make_subplots(1, len(groups), subplot_titles=titles, shared_yaxes=True, horizontal_spacing=0.03)
    for column, (own, n_circuits) in enumerate(zip(groups, numbers, strict=True), start=1):
        shares, counts = (
            own.pivot(index="reader", columns="writer", values=name).reindex(index=readers, columns=writers)
            for name in ("fraction", "n_circuits_with")
        )
        figure.add_heatmap(
            z=shares.to_numpy().tolist(), x=writers, y=readers, coloraxis="coloraxis", xgap=1, ygap=1,
            text=[["" if n != n else f"{n:.0f}" for n in row] for row in counts.to_numpy()],
            texttemplate="%{text}", hoverongaps=False,
            hovertemplate="%{x} → %{y}: in %{text} of " + f"{n_circuits} circuits<extra></extra>",
            row=1, col=column,
        )  # fmt: skip
        figure.update_xaxes(title="writes", type="category", side="bottom", showgrid=False, row=1, col=column)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False)
    figure.update_yaxes(title="reads", row=1, col=1)
    figure.update_layout(
        **{**theme.base_layout(), "margin": {"l": 80, "r": 20, "t": 50, "b": 50}},
        width=220 + len(groups) * max(320, 62 * len(writers)), height=130 + 26 * len(readers),
        coloraxis={"colorscale": theme.scale(theme.SEQUENTIAL), "cmin": 0, "cmax": 1,
                   "colorbar": {"title": "fraction", "thickness": 12}},
    )  # fmt: skip
    return figure


def main(table: Annotated[Path, Positional], out: Path) -> None:
    """Draw TABLE into OUT.

    Args:
        table: as `dissect` of several runs writes it.
        out: the figure.
    """
    with drawing(out):
        read = table_of(
            table, "compo-mech dissect RUNS --out FOLDER", COLUMNS, (*COUNTS, "fraction"), filled=(*COLUMNS, *COUNTS)
        )
        save(drawn(read), out, __doc__)


if __name__ == "__main__":
    call(main, description=__doc__)
