"""A measure over every checkpoint of a run: resumable, and cached under what produced it.

Results are kept in the run's folder under a key of the measure's name and settings, of the source code
that measures, and of each checkpoint's own checksum. A second call computes what is missing; other settings, other code
or another checkpoint are computed again.
"""

import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from compo_mech import parallel
from compo_mech.model.params import Model
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.run import Run
from compo_mech.runs.source import source_checksum


class Measured(NamedTuple):
    """One figure of one checkpoint, with its interval."""

    measure: str
    site: str
    value: float
    low: float
    high: float


CONTROL_STEP = -1
"""Step of the rows of the freshly initialised network."""

REMEMBER_EVERY = 1.0
"""Seconds between writings of what is known so far: a process killed in between loses that much."""
NetworkMeasure = Callable[[Model], Sequence[Measured]]
COLUMNS = ("step", "checksum", *Measured._fields)


def follow(
    run: Run,
    name: str,
    settings: Mapping[str, object],
    measure: NetworkMeasure,
    code: str,
    advance: Callable[[int, str | None], None] = lambda step, problem: None,
    steps: Sequence[int] | None = None,
    n_workers: int = 1,
) -> pd.DataFrame:
    """Every checkpoint's figures and, first, those of a freshly initialised network.

    Args:
        run: whose checkpoints.
        name: of the measure.
        settings: of the measure, as JSON takes them; other settings give other figures.
        measure: asks one network. With several workers it has to survive pickling between processes of one machine:
            a function of a module, or a functools.partial of one.
        code: name of the module that the measure is in: the figures depend on it and on what it imports.
        advance: told each step as it is done, and what is wrong with it if it cannot be read.
        steps: which checkpoints; None: all of them.
        n_workers: processes, one thread each; 1: this one.

    Returns:
        Columns step (`CONTROL_STEP` for the control), measure, site, value, low, high. Checkpoints that are missing or
        damaged have no rows.

    Raises:
        ValueError: a step has no checkpoint.
        ProcessDied: a worker died of a checkpoint, twice; what the others found is remembered.
    """
    key = _key(name, settings, code)
    known = run.remembered(f"{name}-{key}")
    table = pd.DataFrame(columns=list(COLUMNS)) if known is None else known
    wanted = {CONTROL_STEP: "", **run.checksums}
    if steps is not None:
        for step in steps:
            if step not in wanted:
                raise ValueError(f"step = {step}: must be one of {' '.join(map(str, run.steps))}")
        wanted = {step: wanted[step] for step in (CONTROL_STEP, *steps)}
    done = set(zip(table["step"], table["checksum"], strict=True))
    for step in (step for step, checksum in wanted.items() if (step, checksum) in done):
        advance(step, None)
    missing = [step for step, checksum in wanted.items() if (step, checksum) not in done]
    found, written = [table] if len(table) else [], time.monotonic()
    try:
        for step, problem, rows in _asked(run, missing, measure, n_workers):
            if problem is None:
                found.append(pd.DataFrame([(step, wanted[step], *m) for m in rows], columns=list(COLUMNS)))
                if time.monotonic() - written > REMEMBER_EVERY:
                    found = [pd.concat(found, ignore_index=True)]
                    run.remember(f"{name}-{key}", found[0])
                    written = time.monotonic()
            advance(step, problem)
    finally:
        table = pd.concat(found, ignore_index=True) if found else table
        if missing and found:
            run.remember(f"{name}-{key}", table)
    kept = [wanted.get(step) == checksum for step, checksum in zip(table["step"], table["checksum"], strict=True)]
    table = table[kept].drop(columns="checksum")
    return table.sort_values("step", kind="stable").reset_index(drop=True)


Answer = tuple[int, str | None, Sequence[Measured]]
"""Step, what is wrong with it, and its figures."""


def _asked(run: Run, steps: Sequence[int], measure: NetworkMeasure, n_workers: int) -> Iterator[Answer]:
    if n_workers == 1 or len(steps) < 2:
        yield from (_ask(run, measure, step) for step in steps)
        return
    for _, answer in parallel.each(functools.partial(_ask, run, measure), steps, n_workers):
        if isinstance(answer, Exception):
            raise answer
        yield answer


def _ask(run: Run, measure: NetworkMeasure, step: int) -> Answer:
    try:
        params = run.control() if step == CONTROL_STEP else run.params(step)
    except RunError as error:
        return step, str(error), ()
    return step, None, list(measure(Model(params, run.config.model)))


def _key(name: str, settings: Mapping[str, object], code: str) -> str:
    told = json.dumps([name, dict(settings)], sort_keys=True, default=str)
    return hashlib.sha256((told + source_checksum(code)).encode()).hexdigest()[:16]
