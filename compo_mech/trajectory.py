"""A measure over every checkpoint of a run: resumable, and remembered with what produced it.

Results are kept in the run's folder under a key of the measure's name and settings, of the source code
that measures, and of each checkpoint's own checksum. A second call computes what is missing; other
settings, other code or another checkpoint compute anew.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from compo_mech.graph import Model
from compo_mech.runs import Run, RunError


class Measured(NamedTuple):
    """One figure of one checkpoint, with its interval."""

    measure: str
    site: str
    value: float
    low: float
    high: float


CONTROL_STEP = -1
"""Step of the rows of the freshly initialised network."""

COLUMNS = ("step", "checksum", *Measured._fields)


def follow(
    run: Run,
    name: str,
    settings: Mapping[str, object],
    measure: Callable[[Model], Sequence[Measured]],
    code: Path,
    advance: Callable[[int, str | None], None] = lambda step, problem: None,
) -> pd.DataFrame:
    """Every checkpoint's figures and, first, those of a freshly initialised network.

    Args:
        run: whose checkpoints.
        name: of the measure.
        settings: of it, as JSON takes them: what makes its figures others.
        measure: asks one network.
        code: folder of the source files, beside the package's, that the figures depend on.
        advance: told each step as it is done, and what is wrong with it if it cannot be read.

    Returns:
        Columns step (`CONTROL_STEP` for the control), measure, site, value, low, high. Checkpoints that are missing or
        damaged have no rows.
    """
    key = _key(name, settings, code)
    known = run.remembered(f"{name}-{key}")
    table = pd.DataFrame(columns=list(COLUMNS)) if known is None else known
    config, sums = run.config.model, run.checksums
    done = set(zip(table["step"], table["checksum"], strict=True))
    for step in (CONTROL_STEP, *sums):
        checksum = sums.get(step, "")
        problem = None
        if (step, checksum) not in done:
            try:
                params = run.control() if step == CONTROL_STEP else run.params(step)
            except RunError as error:
                problem = str(error)
            else:
                rows = pd.DataFrame([(step, checksum, *m) for m in measure(Model(params, config))], columns=COLUMNS)
                table = rows if table.empty else pd.concat([table, rows], ignore_index=True)
                run.remember(f"{name}-{key}", table)
        advance(step, problem)
    wanted = {(CONTROL_STEP, ""), *sums.items()}
    kept = [place in wanted for place in zip(table["step"], table["checksum"], strict=True)]
    table = table[kept].drop(columns="checksum")
    return table.sort_values("step", kind="stable").reset_index(drop=True)


def _key(name: str, settings: Mapping[str, object], code: Path) -> str:
    told = json.dumps([name, dict(settings)], sort_keys=True, default=str)
    return hashlib.sha256((told + _source(Path(__file__).parent) + _source(code)).encode()).hexdigest()[:16]


@functools.cache
def _source(folder: Path) -> str:
    """Checksum of all source files of a folder."""
    found = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        found.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return found.hexdigest()
