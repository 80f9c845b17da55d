"""The command that sets several runs beside each other on one page."""

from pathlib import Path

import torch
from rich.console import Console

from compo_mech.cli.command import Runs, Step
from compo_mech.cli.errors import one_line_errors
from compo_mech.cli.output import check_out, say, warn
from compo_mech.cli.tables import print_table
from compo_mech.report.document import write_page
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.names import opened


def compare_command(runs: Runs, out: Path = Path("compare.html"), step: Step | None = None) -> None:
    """Compare RUNS on one page.

    Args:
        runs: folders of runs.
        out: the page, .html.
        step: as if training had ended at this checkpoint, which every run must have; None: the last of each.
    """
    from compo_mech.report.comparison import compared, overview, page  # with pandas, which --help need not wait for

    torch.set_num_threads(1)
    console = Console()
    with one_line_errors():
        check_out(out, ".html")
        read, unread = opened(runs)
        if not read:
            raise RunError(unread[0] if unread else "runs = none: must be folders of runs")
        found = compared(read, step)
        print_table(console, overview(found))
        for problem in (*unread, *(f"{run.name}: {problem}" for run in found for problem in run.problems)):
            warn(console, problem)
        command = ["-m", "compo_mech", "compare", *map(str, runs), "--out", str(out)]
        command += [] if step is None else ["--step", str(step)]
        write_page(page(found, command, unread), out)
        say(console, f"Look at {out}")
