"""The command that grades every edge scorer on networks whose circuit is known: one table and one page."""

from functools import partial
from pathlib import Path

import torch
from rich.console import Console

from compo_mech.cli.command import Count, NWorkers, Seed
from compo_mech.cli.errors import one_line_errors
from compo_mech.cli.output import check_out, say, warn, write_table
from compo_mech.cli.progress import counting
from compo_mech.cli.tables import print_table
from compo_mech.ground_truth.families import subjects
from compo_mech.ground_truth.method_card import CARD, by_family, grades
from compo_mech.parallel import each
from compo_mech.report.document import write_page
from compo_mech.report.method_card import method_card_page

PAGE = Path("figures/results/method_card.html")
"""Where the page lies in a checkout."""


def grade_methods_command(
    out: Path | None = None,
    networks: Path = Path("tests/data"),
    n_pairs: Count = 48,
    n_workers: NWorkers = 1,
    seed: Seed = 0,
) -> None:
    """Write the method card and its page, which takes about twenty minutes on one core.

    Args:
        out: folder of method_card.csv and method_card.html; None: the card goes into the package, which tells it in
            every dissection, and the page into figures/results.
        networks: folder with those that were compiled or trained, in a folder each.
        n_pairs: of each counterfactual.
        n_workers: networks that are graded at a time.
        seed: of all that is drawn.
    """
    import pandas as pd

    card, page = (CARD, PAGE) if out is None else (out / CARD.name, out / PAGE.name)
    console = Console()
    with one_line_errors():
        check_out(card, ".csv")
        check_out(page, ".html")
        torch.set_num_threads(1)
        every = subjects(networks)
        if "Tracr" not in {subject.family for subject in every}:
            warn(console, f"there are no compiled programs in {networks / 'tracr'}: the card is without them")
        rows: dict[int, list[dict[str, object]]] = {}
        with counting(console) as bar:
            task = bar.add_task("grading", total=len(every))
            for i, result in each(partial(grades, n_pairs=n_pairs, seed=seed), every, n_workers):
                if isinstance(result, Exception):
                    raise result
                rows[i] = result
                bar.advance(task)
        table = pd.DataFrame([row for i in sorted(rows) for row in rows[i]])
        write_table(card, table)
        write_page(method_card_page(table), page)
    print_table(console, by_family(table))
    say(console, f"The card is {card}; look at {page}")
