"""Several runs on one page, from the command line."""

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from compo_mech.cli.errors import one_line_errors
from compo_mech.report import html_parts
from compo_mech.report.comparison import compared, overview, page
from compo_mech.runs.run import Run


def main(paths: Sequence[Path], out: Path) -> None:
    """Compare runs. Exits with code 2 and one line on bad input.

    Args:
        paths: folders of the runs.
        out: the page.
    """
    torch.set_num_threads(1)
    console = Console()
    with one_line_errors():
        if out.suffix != ".html":
            raise ValueError(f"out = {out}: must end in .html")
        if not out.parent.is_dir():
            raise ValueError(f"out = {out}: must be in a folder that exists")
        runs = compared([Run.open(path) for path in paths])
        table = overview(runs)
        console.print(table.to_string(index=False), highlight=False, soft_wrap=True)
        for run in runs:
            for problem in run.problems:
                console.print(f"[yellow]{run.name}: {problem}[/]", highlight=False)
        command = ["experiments/compare.py", *map(str, paths), "--out", str(out)]
        html_parts.write_page(page(runs, command), out)
        console.print(f"Look at {out}", highlight=False)
