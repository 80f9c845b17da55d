"""What analyses leave in a run's folder and tell whoever ran them, and tables that scripts read."""

import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from compo_mech.cli.tables import print_table
from compo_mech.report.html_parts import again
from compo_mech.runs.analysis_folder import write_folder
from compo_mech.runs.files import identity, write_whole
from compo_mech.runs.folder import owner
from compo_mech.runs.run import Run

if TYPE_CHECKING:
    import pandas as pd


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
    table: "pd.DataFrame | None" = None


def keep(run: Run, output: Output, console: Console, out: Path | None, command: Sequence[str]) -> None:
    """Keep the output of an analysis in the run's folder, or in another, and tell what was found.

    Args:
        run: that was analysed.
        output: what is left of it.
        console: is told.
        out: the other folder; None: the run's.
        command: makes this again, as words after `python`.

    Raises:
        RunError: it cannot be written.
    """
    said = [sentence for sentences in output.sentences.values() for sentence in sentences]
    files = {**output.files, "findings.txt": "\n".join(said) + "\n"}
    if "section.html" in files:
        files["section.html"] += again(command)
    if out is None:
        folder = run.write_analysis(output.folder, files)
    else:
        folder = out / output.folder
        write_folder(folder, files)
    say(console, output.title)
    if output.table is not None:
        print_table(console, output.table)
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


def write_table(out: Path, table: "pd.DataFrame", float_format: str | None = None) -> None:
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


def csv_files(tables: "Mapping[str, pd.DataFrame]") -> dict[str, str]:
    """Tables as texts by file name."""
    return {f"{name}.csv": table.to_csv(index=False) for name, table in tables.items()}


def check_writable(folder: Path) -> None:
    """Try whether files can be made in a folder; nothing is left there.

    Raises:
        OSError: they cannot.
    """
    with tempfile.TemporaryFile(dir=folder) as file:  # permissions do not tell: file systems can be read-only, or full
        file.write(bytes(1))
        file.flush()


def check_page(run: Path) -> None:
    """Before anything is computed: whether a run's page can be written, or replaced.

    Raises:
        ValueError: what is there is no file.
    """
    page = run / "report.html"
    if os.path.lexists(page) and not page.is_file():
        raise ValueError(f"page = {page}: must be a file, or not be there yet")


def check_out(out: Path, *endings: str) -> None:
    """Before anything is computed: whether a file can be written there.

    Raises:
        ValueError: it has another ending, its folder is not there, nothing can be written into that, or what is there
            is a link or a run's own.
    """
    if out.suffix not in endings:
        raise ValueError(f"out = {out}: must end in {' or '.join(endings)}")
    if not out.parent.is_dir():
        raise ValueError(f"out = {out}: must be in a folder that exists")
    try:
        if out.is_symlink():
            raise ValueError(f"out = {out}: must be no link; {identity(out)} has to be named itself")
        if out.exists() and not out.is_file():
            raise ValueError(f"out = {out}: cannot be written (must be a file, or not be there yet)")
        if (run := owner(out)) is not None:
            raise ValueError(f"out = {out}: must not be a file of the run {run.name}")
        check_writable(out.parent)
        if out.exists():
            out.open("ab").close()
    except OSError as error:
        raise ValueError(f"out = {out}: cannot be written ({error.strerror})") from None


def table_of(
    path: Path,
    script: str,
    columns: Sequence[str],
    numbers: Sequence[str] = (),
    filled: Sequence[str] = (),
    failed: str | None = None,
) -> "pd.DataFrame":
    """A table that a script wrote, with these columns and maybe others.

    Args:
        path: of the table.
        script: that writes such tables.
        columns: it must have; what they hold is taken for text, whatever it looks like.
        numbers: columns of numbers, which it must have as well.
        filled: of both, those that have something in every row.
        failed: a column in which rows of failed runs say why, which alone need not be filled; None: there are no such.

    Raises:
        ValueError: it cannot be read, has no rows, lacks a column or has one twice, has text where numbers must be, or
            nothing where something must be.
    """
    import pandas as pd

    what = f"table = {path}: must be a table by {script}"
    try:
        heads = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False, encoding="utf-8")
        table = pd.read_csv(path, dtype=dict.fromkeys(set(columns) - set(numbers), str), encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{what} ({error.strerror})") from None
    except ValueError as error:
        raise ValueError(f"{what} ({error})") from None
    if twice := [name for name, n in Counter(heads.iloc[0]).items() if name and n > 1]:
        raise ValueError(f"{what} (it has {twice[0]} as the name of two columns)")
    if missing := [name for name in (*columns, *numbers) if name not in table]:
        raise ValueError(f"{what} (it has no column {missing[0]})")
    if not len(table):
        raise ValueError(f"{what} (it has no rows)")
    for name in numbers:
        words = [value for value in table[name].tolist() if isinstance(value, str | bool)]
        if words:
            raise ValueError(f"{what} (its column {name} has {words[0]!r}, which is no number)")
    came = table[table[failed].isna()] if failed in table else table
    for name in filled:
        if (empty := came[name].isna()).any():
            row = came.index.tolist()[empty.tolist().index(True)]
            raise ValueError(f"{what} (its column {name} is empty in row {row + 1})")
    return table
