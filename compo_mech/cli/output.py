"""What analyses leave in a run's folder and tell whoever ran them, and tables that scripts read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.text import Text

from compo_mech.runs.files import write_whole
from compo_mech.runs.run import Run


@dataclass(frozen=True)
class Output:
    """What is left of an analysis.

    Attributes:
        folder: among the run's analyses.
        title: above its sentences.
        files: texts by file name, to which the sentences are added.
        sentences: by heading; "" is no heading.
        table: to be shown on the terminal.
    """

    folder: str
    title: str
    files: Mapping[str, str]
    sentences: Mapping[str, Sequence[str]]
    table: pd.DataFrame | None = None


def keep(run: Run, output: Output, console: Console) -> None:
    """Keep the output of an analysis in the run's folder, and tell what was found.

    Raises:
        RunError: it cannot be written.
    """
    said = [sentence for sentences in output.sentences.values() for sentence in sentences]
    folder = run.write_analysis(output.folder, {**output.files, "findings.txt": "\n".join(said) + "\n"})
    say(console, output.title)
    if output.table is not None:
        say(console, output.table.to_string(index=False))
    for heading, sentences in output.sentences.items():
        if heading:
            say(console, heading)
        for sentence in sentences:
            console.print(Text(f"• {sentence}"), highlight=False)
    say(console, f"Tables: {folder}")


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print a line as it is: what stands in brackets or between colons is part of a name, and no style."""
    console.print(Text(text, style=style or ""), highlight=False, soft_wrap=True)


def warn(console: Console, text: str) -> None:
    """Print a line about something that is left out or wrong."""
    say(console, text, "yellow")


def write_table(out: Path, table: pd.DataFrame, float_format: str | None = None) -> None:
    """Write a table as .csv, whole or not at all. Text that a spreadsheet would compute is quoted by an apostrophe.

    Raises:
        OSError: it cannot be written.
    """
    texts = [name for name in table.columns if table[name].dtype in ("object", "string")]
    plain = table.assign(**{name: table[name].map(_plain, na_action="ignore") for name in texts})
    write_whole(out, plain.to_csv(index=False, float_format=float_format))


def _plain(cell: object) -> object:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def csv_files(tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Tables as texts by file name."""
    return {f"{name}.csv": table.to_csv(index=False) for name, table in tables.items()}


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
