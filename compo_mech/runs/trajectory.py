"""A measure over every checkpoint of a run: resumable, and cached under what produced it.

Results are kept in the run's folder under a key of the measure's name and settings, of the source code that measures,
and of each checkpoint's own checksum. A second call computes what is missing; other settings, other code or another
checkpoint are computed again.
"""

import contextlib
import functools
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from compo_mech import parallel
from compo_mech.model.blocks import ROWS_AT_ONCE
from compo_mech.model.params import Model
from compo_mech.products import fast_products
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.run import Run
from compo_mech.runs.source import source_checksum

if TYPE_CHECKING:
    import pandas as pd


class Quantity(NamedTuple):
    """What is measured, and of what: one curve over training, one cell of a table.

    Attributes:
        measure: its name.
        statistic: which of the measure's figures: its value, its placebo's, an ablation's cost, the share of a route.
        variable: of the algorithm, for what is about one.
        context: of the sources of an interchange.
        site: kind of the site, or its name on pages.
        layer: of the site.
        head: None for what is about all heads of a layer together, or about none.
    """

    measure: str
    statistic: str = "value"
    variable: str | None = None
    context: str | None = None
    site: str | None = None
    layer: int | None = None
    head: int | None = None

    @classmethod
    def of(cls, row: Mapping) -> "Quantity":
        """Return what a table's row is about."""
        import pandas as pd

        return cls(**{name: row[name] for name in cls._fields if not pd.isna(row[name])})

    def rows(self, table: "pd.DataFrame") -> "pd.DataFrame":
        """Return the rows of a table that hold this quantity."""
        for name, value in self._asdict().items():  # the first leaves few for the others to look at
            wanted = table[name].isna() if value is None else table[name].eq(value).fillna(False).astype(bool)
            table = table[wanted]
        return table


class Measured(NamedTuple):
    """One figure of one network, with its interval; nan where it has none."""

    quantity: Quantity
    value: float
    low: float = math.nan
    high: float = math.nan


REMEMBER_EVERY = 1.0
"""Seconds between writings of what is known so far: a process killed in between loses that much."""
NetworkMeasure = Callable[[Model], Sequence[Measured]]

Step = int | None
"""Step of a checkpoint; None for the randomly initialised control, which has none."""

KINDS = dict.fromkeys(("network", "measure", "statistic", "variable", "context", "site"), "string") | dict.fromkeys(
    ("step", "layer", "head"), "Int64"
)


def as_table(step: Step, rows: Sequence[Measured]) -> "pd.DataFrame":
    """Lay out one network's figures, with columns network (`trained` or `control`), step, those of `Quantity`, value,
    low and high."""
    import pandas as pd

    columns = ["network", "step", *Quantity._fields, *Measured._fields[1:]]
    network = "control" if step is None else "trained"
    return pd.DataFrame([(network, step, *row.quantity, *row[1:]) for row in rows], columns=columns).astype(KINDS)


class _Memory:
    """The figures known of a run's checkpoints, written into its folder now and then."""

    def __init__(self, run: Run, name: str) -> None:
        self.run, self.name, self._written = run, name, time.monotonic()
        known = run.remembered(name)
        self._tables = [] if known is None or not len(known) else [known.astype(KINDS)]

    def add(self, step: Step, checksum: str, rows: Sequence[Measured]) -> None:
        self._tables.append(as_table(step, rows).assign(checksum=checksum))
        if time.monotonic() - self._written > REMEMBER_EVERY:
            self.write()
            self._written = time.monotonic()

    def write(self) -> None:
        if self._tables:
            with contextlib.suppress(RunError):  # a run that is only read is measured anew each time
                self.run.remember(self.name, self.table)

    @property
    def table(self) -> "pd.DataFrame":
        import pandas as pd

        if not self._tables:
            return as_table(None, []).assign(checksum="")
        self._tables = [pd.concat(self._tables, ignore_index=True)]
        return self._tables[0]

    def stamps(self) -> list[tuple[Step, str]]:
        """Return step and checksum of each row."""
        import pandas as pd

        table = self.table
        steps = [None if pd.isna(step) else int(step) for step in table["step"]]
        return list(zip(steps, table["checksum"].fillna(""), strict=True))


