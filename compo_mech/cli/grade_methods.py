"""The command that grades every edge scorer and counterfactual on hand-built circuits: one table and one page."""

from pathlib import Path

import pandas as pd
import torch
from rich.console import Console
from rich.progress import track

from compo_mech.cli.command import Count, Seed
from compo_mech.cli.errors import one_line_errors
from compo_mech.cli.output import check_out, say, write_table
from compo_mech.cli.tables import print_table
from compo_mech.ground_truth.build import solves
from compo_mech.ground_truth.method_card import CARD, COUNTERFACTUALS, RUNGS, SCORERS, TASKS, method_card
from compo_mech.report.document import write_page
from compo_mech.report.method_card import method_card_page

PAGE = Path("figures/results/method_card.html")
"""Where the page lies in a checkout."""


def grade_methods_command(out: Path | None = None, n_pairs: Count = 48, seed: Seed = 0) -> None:
    """Write the method card and its page, which takes about ten minutes on one core.

    Args:
        out: folder of method_card.csv and method_card.html; None: the card goes into the package, which tells it in
            every dissection, and the page into figures/results.
        n_pairs: of each counterfactual.
        seed: of all that is drawn.
    """
    card, page = (CARD, PAGE) if out is None else (out / CARD.name, out / PAGE.name)
    torch.set_num_threads(1)
    console = Console()
    with one_line_errors():
        check_out(card, ".csv")
        check_out(page, ".html")
        n_builds = sum(solves(task, rungs) for task in TASKS for rungs in RUNGS.values())
        n_cells = n_builds * len(COUNTERFACTUALS) * len(SCORERS)
        table = pd.DataFrame(track(method_card(n_pairs, seed), "grading", total=n_cells, console=console))
        write_table(card, table)
        write_page(method_card_page(table), page)
    summary = table.pivot_table(index="counterfactual", columns="method", values="auc_all", sort=False)
    print_table(console, summary.reset_index())
    say(console, f"The card is {card}; look at {page}")
