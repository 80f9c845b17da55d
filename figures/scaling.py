"""Accuracy, cleanliness and speed of learning by string length and d_model, with exponents.

python experiments/scaling.py
python figures/scaling.py runs/scaling/scaling.csv --out figures/results/scaling.png

Writes an image (.png, .svg, .pdf: pip install kaleido, which needs a Chrome) or a page (.html).
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from compo_mech.cli.command import Positional, call
from compo_mech.cli.draw import drawing, save
from compo_mech.cli.output import table_of
from compo_mech.plots import theme
from compo_mech.stats.over_seeds import over_seeds
from compo_mech.studies import measures
from compo_mech.studies.exponents import exponents
from compo_mech.studies.table import trained_rows

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

COLUMNS = ("measure", "network", "error")
NUMBERS = ("length", "d_model", "seed", "value")
FILLED = ("measure", "network", *NUMBERS)
SPEED = measures.FIRST_STEP_AT_99.name
MAPS = {
    measures.ACCURACY: "accuracy",
    measures.ITERATION: "iteration score",
    measures.FIRST_STEP_AT_99: "median first step at 99%",
}
CELL_MEASURES = (*MAPS, measures.SOLVED)
SIZE = 0.2
"""Width of a heatmap, as a fraction of the figure's."""


def drawn(table: "pd.DataFrame") -> "go.Figure":
    """Three maps over length and d_model, and the steps against length.

    Raises:
        ValueError: the table lacks a measure.
    """
    from plotly.subplots import make_subplots

    trained = trained_rows(table)
    known = list(trained["measure"].unique())
    if missing := [measure.name for measure in CELL_MEASURES if measure.name not in known]:
        raise ValueError(f"measures = {', '.join(known)}: must have {missing[0]!r} among them")
    figure = make_subplots(
        1, 4, subplot_titles=[*MAPS.values(), "first step at 99% by length"], column_widths=[SIZE] * 3 + [1 - 3 * SIZE],
        horizontal_spacing=0.04,
    )  # fmt: skip
    cells = over_cells(table)
    lengths, dims = sorted(table["length"].unique()), sorted(table["d_model"].unique())
    for column, measure in enumerate(MAPS, start=1):
        heatmap(figure, cells, measure.name, lengths, dims, column)
    curves(figure, trained, cells, lengths, dims)
    figure.update_yaxes(title="d_model", title_standoff=4, row=1, col=1)
    figure.update_annotations(font_size=13)
    figure.update_xaxes(title_font_size=13)
    figure.update_yaxes(title_font_size=13)
    figure.add_annotation(
        text="<br>".join(map(exponents_text, exponents(table).to_dict("records"))), showarrow=False, align="left",
        x=0, xref="paper", xanchor="left", y=0, yref="paper", yanchor="top", yshift=-82, font={"size": 13},
    )  # fmt: skip
    tall = max(260, 52 * len(dims))
    figure.update_layout(
        **{**theme.base_layout(), "margin": {"l": 60, "r": 20, "t": 84, "b": 150}},
        title={"text": f"{task_of(table)}, {table['seed'].nunique()} seeds a cell; in small, how many solved it "
               "(99% at every length at the end)", "x": 0.01, "font.size": 16},
        width=1100, height=235 + tall, legend={**theme.legend_below(44, tall), "title.text": "d_model ", "x": 0.64},
    )  # fmt: skip
    return figure


def over_cells(table: "pd.DataFrame") -> "pd.DataFrame":
    """Estimates over the seeds of each length and d_model, and how many seeds there are, failed ones included."""
    import pandas as pd

    rows = []
    for (length, d_model), own in table.groupby(["length", "d_model"]):
        cell = {"length": length, "d_model": d_model, "n": own["seed"].nunique()}
        trained = trained_rows(own)
        for measure in CELL_MEASURES:
            values = trained[trained["measure"] == measure.name]["value"].tolist()
            cell[measure.name] = over_seeds(measure.summary, values).mean if values else math.nan
        cell["n_solved"] = int((trained[trained["measure"] == measures.SOLVED.name]["value"] == 1).sum())
        rows.append(cell)
    return pd.DataFrame(rows)


