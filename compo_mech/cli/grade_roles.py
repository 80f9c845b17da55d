"""The names of heads and MLPs of networks whose truth is known, counted by that, as a command."""

from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from compo_mech.cli.errors import one_line_errors
from compo_mech.cli.output import check_out, say, write_table
from compo_mech.cli.tables import print_table
from compo_mech.data.tasks import Parity


def grade_roles(out: Path = Path("figures/results/named_roles.csv")) -> None:
    """Name the components of hand-built circuits and decoys of parity, random and wrongly trained networks.

    Args:
        out: the table.
    """
    from compo_mech.analyses.named_roles import confusion, named  # with pandas, which --help need not wait for

    torch.set_num_threads(1)
    console = Console()
    with one_line_errors():
        check_out(out, ".csv")
        table = confusion(track(named(Parity()), "naming", total=None, console=console))
        write_table(out, table)
    print_table(console, table)
    say(console, f"The table is {out}")
