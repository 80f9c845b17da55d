r"""What MLP 0 and MLP 1 do over seeds: every figure of every run, beside randomly initialised controls.

python probes/over_runs.py runs/* --out figures/results/mechanism.csv
python figures/mechanism.py figures/results/mechanism.csv --out figures/results/mechanism.png --without \
    parity-gaps-seed0 parity-gaps-seed1 parity-gaps-seed2

Writes an image (.png, .svg, .pdf: pip install kaleido, which needs a Chrome) or a page (.html).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from compo_mech.cli.command import Positional, call
from compo_mech.cli.draw import drawing, save
from compo_mech.cli.output import table_of
from compo_mech.plots import theme
from compo_mech.plots.alternative import words
from compo_mech.plots.notes import with_notes
from compo_mech.runs.trajectory import Quantity

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

FIGURES = {
    "MLP 0": {
        Quantity("probe accuracy", variable="t", site="MLP input", layer=0): "t decoded from its input",
        Quantity("probe accuracy", variable="t", site="MLP output", layer=0): "t decoded from its output",
        Quantity("probe accuracy", variable="t", site="query", layer=1): "t decoded from the query",
        Quantity("subtraction score", variable="t", site="query", layer=1): "query's variance by i − j",
        Quantity("IIA", "best", "t", "independent", "mlp_out", 0): "answers follow its output's t",
        Quantity("IIA", "best", "t", "independent", "q", 1): "answers follow the query's t",
        Quantity("states right if additive", variable="t", site="MLP output", layer=0): (
            "right with its output made f(i) + g(j)"
        ),
    },
    "MLP 1": {
        Quantity(
            "probe accuracy", variable="answer", site="MLP input", layer=1
        ): "s<sub>t</sub> decoded from its input",
        Quantity("probe accuracy", variable="answer", site="MLP output", layer=1): (
            "s<sub>t</sub> decoded from its output"
        ),
        Quantity("probe accuracy", variable="answer", site="stream after", layer=1): (
            "s<sub>t</sub> decoded from the stream after"
        ),
        Quantity("IIA", "value", "x", "independent", "attn_out", 1): "answers follow attention's x<sub>t</sub>",
        Quantity("IIA of class means", variable="s", site="MLP input", layer=1): (
            "answers follow s<sub>t-1</sub>'s directions"
        ),
        Quantity("IIA", "value", "answer", "independent", "mlp_out", 1): "answers follow its output's s<sub>t</sub>",
        Quantity("states right if additive", variable="answer", site="MLP output", layer=1): (
            "right with its output made f(s) + g(x)"
        ),
    },
}
"""By component, what is drawn of it."""

TITLES = {"MLP 0": "MLP 0: positions subtracted?", "MLP 1": "MLP 1: state updated?"}
COLUMNS = ("run", "task", "component", *Quantity._fields)
NUMBERS = ("layer", "head", "value", "low", "high", "control")


def notes(table: "pd.DataFrame", without: Sequence[str]) -> list[str]:
    """Say which runs are left out, and of how many each figure is where some lack it."""
    import pandas as pd

    said = [f"Left out: {', '.join(without)}."] if without else []
    if len(lost := failed(table)):
        said.append(f"Failed, and not shown: {', '.join(lost)}.")
        table = table[~table["run"].isin(lost)]
    n_runs = table["run"].nunique()
    for component, named in FIGURES.items():
        for quantity, name in named.items():
            rows = quantity.rows(pd.DataFrame(table[table["component"] == component]))
            n = rows.dropna(subset="value")["run"].nunique()
            if n < n_runs:
                said.append(f"{component}, {words(name)}: {n} of {n_runs} runs have it.")
    return said


def failed(table: "pd.DataFrame") -> list[str]:
    """Names of runs that could not be asked."""
    return list(table["run"][table["failed"].notna()]) if "failed" in table else []


def drawn(table: "pd.DataFrame", without: Sequence[str] = ()) -> "go.Figure":
    """A panel an MLP; a dot with its interval a run, a grey tick the same run's control.

    Args:
        table: as probes/over_runs.py writes it.
        without: names of runs that are left out, which the figure says.

    Raises:
        ValueError: no such run.
    """
    from plotly.subplots import make_subplots

    for name in without:
        if name not in set(table["run"]):
            raise ValueError(f"without = {name}: must be one of {', '.join(sorted(set(table['run'])))}")
    kept = table[~table["run"].isin(without)]
    table = kept[kept["task"].notna()]
    if table.empty:
        raise ValueError("table = without runs: must have one that did not fail and is not left out")
    figure = make_subplots(1, 2, subplot_titles=[TITLES[component] for component in FIGURES], horizontal_spacing=0.28)
    tasks = sorted(table["task"].unique(), key=lambda task: ([*theme.TASK_COLOURS, task].index(task), task))
    lanes, of_tasks = 0.78 / max(3, len(tasks)), theme.task_colours(tasks)
    shown: set[str] = set()
    for column, (component, named) in enumerate(FIGURES.items(), start=1):
        of_mlp = table[table["component"] == component]
        names = list(named.values())
        for n_task, task in enumerate(tasks):
            of_task = of_mlp[of_mlp["task"] == task]
            runs = sorted(of_task["run"].unique())
            for n_figure, quantity in enumerate(named):
                rows = quantity.rows(of_task).set_index("run").reindex(runs).dropna(subset=["value"])
                if not len(rows):
                    continue
                middle, apart = n_figure + lanes * (n_task - (max(3, len(tasks)) - 1) / 2), 0.016 * lanes / 0.26
                heights = [middle + apart * (n - len(rows) / 2) for n in range(len(rows))]
                figure.add_scatter(
                    x=rows["control"], y=heights, mode="markers", name="controls", legendgroup="control",
                    showlegend=(column, n_task, n_figure) == (1, 0, 0), hoverinfo="skip",
                    marker={"symbol": "line-ns-open", "size": 5, "color": theme.LIGHT}, row=1, col=column,
                )  # fmt: skip
                figure.add_scatter(
                    x=rows["value"], y=heights, mode="markers", name=task, legendgroup=task, text=rows.index,
                    showlegend=task not in shown, marker={"size": 5, "color": of_tasks[task]},
                    error_x={
                        "type": "data", "symmetric": False, "array": rows["high"] - rows["value"],
                        "arrayminus": rows["value"] - rows["low"], "thickness": 0.7, "width": 0,
                    },
                    hovertemplate="%{text}: %{x:.2f}<extra></extra>", row=1, col=column,
                )  # fmt: skip
                shown.add(task)
        figure.update_yaxes(
            tickmode="array", tickvals=list(range(len(names))), ticktext=names, range=[len(names) - 0.5, -0.5],
            showgrid=False, zeroline=False, row=1, col=column,
        )  # fmt: skip
        figure.update_xaxes(range=[-0.03, 1.03], dtick=0.25, row=1, col=column)
    figure.update_layout(
        **{**theme.base_layout(), "margin": {"l": 230, "r": 20, "t": 50, "b": 70}}, width=1150,
        height=520 + 100 * max(0, len(tasks) - 3),
        legend={"orientation": "h", "y": -0.1, "x": 0.5, "xanchor": "center"},
    )  # fmt: skip
    return with_notes(figure, notes(kept, without))


def main(
    table: Annotated[Path, Positional],
    out: Path,
    without: tuple[str, ...] = (),
) -> None:
    """Draw TABLE into OUT.

    Args:
        table: as probes/over_runs.py writes it.
        out: an image (.png, .svg, .pdf) or a page (.html).
        without: names of runs that are left out.
    """
    with drawing(out):
        filled = ("run", "task", "component", "measure", "statistic")
        rows = table_of(table, "probes/over_runs.py", COLUMNS, NUMBERS, filled, "failed")
        again = rows.duplicated(["run", "task", "component", *Quantity._fields])
        if again.any():
            raise ValueError(
                f"table = {table}: must name its runs apart, it has two that are {rows['run'][again].iloc[0]}"
            )
        save(drawn(rows, without), out, __doc__)


if __name__ == "__main__":
    call(main, description=__doc__)