def heatmap(figure: "go.Figure", cells: "pd.DataFrame", measure: str, lengths: list, dims: list, column: int) -> None:
    """One cell per length and d_model; blank where the level was not reached."""
    speed = measure == SPEED
    values, solved, seeds = (
        cells.pivot(index="d_model", columns="length", values=name).reindex(index=dims, columns=lengths).to_numpy()
        for name in (measure, "n_solved", "n")
    )
    texts, heat = [], []
    for row in zip(values, solved, seeds, strict=True):
        texts.append([cell_text(*cell, speed) for cell in zip(*row, strict=True)])
        known = [value if math.isfinite(value) else None for value in row[0]]
        heat.append([math.log10(max(value, 1)) if speed and value is not None else value for value in known])
    # the scale is wider than the steps, so that the slowest cell is not white
    reach = [value for row in heat for value in row if value is not None]
    low, high = (min(reach, default=0), max(reach, default=1)) if speed else (0, 1)
    figure.add_heatmap(
        z=heat, x=[str(length) for length in lengths], y=[str(d) for d in dims], text=texts, texttemplate="%{text}",
        textfont={"size": 12}, xgap=1.5, ygap=1.5, hoverongaps=False, showscale=False,
        colorscale=theme.scale(theme.SEQUENTIAL), reversescale=speed,
        zmin=low - 0.3 * (high - low) if speed else low,
        zmax=high + 0.1 * (high - low) if speed else 1,
        hovertemplate="length %{x}, d_model %{y}: %{text}<extra></extra>", row=1, col=column,
    )  # fmt: skip
    figure.update_xaxes(title="length", title_standoff=4, type="category", showgrid=False, row=1, col=column)
    figure.update_yaxes(type="category", showgrid=False, showticklabels=column == 1, row=1, col=column)


def cell_text(value: float, solved: float, seeds: float, speed: bool) -> str:
    """A value above the number of seeds that solved it."""
    if seeds != seeds:
        return ""
    shown = "" if not math.isfinite(value) else f"{value:.0f}" if speed else f"{value:.2f}"
    return f"{shown}<br><span style='font-size:9px'>{solved:.0f}/{seeds:.0f}</span>"


def curves(figure: "go.Figure", table: "pd.DataFrame", cells: "pd.DataFrame", lengths: list, dims: list) -> None:
    """A line a d_model through the medians, where the event came in half of the seeds; a dot a seed."""
    steps = table[(table["measure"] == SPEED) & (table["value"] < math.inf) & (table["value"] > 0)]
    for n, (d_model, colour) in enumerate(zip(dims, theme.ordered_colours(len(dims)), strict=True)):
        aside = 1.018 ** (n - (len(dims) - 1) / 2)
        own, medians = steps[steps["d_model"] == d_model], cells[cells["d_model"] == d_model].set_index("length")
        figure.add_scatter(
            x=(own["length"] * aside).tolist(), y=own["value"].tolist(), mode="markers", showlegend=False,
            marker={"size": 4.5, "color": colour, "opacity": 0.6}, text=[f"seed {seed}" for seed in own["seed"]],
            hovertemplate=f"d_model {d_model}, %{{text}}: %{{y}}<extra></extra>", row=1, col=4,
        )  # fmt: skip
        figure.add_scatter(
            x=[length * aside for length in lengths], name=str(d_model), mode="lines+markers", line={"color": colour},
            y=[v if math.isfinite(v) and v > 0 else None for v in medians[SPEED].reindex(lengths)],
            marker={"symbol": "diamond", "size": 8, "color": theme.PAPER, "line": {"color": colour, "width": 2}},
            hovertemplate=f"d_model {d_model}, median: %{{y}}<extra></extra>", row=1, col=4,
        )  # fmt: skip
    figure.update_xaxes(
        type="log", title="length", title_standoff=4, tickmode="array", tickvals=lengths, row=1, col=4,
        range=[math.log10(min(lengths) * 0.88), math.log10(max(lengths) * 1.14)],
    )  # fmt: skip
    decades = range(int(math.log10(max(steps["value"].min(), 1))), math.ceil(math.log10(steps["value"].max())) + 1)
    figure.update_yaxes(
        type="log", tickvals=[n * 10**e for e in decades for n in (1, 2, 5)], tickfont={"size": 11}, row=1, col=4
    )


def exponents_text(row: dict) -> str:
    """A measure's exponents, with intervals."""
    name = row["measure"]
    if not math.isfinite(row.get("length", math.nan)):
        return f"{name}: too few solved runs for exponents"
    powers = [
        f"{side}<sup>{row[side]:.2f}</sup> ({row[side + '_low']:.2f} .. {row[side + '_high']:.2f})"
        for side in ("length", "d_model")
    ]
    censored = f", {row['n_censored']} of them censored" if row["n_censored"] else ""
    return f"{name} ∝ {' · '.join(powers)}, over {row['n_runs']} runs{censored}".replace("-", "−")


def task_of(table: "pd.DataFrame") -> str:
    """The task, as a title begins."""
    tasks = table["task"].dropna().unique() if "task" in table else []
    return ", ".join(str(task) for task in tasks).capitalize()


def main(table: Annotated[Path, Positional], out: Path) -> None:
    """Draw TABLE into OUT.

    Args:
        table: as experiments/scaling.py writes it.
        out: an image (.png, .svg, .pdf) or a page (.html).
    """
    with drawing(out):
        save(drawn(table_of(table, "experiments/scaling.py", COLUMNS, NUMBERS, FILLED, "error")), out, __doc__)


if __name__ == "__main__":
    call(main, description=__doc__)
