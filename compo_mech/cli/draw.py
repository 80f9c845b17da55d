"""The command of a figure that is drawn from runs."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from compo_mech.cli.command import Command, Positional
from compo_mech.cli.errors import one_line_errors
from compo_mech.report.html_parts import write_figure
from compo_mech.runs.names import once
from compo_mech.runs.run import Run

if TYPE_CHECKING:
    import plotly.graph_objects as go


def command_to_draw(drawn: Callable[[list[Run]], "go.Figure"]) -> Command:
    """Make the command that opens runs and writes their figure, an image or a page by its ending."""

    def main(out: Annotated[Path, Positional], runs: Annotated[tuple[Path, ...], Positional]) -> None:
        """Draw the runs into OUT."""
        with one_line_errors():
            write_figure(drawn([Run.open(run) for run in once(runs)]), out)

    return main
