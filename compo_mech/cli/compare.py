"""The command that sets several runs beside each other on one page."""

from pathlib import Path
from typing import Annotated

import torch
from rich.console import Console

from compo_mech.cli.command import Positional
from compo_mech.cli.errors import one_line_errors
from compo_mech.report import html_parts
from compo_mech.report.comparison import compared, overview, page
from compo_mech.runs.run import Run


def compare_command(runs: Annotated[tuple[Path, ...], Positional], out: Path = Path("compare.html")) -> None:
    """Compare RUNS on the page `out`."""
    torch.set_num_threads(1)
    console = Console()
    with one_line_errors():
        if out.suffix != ".html":
            raise ValueError(f"out = {out}: must end in .html")
        if not out.parent.is_dir():
            raise ValueError(f"out = {out}: must be in a folder that exists")
        found = compared([Run.open(path) for path in runs])
        table = overview(found)
        console.print(table.to_string(index=False), highlight=False, soft_wrap=True)
        for run in found:
            for problem in run.problems:
                console.print(f"[yellow]{run.name}: {problem}[/]", highlight=False)
        command = ["-m", "compo_mech", "compare", *map(str, runs), "--out", str(out)]
        html_parts.write_page(page(found, command), out)
        console.print(f"Look at {out}", highlight=False)
