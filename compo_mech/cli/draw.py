"""The command of a figure that is drawn from runs, and what every command of a figure does first."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from compo_mech.cli.command import Command, Positional, Runs
from compo_mech.cli.errors import one_line_errors
from compo_mech.cli.output import check_out
from compo_mech.report.html_parts import write_figure
from compo_mech.runs.names import once
from compo_mech.runs.run import Run

if TYPE_CHECKING:
    import plotly.graph_objects as go

IMAGES = (".png", ".svg", ".pdf")


@contextmanager
def drawing(out: Path) -> Iterator[None]:
    """As `one_line_errors`, once it is clear that a figure can be written there."""
    with one_line_errors():
        check_out(out, ".html", *IMAGES)
        if out.suffix in IMAGES and importlib.util.find_spec("kaleido") is None:
            raise ValueError(f"out = {out}: must end in .html where kaleido is not installed")
        yield


def command_to_draw(drawn: Callable[[list[Run]], "go.Figure"]) -> Command:
    """Make the command that opens runs and writes their figure, an image or a page by its ending."""

    def main(out: Annotated[Path, Positional], runs: Runs) -> None:
        """Draw RUNS into OUT.

        Args:
            out: an image (.png, .svg, .pdf) or a page (.html).
            runs: folders of runs.
        """
        with drawing(out):
            write_figure(drawn([Run.open(run) for run in once(runs)]), out)

    return main
