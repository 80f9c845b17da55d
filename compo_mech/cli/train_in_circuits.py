"""The command that trains given circuits into networks and verifies them: thirty networks and a table of them."""

from pathlib import Path

from rich.console import Console

from compo_mech.cli.command import NWorkers
from compo_mech.cli.errors import one_line_errors
from compo_mech.cli.output import check_out, say, warn
from compo_mech.cli.progress import counting
from compo_mech.cli.tables import print_table
from compo_mech.ground_truth.trained_in import TABLE, Recipe, read_table, recipes, table_row, written_table
from compo_mech.ground_truth.verification import Verification
from compo_mech.model.params import Params
from compo_mech.parallel import each
from compo_mech.runs.files import write_whole
from compo_mech.runs.tensor_files import tensors_as_bytes

SHOWN = (
    *("name", "accepted", "accuracy", "outside_accuracy", "outside_change"),
    *("least_true_change", "greatest_other_change"),
)


def train_in_circuits_command(out: Path = Path("tests/data/trained_in"), n_workers: NWorkers = 1) -> None:
    """Train a circuit into each of thirty networks and verify it, which takes about half an hour on one core.

    Networks that the table already has are kept; in an empty folder all are made.

    Args:
        out: folder of the weights that are accepted and of networks.json, the table of all.
        n_workers: networks that are trained at a time.
    """
    import pandas as pd

    console = Console()
    with one_line_errors(), counting(console) as bar:
        check_out(out / TABLE, ".json")
        rows = {row["name"]: row for row in read_table(out)}
        left = [recipe for recipe in recipes() if recipe.name not in rows]
        task = bar.add_task("training", total=len(left))
        for i, result in each(_trained, left, n_workers):
            if isinstance(result, Exception):
                raise result
            params, found, n_rounds = result
            content = tensors_as_bytes(params)
            rows[left[i].name] = table_row(left[i], content, found, n_rounds)
            if found.problems:
                warn(console, f"{left[i].name} is not accepted: {found.problems[0]}")
            else:
                write_whole(out / f"{left[i].name}.safetensors", content)
            table = [rows[recipe.name] for recipe in recipes() if recipe.name in rows]
            write_whole(out / TABLE, written_table(table))
            bar.advance(task)
    table = pd.DataFrame(rows.values())
    print_table(console, table[list(SHOWN)])
    say(console, f"{table['accepted'].sum()} of {len(table)} networks are accepted; see {out / TABLE}")


def _trained(recipe: Recipe) -> tuple[Params, Verification, int]:
    model, found, n_rounds = recipe.train()
    return model.params, found, n_rounds