def follow(
    run: Run,
    name: str,
    settings: Mapping[str, object],
    measure: NetworkMeasure,
    code: str,
    advance: Callable[[Step, str | None], None] = lambda step, problem: None,
    steps: Sequence[int] | None = None,
    n_workers: int = 1,
) -> "pd.DataFrame":
    """Measure the randomly initialised control and every checkpoint, in this order.

    Args:
        run: whose checkpoints.
        name: of the measure.
        settings: of the measure, as JSON takes them; other settings give other figures.
        measure: asks one network. With several workers it has to survive pickling between processes of one machine:
            a function of a module, or a functools.partial of one.
        code: name of the module that the measure is in: the figures depend on it and on what it imports.
        advance: called with each step as it is done, and with what is wrong with it if it cannot be read.
        steps: which checkpoints; None: all of them.
        n_workers: processes, one thread each; 1: this one.

    Returns:
        The columns of `as_table`, the control first. Checkpoints that are missing or damaged, or of which a worker
        died, twice, have no rows.

    Raises:
        ValueError: a step has no checkpoint.
    """
    wanted = _wanted(run, steps)
    memory = _Memory(run, f"{name}-{_key(name, settings, code)}")
    done = set(memory.stamps())
    for step in (step for step, checksum in wanted.items() if (step, checksum) in done):
        advance(step, None)
    missing = [step for step, checksum in wanted.items() if (step, checksum) not in done]
    try:
        for step, problem, rows in _asked(run, missing, measure, n_workers):
            if problem is None:
                memory.add(step, wanted[step], rows)
            advance(step, problem)
    finally:
        if missing:
            memory.write()
    kept = [wanted.get(step) == checksum for step, checksum in memory.stamps()]
    table = memory.table.loc[kept].drop(columns="checksum")  # a mere list, empty, would choose columns
    return table.sort_values("step", kind="stable", na_position="first").reset_index(drop=True)


def _wanted(run: Run, steps: Sequence[int] | None) -> dict[Step, str]:
    """Return the checksum of each checkpoint that is asked for, the control's, which is empty, among them."""
    known = run.checksums
    for step in steps or ():
        if step not in known:
            raise ValueError(f"step = {step}: must be one of {' '.join(map(str, run.steps))}")
    return {None: ""} | {step: known[step] for step in (known if steps is None else steps)}


Answer = tuple[Step, str | None, Sequence[Measured]]
"""Step, what is wrong with it, and its figures."""


def _asked(run: Run, steps: Sequence[Step], measure: NetworkMeasure, n_workers: int) -> Iterator[Answer]:
    if n_workers == 1 or len(steps) < 2:
        yield from (_ask(run, measure, step) for step in steps)
        return
    for place, answer in parallel.each(functools.partial(_ask, run, measure), steps, n_workers):
        if isinstance(answer, parallel.ProcessDied):
            yield steps[place], str(answer), ()
        elif isinstance(answer, Exception):
            raise answer
        else:
            yield answer


def _ask(run: Run, measure: NetworkMeasure, step: Step) -> Answer:
    try:
        params = run.control() if step is None else run.params(step)
    except RunError as error:
        return step, str(error), ()
    return step, None, answers(measure, Model(params, run.config.model))


def answers(measure: NetworkMeasure, model: Model) -> list[Measured]:
    """What a measure finds of a network, one of many that it is asked of."""
    with fast_products(model.config.largest_product(ROWS_AT_ONCE)):
        return list(measure(model))


def _key(name: str, settings: Mapping[str, object], code: str) -> str:
    asked = json.dumps([name, dict(settings)], sort_keys=True, default=str)
    return hashlib.sha256((asked + source_checksum(code)).encode()).hexdigest()[:16]
