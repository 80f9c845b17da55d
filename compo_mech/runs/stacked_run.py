"""The runs of a stack, one by one: STACK/seed7 is read as the folder of a run is, and written out as one to the bit."""

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compo_mech.evaluation.table import Row
from compo_mech.model.finite import NotFinite, check_finite
from compo_mech.model.params import Params
from compo_mech.runs.checkpoints import control_of
from compo_mech.runs.files import identity, read_plain
from compo_mech.runs.run import COLUMNS, Run
from compo_mech.runs.stack import Stack, is_stack
from compo_mech.runs.sums import NAME
from compo_mech.runs.vouched import RunError

if TYPE_CHECKING:
    import pandas as pd


class StackedRun:
    """One run of a stack: what studies ask of a run, and nothing that writes into its folder, which it has not.

    Args:
        stack: that it is in.
        name: of the run.

    Attributes:
        path: STACK/NAME.
        config: its settings.

    Raises:
        RunError: the stack has no run of this name.
    """

    def __init__(self, stack: Stack, name: str) -> None:
        names = list(stack.members)
        if name not in stack.members:
            shown = " ".join(names[:8]) + (" ..." if len(names) > 8 else "")
            raise RunError(f"run = {name}: must be one of {shown}, which {stack.path} has")
        self.path, self.config = stack.path / name, stack.members[name]
        self._stack, self._i = stack, names.index(name)

    @property
    def steps(self) -> list[int]:
        """Steps that have a checkpoint, in order."""
        return self._stack.steps

    @property
    def is_done(self) -> bool:
        """Whether it was trained to its end."""
        return self._stack.is_done

    @property
    def metrics(self) -> "pd.DataFrame":
        """All long rows, as those of a run.

        Raises:
            RunError: they are damaged, or the network diverged.
        """
        what, values = self._stack.all_rows()
        own = values[:, self._i]
        self._check_converged()
        kept = ~np.isnan(own)
        return what[kept].assign(value=own[kept]).reset_index(drop=True)

    def params(self, step: int | None = None) -> Params:
        """Read the network's parameters at a step; None: at the last one.

        Raises:
            RunError: there is no checkpoint at this step, its file is damaged, or the network diverged.
        """
        own = {name: tensor[self._i].clone() for name, tensor in self._stack.params(step).items()}
        try:
            for name, tensor in own.items():
                check_finite(f"weight {name}", tensor)
        except NotFinite as error:
            raise RunError(f"run = {self.path}: {error}") from None
        return own

    def control(self) -> Params:
        """Draw the parameters of the randomly initialised control of this configuration."""
        return control_of(self.config)

    def write_run(self, path: Path) -> Run:
        """Write the run as a folder of its own, as it would have been written by itself, and return it.

        Raises:
            RunError: as `params`, or the folder is taken or cannot be written.
        """
        self._check_converged()
        measured, resume = list(self._measured()), self._stack.resume_tensors()
        networks = {step: self.params(step) for step in self.steps}  # all is read before there is a folder
        run = Run.create(path, self.config)
        for step, rows in measured:
            for at in dict.fromkeys(at for at, _ in rows):
                run.add_rows(at, [row for own, row in rows if own == at])
            own = {name: tensor[self._i] if tensor.ndim else tensor for name, tensor in resume.get(step, {}).items()}
            if step in networks:
                run.save(step, networks[step], own)
        run.note_at_once(len(self._stack.members))
        return run

    def _check_converged(self) -> None:
        if (name := self.path.name) in (diverged := self._stack.diverged()):
            raise RunError(f"run = {self.path}: training diverged by step {diverged[name]}")

    def _measured(self) -> Iterator[tuple[int, list[tuple[int, Row]]]]:
        """Each snapshot's step, and the rows of this run since the one before, each with its step."""
        for step, rows in self._stack.measured():
            own = [(row.step, row.what._replace(value=float(row.value[self._i]))) for row in rows]
            yield step, [(at, row) for at, row in own if not math.isnan(row.value)]


AnyRun = Run | StackedRun
"""What a study asks for its scores."""


def open_run(path: str | Path) -> AnyRun:
    """Open the run in this folder; of STACK/NAME, that of the name.

    Raises:
        RunError: there is none, or its settings, or the list of a stack, cannot be read.
    """
    path = Path(path)
    if not is_stack(path.parent):
        return Run.open(path)
    try:
        listed = read_plain(path.parent / "checkpoints" / NAME)
    except OSError:  # what is wrong with the list is told where it is opened
        return StackedRun(Stack.open(path.parent), path.name)
    return StackedRun(_opened(identity(path.parent), listed), path.name)


@functools.lru_cache(maxsize=2)
def _opened(path: Path, sums: bytes) -> Stack:
    """The stack with this list of checksums, opened once for the many runs that are read one after another."""
    return Stack.open(path)


def stack_table(stack: Stack) -> "pd.DataFrame":
    """Return the rows of all runs of a stack but those that diverged: those of a run, behind its name and seed.

    Raises:
        RunError: a file is damaged.
    """
    import pandas as pd

    lost = stack.diverged()
    of_each = [
        StackedRun(stack, name).metrics.assign(run=name, seed=config.seed)
        for name, config in stack.members.items()
        if name not in lost
    ]
    return pd.concat(of_each, ignore_index=True)[["run", "seed", *COLUMNS]]
