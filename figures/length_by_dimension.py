"""Final accuracy and cleanliness by length and d_model, averaged over runs: which fails first as either grows?

python figures/length_by_dimension.py runs/* --out figures/length_by_dimension.png

Writes an image (.png, .svg, .pdf: pip install kaleido, which needs a Chrome) or a page (.html).
"""

from typing import TYPE_CHECKING

from compo_mech.cli.command import call
from compo_mech.cli.draw import command_to_draw
from compo_mech.evaluation.table import measured
from compo_mech.plots import theme
from compo_mech.plots.notes import other_tasks, with_notes
from compo_mech.runs.run import Run

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

METRICS = {"accuracy": "accuracy", "iteration": "iteration score", "lookup": "lookup score"}


def final(run: Run) -> "pd.DataFrame":
    """Columns d_model, length, metric, value: at the last step, of the best head where there are heads."""
    rows = measured(run.metrics, str(run.config.data.measured_tasks[0]))
    rows = rows[(rows["step"] == rows["step"].max()) & rows["length"].notna() & rows["metric"].isin(METRICS)]
    best = rows.groupby(["length", "metric"])["value"].max().reset_index()
    return best.assign(d_model=run.config.model.d_model)


def drawn(runs: list[Run]) -> "go.Figure":
    """A panel a metric; each cell the mean over runs, which the hover counts."""
    import pandas as pd
    from plotly.subplots import make_subplots

    cells = pd.concat([final(run) for run in runs]).groupby(["metric", "d_model", "length"])["value"]
    table = cells.agg(["mean", "count"]).reset_index()
    dims, lengths = sorted(table["d_model"].unique()), sorted(table["length"].unique())
    figure = make_subplots(
        1, len(METRICS), subplot_titles=list(METRICS.values()), shared_yaxes=True, horizontal_spacing=0.02
    )
    for column, metric in enumerate(METRICS, start=1):
        own = table[table["metric"] == metric]
        means, counts = (
            own.pivot(index="d_model", columns="length", values=name).reindex(index=dims, columns=lengths)
            for name in ("mean", "count")
        )
        figure.add_heatmap(
            z=means.to_numpy().tolist(), x=[str(x) for x in means.columns], y=[str(y) for y in means.index],
            text=[["" if value != value else f"{value:.2f}" for value in row] for row in means.to_numpy()],
            texttemplate="%{text}", textfont={"size": 10}, xgap=1, ygap=1, hoverongaps=False,
            customdata=counts.to_numpy().tolist(), coloraxis="coloraxis", row=1, col=column,
            hovertemplate="d_model %{y}, length %{x}: %{z:.3f} over %{customdata} runs<extra></extra>",
        )  # fmt: skip
        figure.update_xaxes(title="length", type="category", row=1, col=column)
        figure.update_yaxes(type="category", row=1, col=column)
    figure.update_layout(
        **{**theme.base_layout(), "margin": {"l": 60, "r": 20, "t": 80, "b": 50}},
        title="At the end of training, by length and d_model", width=190 + 3 * max(190, 34 * len(lengths)),
        height=190 + 44 * len(dims),
        coloraxis={"colorscale": theme.scale(theme.SEQUENTIAL), "cmin": 0, "cmax": 1, "colorbar": {"thickness": 12}},
    )  # fmt: skip
    figure.update_yaxes(title="d_model", row=1, col=1)
    return with_notes(figure, other_tasks(runs))


main = command_to_draw(drawn, __doc__)


if __name__ == "__main__":
    call(main, description=__doc__)
