"""Measurements of a language model in units that are kept one by one, so that a study goes on where it was stopped."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from compo_mech.cli.output import write_table
from compo_mech.cli.progress import counting

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, object]
Unit = Callable[[], Sequence[Row]]
"""Measures one prompt, or a few that share a prefix."""


def measured(folder: Path, part: str, units: Mapping[str, Unit], console: Console) -> "pd.DataFrame":
    """Return the rows of all units, of which those that are in the folder are not measured again.

    Args:
        folder: where each unit's rows are kept as `PART/UNIT.csv`.
        part: of the study.
        units: by name.
        console: where the bar is shown, with the time left.
    """
    import pandas as pd

    kept = folder / part
    kept.mkdir(parents=True, exist_ok=True)
    tables = []
    with counting(console) as bar:
        task = bar.add_task(part, total=len(units))
        for name, unit in units.items():
            path = kept / f"{name}.csv"
            if not path.is_file():
                write_table(path, pd.DataFrame(unit()), float_format="%.6g")
            tables.append(pd.read_csv(path, encoding="utf-8").assign(part=part, unit=name))
            bar.advance(task)
    return pd.concat(tables, ignore_index=True)
