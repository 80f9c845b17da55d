"""Grade every edge scorer and counterfactual on hand-built circuits: one table and one page.

python experiments/grade_methods.py            writes figures/results/method_card.csv and .html
"""

from pathlib import Path

import pandas as pd
import torch
import tyro
from rich.progress import track

from compo_mech.circuits.scorers import SCORERS
from compo_mech.ground_truth.build import solves
from compo_mech.ground_truth.method_card import COUNTERFACTUALS, RUNGS, TASKS, method_card
from compo_mech.report.method_card import method_card_page


def main(out: Path = Path("figures"), n_pairs: int = 48, seed: int = 0) -> None:
    """About ten minutes on one core."""
    torch.set_num_threads(1)
    n_builds = sum(solves(task, rungs) for task in TASKS for rungs in RUNGS.values())
    n_cells = n_builds * len(COUNTERFACTUALS) * len(SCORERS)
    table = pd.DataFrame(track(method_card(n_pairs, seed), "grading", total=n_cells))
    table.to_csv(out / "method_card.csv", index=False)
    (out / "method_card.html").write_text(method_card_page(table))
    summary = table.pivot_table(index="counterfactual", columns="method", values="auc_all", sort=False)
    print(summary.round(3).to_string())


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
