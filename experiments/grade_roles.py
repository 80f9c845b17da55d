"""Name the heads and MLPs of networks whose truth is known, and count what is said by what is true.

python experiments/grade_roles.py

The table, figures/results/named_roles.csv, has a row for each kind of network, question, true and said role. It takes
about five minutes on one core.
"""

from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from compo_mech.analyses.named_roles import confusion, named
from compo_mech.cli.command import call
from compo_mech.cli.errors import one_line_errors
from compo_mech.cli.output import check_out, say, write_table
from compo_mech.cli.tables import print_table
from compo_mech.data.tasks import Parity


def grade_roles(out: Path = Path("figures/results/named_roles.csv")) -> None:
    """Name the components of hand-built circuits and decoys of parity, random and wrongly trained networks.

    Args:
        out: the table.
    """
    torch.set_num_threads(1)
    console = Console()
    with one_line_errors():
        check_out(out, ".csv")
        table = confusion(track(named(Parity()), "naming", total=None, console=console))
        write_table(out, table)
    print_table(console, table)
    say(console, f"The table is {out}")


if __name__ == "__main__":
    call(grade_roles, description=__doc__)
