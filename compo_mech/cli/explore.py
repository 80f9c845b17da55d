"""What `explore` does: a page to explore a run with, whose networks run in the browser on whatever is typed."""

import shlex
from pathlib import Path

import torch
from rich.console import Console

from compo_mech.analyses.exploration import explore
from compo_mech.cli.errors import one_line_errors
from compo_mech.cli.output import check_out, say, warn
from compo_mech.cli.progress import counting
from compo_mech.report.document import write_page
from compo_mech.report.explorer import MAX_BYTES, check_explorable, explorer_page, fitting_checkpoints
from compo_mech.runs.run import Run


def write_explorer(run: Path, n_checkpoints: int | None, seed: int, out: Path) -> None:
    """Make a page to explore RUN with.

    Args:
        run: its folder.
        n_checkpoints: evenly spaced, the first and the last among them; None: 4 to 12, as many as 4 MB hold.
        seed: of the strings that are drawn.
        out: the page, .html.
    """
    torch.set_num_threads(1)
    console = Console()
    with one_line_errors():
        check_out(out, ".html")
        opened = Run.open(run)
        check_explorable(opened.config)
        for problem in opened.damage():
            warn(console, problem)
        n = fitting_checkpoints(opened.config) if n_checkpoints is None else n_checkpoints
        with counting(console) as bar:
            shown = bar.add_task(opened.name, total=None)

            def advance(what: str, n_parts: int) -> None:
                bar.update(shown, description=what, total=n_parts, advance=1)

            found = explore(opened, n, seed, advance)
        words = ["compo-mech", "explore", str(run), "--n-checkpoints", str(n), "--seed", str(seed), "--out", str(out)]
        page = explorer_page(found, shlex.join(words))
        write_page(page, out)
        if len(page) > MAX_BYTES:
            warn(console, f"The page has {len(page) / 1e6:.1f} MB; fewer --n-checkpoints make it smaller.")
        say(console, f"Look at {out}")
