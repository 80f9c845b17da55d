"""Attention of every head of a run at some steps, each step a column: how the iteration head emerges.

python figures/iteration_head.py runs/parity-seed0 --out figures/results/iteration_head.png --steps 0 600 2400

Writes an image (.png, .svg, .pdf: pip install kaleido, which needs a Chrome), or a page (.html) on which a slider
leads through the steps.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.console import Console

from compo_mech.cli.command import Count, Positional, Step, call
from compo_mech.cli.draw import drawing, save
from compo_mech.cli.output import warn
from compo_mech.evaluation.sets import EvalSet, eval_sets
from compo_mech.model.params import Model, Params
from compo_mech.plots import theme
from compo_mech.plots.notes import other_tasks, with_notes
from compo_mech.plots.theme import layout_of
from compo_mech.report import attention
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.config import RunConfig
from compo_mech.runs.run import Run

if TYPE_CHECKING:
    import plotly.graph_objects as go

LONGEST = 8
"""Strings that are shown where no length is asked for have at most as many inputs, so that each weight can be seen."""


def main(
    run: Annotated[Path, Positional],
    out: Path,
    steps: tuple[Step, ...] = (),
    length: Count | None = None,
) -> None:
    """Draw RUN's heads into OUT.

    Args:
        run: its folder.
        out: an image (.png, .svg, .pdf) or a page (.html).
        steps: of checkpoints; none given: the first, a middle and the last, or on a page all.
        length: of the strings; None: the longest up to 8.
    """
    with drawing(out):
        opened = Run.open(run)
        test = shown_set(opened, length)
        if out.suffix == ".html":
            frames, notes = frames_of(opened, steps)
            figure = attention.attention_by_step(frames, opened.config, test)
        else:
            saved = opened.steps or [0]
            chosen = steps or tuple(dict.fromkeys((saved[0], saved[len(saved) // 2], saved[-1])))
            params, notes = {step: opened.params(step) for step in chosen}, []
            figure = beside(params, opened.config, test)
        save(with_notes(figure, notes + other_tasks([opened])), out, __doc__)


def frames_of(run: Run, steps: Sequence[int]) -> tuple[dict[int, Params], list[str]]:
    """Parameters at these steps, or at steps evenly spaced; and a note for each of the latter that is damaged.

    Raises:
        RunError: a step that was asked for cannot be read, or none can.
    """
    if steps:
        return {step: run.params(step) for step in steps}, []
    frames: dict[int, Params] = {}
    notes, errors = [], []
    for step in run.spread(attention.MAX_FRAMES):
        try:
            frames[step] = run.params(step)
        except RunError as error:
            errors.append(str(error))
            notes.append(f"Step {step} is left out: it is damaged.")
            warn(Console(stderr=True), f"step {step} is left out: {error}")
    if not frames:
        reason = errors[0] if errors else run.sums().problem or "there is none"
        raise RunError(f"run = {run.path}: has no checkpoint that can be read ({reason})")
    return frames, notes


def shown_set(run: Run, length: int | None) -> EvalSet:
    """Test strings of the run's first task of this length; None: of the longest up to LONGEST, or of the shortest.

    Raises:
        ValueError: it has none.
    """
    data = run.config.data
    of_length = {test.length: test for test in reversed(eval_sets(data, run.config.n_test_strings))}
    if length is None:
        length = max((known for known in of_length if known <= LONGEST), default=data.min_length)
    if length not in of_length:
        raise ValueError(f"length = {length}: must be {data.min_length} .. {data.max_length}")
    return of_length[length]


def beside(params: dict[int, Params], config: RunConfig, test: EvalSet) -> "go.Figure":
    """A row a head, a column a step."""
    from plotly.subplots import make_subplots

    maps = [attention.attention_figure(Model(weights, config.model), test) for weights in params.values()]
    heads = [text.text for text in layout_of(maps[0]).annotations]
    titles = [f"{head}, step {step}" for head in heads for step in params]
    figure = make_subplots(
        len(heads), len(maps), subplot_titles=titles, vertical_spacing=0.2 / len(heads), horizontal_spacing=0.05
    )
    for column, drawn in enumerate(maps):
        for row, trace in enumerate(drawn.data):
            figure.add_trace(trace, row=row + 1, col=column + 1)
    figure.update_xaxes({**_axis(layout_of(maps[0]).xaxis), "tickangle": 90})
    figure.update_yaxes({**_axis(layout_of(maps[0]).yaxis), "autorange": "reversed"})
    figure.update_layout(
        **{**theme.base_layout(), "margin": {"l": 40, "r": 20, "t": 40, "b": 40}},
        coloraxis=layout_of(maps[0]).coloraxis,
        width=330 * len(maps) + 110,
        height=350 * len(heads) + 40,
    )
    figure.update_layout(coloraxis_colorbar={"len": 350, "lenmode": "pixels"})
    return figure


def _axis(axis) -> dict:
    return {"tickmode": "array", "tickvals": axis.tickvals, "ticktext": axis.ticktext, "tickfont": {"size": 11}}


if __name__ == "__main__":
    call(main, description=__doc__)
