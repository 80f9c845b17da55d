"""What analyses and figures tell whoever ran them: how far they are, what they found, or what is wrong in one line."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from compo_mech.command_line import fail
from compo_mech.runs import Run, RunError, analysis_name
from compo_mech.tasks import Task


@contextmanager
def complaints() -> Iterator[None]:
    """Inside, what is wrong with a run, a setting or a file ends the script with one line and code 2."""
    try:
        yield
    except (RunError, ValueError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: cannot be read or written ({error.strerror})" if error.filename else str(error))


def counting(console: Console) -> Progress:
    """A bar that counts, with the time gone and left; it goes when it is done."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True)


def keep(
    run: Run,
    what: str,
    step: int,
    task: Task,
    files: Mapping[str, str],
    said: Sequence[str],
    console: Console,
    table: pd.DataFrame | None = None,
) -> None:
    """Keep an analysis in the run's folder, and tell what it found.

    Args:
        run: that was analysed.
        what: name of the analysis.
        step, task: of it.
        files: texts by file name, to which what was said is added.
        said: sentences.
        console: where to tell.
        table: to be shown there.

    Raises:
        RunError: it cannot be written.
    """
    folder = run.write_analysis(analysis_name(what, step, task), {**files, "findings.txt": "\n".join(said) + "\n"})
    console.print(f"{task}, step {step}", highlight=False)
    if table is not None:
        console.print(table.to_string(index=False), highlight=False, soft_wrap=True)
    for sentence in said:
        console.print(f"• {sentence}", highlight=False)
    console.print(f"Tables: {folder}", highlight=False)


def table_of(path: Path, script: str, columns: Sequence[str]) -> pd.DataFrame:
    """A table that a script wrote, with these columns and maybe others.

    Raises:
        ValueError: it cannot be read, or lacks a column.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"table = {path}: must be a table by {script} ({error})") from None
    if missing := [name for name in columns if name not in table]:
        raise ValueError(f"table = {path}: must be a table by {script} (it has no column {missing[0]})")
    return table
