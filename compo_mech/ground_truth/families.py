"""Families of networks whose true edges are known, on which methods are graded.

- `hand-built`: the circuit of the iteration head and its shortcut, with every option of difficulty by itself, then
  eight that combine them.
- `misleading`: hand-built circuits that each defeat some method or sentence (see `hard_cases`), all of parity.
- `Tracr`: programs that others' compiler turned into networks.
- `trained-in`: networks into which a given circuit was trained, with weights that gradient descent found.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from compo_mech.data.config import DataConfig
from compo_mech.data.shifts import Shifts
from compo_mech.data.tasks import Copy, Parity, Polynomial, Task
from compo_mech.ground_truth.build import build, solves
from compo_mech.ground_truth.hard_cases import HARD_CASES, build_hard_case
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.ground_truth.tracr import TracrProgram, read_tracr, tracr_programs
from compo_mech.ground_truth.trained_in import read_trained_in, trained_in_networks
from compo_mech.interventions.edges import Edge
from compo_mech.model.params import Model

TASKS: tuple[Task, ...] = (Copy(), Parity(), Polynomial(modulus=5))

SINGLE = {
    "pristine": BuildOptions(),
    "soft": BuildOptions(sharpness=8),
    "saturated": BuildOptions(sharpness=150),
    "rotated": BuildOptions(rotated=True),
    "distractors": BuildOptions(distractors=True),
    "noise": BuildOptions(noise=0.01),
    "LayerNorm": BuildOptions(layer_norm=True),
    "three layers": BuildOptions(three_layers=True),
    "neighbour": BuildOptions(route="neighbour"),
    "state": BuildOptions(route="state"),
    "shortcut": BuildOptions(chain_of_thought=False),
    "split": BuildOptions(split=True),
    "backup": BuildOptions(backup=True),
}
"""Each option of difficulty by itself."""

RUNGS = SINGLE | {
    "rotated, distractors": BuildOptions(rotated=True, distractors=True),
    "saturated, rotated, noise": BuildOptions(sharpness=150, rotated=True, noise=0.005),
    "soft, distractors": BuildOptions(sharpness=8, distractors=True),
    "LayerNorm, rotated, distractors": BuildOptions(layer_norm=True, rotated=True, distractors=True),
    "three layers, saturated, distractors": BuildOptions(three_layers=True, sharpness=150, distractors=True),
    "neighbour, LayerNorm, rotated": BuildOptions(route="neighbour", layer_norm=True, rotated=True),
    "split, three layers, distractors": BuildOptions(split=True, three_layers=True, distractors=True),
    "backup, saturated, rotated": BuildOptions(backup=True, sharpness=150, rotated=True),
}
"""Each option by itself, then eight builds that combine some."""


@runtime_checkable
class TaskNetwork(Protocol):
    """A network that does one of this package's tasks, and its true edges."""

    @property
    def model(self) -> Model: ...
    @property
    def data(self) -> DataConfig: ...
    @property
    def edges(self) -> frozenset[Edge]: ...
    @property
    def shifts(self) -> Shifts: ...


class Subject(NamedTuple):
    """A network by its names, and how it is made or read.

    Attributes:
        family: it belongs to.
        task: that it solves, or the program that it was compiled from.
        build: which network of this task it is.
        load: returns the network and its true edges.

    Example:
        >>> from compo_mech.ground_truth import subjects
        >>> subject = next(subject for subject in subjects() if subject.build == "two of three")
        >>> subject.family, subject.task, len(subject.load().edges)
        ('misleading', 'parity', 18)
    """

    family: str
    task: str
    build: str
    load: Callable[[], TaskNetwork | TracrProgram]


def subjects(folder: Path | None = None) -> list[Subject]:
    """Return the networks of every family.

    Args:
        folder: with a folder `tracr` of compiled programs and a folder `trained_in`; None: without these, and where one
            of the two is missing, without that family.

    Example:
        >>> from compo_mech.ground_truth import subjects
        >>> {subject.family for subject in subjects()} == {"hand-built", "misleading"}
        True
    """
    found = [
        Subject("hand-built", str(task), name, partial(build, task, rungs=rungs))
        for task in TASKS
        for name, rungs in RUNGS.items()
        if solves(task, rungs)
    ]
    found += [Subject("misleading", "parity", name, partial(build_hard_case, name, Parity())) for name in HARD_CASES]
    if folder is not None:
        programs = folder / "tracr"
        found += [
            Subject("Tracr", name, "compiled", partial(read_tracr, programs, name)) for name in tracr_programs(programs)
        ]
        trained = folder / "trained_in"
        for name in trained_in_networks(trained):
            task, circuit = name.split("-", 1)
            found.append(Subject("trained-in", task, circuit, partial(read_trained_in, trained, name)))
    return found
