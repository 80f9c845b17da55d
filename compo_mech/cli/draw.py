"""The command of a figure that is drawn from runs, and what every command of a figure does first."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from compo_mech.cli.command import Command, Runs
from compo_mech.cli.errors import one_line_errors
from compo_mech.cli.output import check_out, say
from compo_mech.report.document import write_figure
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


def save(figure: "go.Figure", out: Path, about: str | None) -> None:
    """Write a figure, an image or a page by its ending.

    Args:
        figure: to be written.
        out: where to.
        about: the description of the script that draws it, whose first paragraph is the caption on a page.
    """
    caption = " ".join((about or "").split("\n\n")[0].split())
    write_figure(figure, out, caption, sys.argv)
    say(Console(), f"Look at {out}")


def command_to_draw(drawn: Callable[[list[Run]], "go.Figure"], about: str | None) -> Command:
    """Make the command that opens runs and writes their figure.

    Args:
        drawn: draws it.
        about: the description of the script.
    """

    def main(runs: Runs, out: Path) -> None:
        """Draw RUNS into OUT.

        Args:
            runs: folders of runs.
            out: an image (.png, .svg, .pdf) or a page (.html).
        """
        with drawing(out):
            save(drawn([Run.open(run) for run in once(runs)]), out, about)

    return main
