"""How early the outcome of many seeds is known: by all measures together, and the iteration score by outcome.

python experiments/outcomes.py --device cuda --out figures/results/outcomes.csv
python figures/outcomes.py figures/results/outcomes.csv --out figures/results/outcomes.png

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

SCORE, BY_ALL = "L1H0 iteration", "attention, accuracy and loss"
COLUMNS, NUMBERS = ("verdict",), ("seed", "step", SCORE)
COLOURS = {"textbook": theme.BLUE, "sharp patchwork": theme.ORANGE, "diffuse": theme.BROWN}


def drawn(followed: "pd.DataFrame", known: "pd.DataFrame") -> "go.Figure":
    """Two panels: area under the ROC curve by step, and the score by step with the middle nine tenths of seeds.

    Args:
        followed: rows of every seed at every step.
        known: how well the outcome is foretold, a row a step.
    """
    from plotly.subplots import make_subplots

    last = followed[followed["step"] == followed["step"].max()].set_index("seed")["verdict"]
    titles = ["ends textbook or not, foretold of seeds left out", "iteration score, by the verdict at the end"]
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.1)
    _foretold(figure, known)
    for verdict, colour in COLOURS.items():
        seeds = last.index[last == verdict]
        if len(seeds):
            of_verdict = followed[followed["seed"].isin(seeds)]
            _band(figure, of_verdict, f"{verdict}, {len(seeds)} seeds", colour)
    for column in (1, 2):
        figure.update_xaxes(**theme.LOG_AXIS, title="step + 1", row=1, col=column)
    lowest = min(0.4, known[["area", "low", "permuted"]].to_numpy(float).min() - 0.02)
    figure.update_yaxes(title="area under the ROC curve", range=[lowest, 1.02], row=1, col=1)
    figure.update_yaxes(title="weight on x<sub>t</sub>", range=[0, 1.02], row=1, col=2)
    layout = {**theme.base_layout(), "margin": {"l": 60, "r": 20, "t": 50, "b": 110}}
    figure.update_layout(**layout, width=1000, height=460, legend={"orientation": "h", "y": -0.22})
    return figure


def _foretold(figure: "go.Figure", foretold: "pd.DataFrame") -> None:
    import plotly.graph_objects as go

    known, others = foretold[foretold["by"] == BY_ALL], foretold[foretold["by"] != BY_ALL]
    steps = [step + 1 for step in known["step"]]
    errors = {"symmetric": False, "array": known["high"] - known["area"], "arrayminus": known["area"] - known["low"]}
    curves = {
        "all measures": (known["area"], theme.INK),
        "the best alone": (known["its area"], theme.CYAN),
        "permuted": (known["permuted"], theme.GREY),
    }
    for what, of_others in others.groupby("by"):
        curves[str(what)] = (of_others["area"], theme.RED)
    for name, (values, colour) in curves.items():
        figure.add_scatter(
            x=steps, y=values, name=name, mode="lines+markers", line={"color": colour, "width": 1.8},
            marker={"size": 6}, error_y=errors if name == "all measures" else None, row=1, col=1,
        )  # fmt: skip
    chance = go.Scatter(
        x=[steps[0], steps[-1]], y=[0.5, 0.5], mode="lines", showlegend=False, hoverinfo="skip",
        line={"color": theme.GREY, "width": 1, "dash": "dot"},
    )  # fmt: skip
    figure.add_trace(chance, row=1, col=1)


def _band(figure: "go.Figure", rows: "pd.DataFrame", name: str, colour: str) -> None:
    by_step = rows.groupby("step")[SCORE]
    low, middle, high = (by_step.quantile(q) for q in (0.05, 0.5, 0.95))
    steps = [step + 1 for step in middle.index]
    figure.add_scatter(
        x=[*steps, *reversed(steps)], y=[*high, *reversed(low.tolist())], fill="toself", mode="none", opacity=0.2,
        fillcolor=colour, legendgroup=name, showlegend=False, hoverinfo="skip", row=1, col=2,
    )  # fmt: skip
    figure.add_scatter(
        x=steps, y=middle, name=name, legendgroup=name, mode="lines", line={"color": colour, "width": 2}, row=1, col=2
    )


def main(table: Annotated[Path, Positional], out: Path) -> None:
    """Draw TABLE, and the table beside it of what is foretold, into OUT.

    Args:
        table: as experiments/outcomes.py writes it.
        out: an image (.png, .svg, .pdf) or a page (.html).
    """
    with drawing(out):
        followed = table_of(table, "experiments/outcomes.py", COLUMNS, NUMBERS, (*COLUMNS, *NUMBERS))
        beside = table.with_stem(f"{table.stem}-foretold")
        foretold = ("step", "area", "low", "high", "permuted", "its area")
        known = table_of(beside, "experiments/outcomes.py", ("by",), foretold, ("step", "by"))
        save(drawn(followed, known), out, __doc__)


if __name__ == "__main__":
    call(main, description=__doc__)
