"""Attention of every head of a run at some steps, each step a column: how the iteration head came about.

python figures/iteration_head.py runs/parity-seed0 figures/iteration_head.png --steps 0 600 2400

Writes a picture (.png, .svg, .pdf: pip install kaleido, which needs a Chrome) or a page (.html).
"""

from pathlib import Path
from typing import Annotated

import tyro
from plotly.subplots import make_subplots

from compo_mech import evaluate, launch, report
from compo_mech.runs import Run, RunError


def main(
    run: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    steps: tuple[int, ...] = (),
    length: int = 8,
) -> None:
    """Draw the run's heads at `steps` (none given: first, middle and last) on strings of one length."""
    try:
        opened = Run.open(run)
        config, saved = opened.config, opened.steps
        chosen = steps or (saved[0], saved[len(saved) // 2], saved[-1])
        params = [opened.params(step) for step in chosen]
    except RunError as error:
        launch.fail(str(error))
    sets = [s for s in evaluate.eval_sets(config.data, config.n_test_strings) if s.length == length]
    if not sets:
        launch.fail(f"length = {length}: must be {config.data.min_length} .. {config.data.max_length}")
    maps = [report.attention_figure(weights, config, sets[0]) for weights in params]
    heads = [text.text for text in maps[0].layout.annotations]
    titles = [f"{head}, step {step}" for head in heads for step in chosen]
    figure = make_subplots(
        len(heads), len(chosen), subplot_titles=titles, vertical_spacing=0.2 / len(heads), horizontal_spacing=0.05
    )
    for column, drawn in enumerate(maps):
        for row, trace in enumerate(drawn.data):
            figure.add_trace(trace, row=row + 1, col=column + 1)
    figure.update_xaxes({**_axis(maps[0].layout.xaxis), "tickangle": 90})
    figure.update_yaxes({**_axis(maps[0].layout.yaxis), "autorange": "reversed"})
    figure.update_layout(
        template="plotly_white",
        coloraxis=maps[0].layout.coloraxis,
        width=330 * len(chosen) + 110,
        height=350 * len(heads) + 40,
        margin={"l": 40, "r": 20, "t": 40, "b": 40},
    )
    figure.update_layout(coloraxis_colorbar_len=0.5)
    if out.suffix == ".html":
        figure.write_html(out)
    else:
        figure.write_image(out, scale=1.5)


def _axis(axis) -> dict:
    return {"tickmode": "array", "tickvals": axis.tickvals, "ticktext": axis.ticktext, "tickfont": {"size": 9}}


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
