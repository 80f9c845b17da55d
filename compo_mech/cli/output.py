"""What analyses and figures tell whoever ran them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from compo_mech.data.tasks import Task
from compo_mech.runs.run import Run, analysis_name


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
