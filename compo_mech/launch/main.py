"""What a training script runs, and what a person sees of it. What --help need not wait for is imported where it is
used."""

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from compo_mech.cli.errors import fail, one_line_errors
from compo_mech.cli.stdout import print_help
from compo_mech.evaluation.table import of_lengths
from compo_mech.launch.settings import Launch, parse
from compo_mech.runs import recipes
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.config import RunConfig

if TYPE_CHECKING:
    import pandas as pd

    from compo_mech.runs.run import Run


def train_command(argv: Sequence[str], prog: str) -> None:
    """Train with a recipe, the first word, whose settings the others change. Exits as `main`."""
    names = ", ".join(recipes.RECIPES)
    if argv[:1] in (["--help"], ["-h"]):
        about = f"Train with a recipe: {names}.\n{prog} RECIPE --help tells every setting."
        print_help(f"usage: {prog} RECIPE [settings]\n\n{about}")
        return
    if not argv or argv[0] not in recipes.RECIPES:
        fail(f"recipe = {argv[0] if argv else 'missing'}: must be one of {names}")
    recipe = recipes.RECIPES[argv[0]]
    main(recipe(), argv[1:], recipe.__doc__, f"{prog} {argv[0]}")


def main(
    default: RunConfig, argv: Sequence[str] | None = None, description: str | None = None, prog: str | None = None
) -> None:
    """What a training script runs: settings from the command line, a run, and what came of it.

    Exits with code 2 and one line on bad input, and with code 1 where training diverges.

    Args:
        default: the script's settings, each of which the command line can change.
        argv: None: the process' arguments.
        description: what the script does, for --help.
        prog: what the command is called; None: the script's name.
    """
    settings = parse(default, argv, description, prog)
    from compo_mech.cli.output import check_page
    from compo_mech.launch.run import Diverged, launch

    console = Console()
    with one_line_errors(lambda: _how_to_go_on(settings)):
        check_page(settings.path)
        try:
            run = launch(settings, console)
        except Diverged as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        except OSError as error:
            fail(f"run = {settings.path}: cannot be written ({error.strerror})")
        finish(run, console)


def _how_to_go_on(settings: Launch) -> str:
    """What to do after Ctrl-C: there may be a checkpoint to go on from, or none yet."""
    from compo_mech.runs.run import Run

    try:
        has_checkpoint = bool(Run.open(settings.path).steps)
    except RunError:
        has_checkpoint = False
    if has_checkpoint:
        return f"the same command with --resume goes on with {settings.path}"
    return "there was no checkpoint yet, so the same command begins again"


def finish(run: "Run", console: Console) -> None:
    """The final table and sentence on the terminal, and the report."""
    from compo_mech.analyses.headline import run_causes
    from compo_mech.cli.output import say
    from compo_mech.report.run_page import write_page
    from compo_mech.runs import outcome

    config, measured, causes = run.config, run.metrics, run_causes(run)
    for task in map(str, config.data.measured_tasks):
        for table in _tables(outcome.length_table(measured, task), task, console.width):
            console.print(table)
        trained = of_lengths(measured, config.data.drawn_lengths)
        console.print(Text(outcome.run_sentence(trained, task, causes[task])), highlight=False)
    say(console, f"Look at {write_page(run, causes)}")


def _tables(rows: "pd.DataFrame", title: str, width: int) -> Iterator[Table]:
    """The table by length and head, in as many tables as the terminal's width asks for."""
    heads = [name for name in rows.columns if name.startswith("L")]
    plain = [name for name in rows.columns if name not in heads]
    n_first, n_later = (max(1, (width - taken) // 14) for taken in (36, 8))  # a head takes about 14 characters
    later = range(n_first, len(heads), n_later)
    parts = [heads[:n_first], *(heads[i : i + n_later] for i in later)]
    for i, part in enumerate(parts):
        caption = "in brackets: a randomly initialised control" if i == len(parts) - 1 else None
        table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), caption=caption)
        shown = [*plain, *part] if i == 0 else [plain[0], *part]
        for name in shown:
            table.add_column(name, justify="right", no_wrap=name not in heads)
        for _, row in rows[shown].iterrows():
            table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row))
        yield table
