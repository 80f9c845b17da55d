"""The command that trains given circuits into networks and verifies them: thirty networks and a table of them."""

import json
from pathlib import Path

import pandas as pd
from rich.console import Console

from compo_mech.cli.command import NWorkers
from compo_mech.cli.errors import one_line_errors
from compo_mech.cli.output import check_out, say, warn
from compo_mech.cli.progress import counting
from compo_mech.cli.tables import print_table
from compo_mech.ground_truth.trained_in import TABLE, Recipe, as_bytes, recipes, table_row
from compo_mech.ground_truth.verification import Verification
from compo_mech.model.params import Params
from compo_mech.parallel import each
from compo_mech.runs.files import write_whole

SHOWN = ("name", "accepted", "accuracy", "outside_accuracy", "outside_change")
EDGES = ("least_true_change", "greatest_other_change")


def train_in_circuits_command(out: Path = Path("tests/data/trained_in"), n_workers: NWorkers = 1) -> None:
    """Train a circuit into each of thirty networks and verify it, which takes about half an hour on one core.

    Args:
        out: folder of the weights that are accepted and of networks.json, the table of all.
        n_workers: networks that are trained at a time.
    """
    console, every = Console(), recipes()
    rows: dict[int, dict] = {}
    with one_line_errors(), counting(console) as bar:
        check_out(out / TABLE, ".json")
        task = bar.add_task("training", total=len(every))
        for i, result in each(_trained, every, n_workers):
            if isinstance(result, Exception):
                raise result
            params, found = result
            content = as_bytes(params)
            rows[i] = table_row(every[i], content, found)
            file = out / f"{every[i].name}.safetensors"
            if found.problems:
                file.unlink(missing_ok=True)  # of a network that was accepted before
                warn(console, f"{every[i].name} is not accepted: {found.problems[0]}")
            else:
                write_whole(file, content)
            bar.advance(task)
        table = [rows[i] for i in sorted(rows)]
        write_whole(out / TABLE, json.dumps({"networks": table}, indent=1, ensure_ascii=False) + "\n")
    print_table(console, pd.DataFrame(table)[[*SHOWN, *EDGES]])
    say(console, f"{sum(row['accepted'] for row in table)} of {len(table)} networks are accepted; see {out / TABLE}")


def _trained(recipe: Recipe) -> tuple[Params, Verification]:
    model, found = recipe.train()
    return model.params, found
