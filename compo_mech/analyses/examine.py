"""One network asked, beside its control, at one checkpoint or at all."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import pandas as pd
import torch

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.model.params import Model
from compo_mech.probing.sites import iteration_layer
from compo_mech.runs.config import RunConfig
from compo_mech.runs.run import Run
from compo_mech.runs.trajectory import Measured

FoundT = TypeVar("FoundT")


def share(row: Mapping | pd.Series) -> str:
    """An interchange accuracy with its interval."""
    return f"{row['interchange']:.0%} ({row['low']:.0%} .. {row['high']:.0%})"


def probed(row: pd.Series) -> str:
    """A probe's accuracy with its interval."""
    return f"{row['linear']:.0%} ({row['low']:.0%} .. {row['high']:.0%})"


@dataclass(frozen=True)
class Probe(Generic[FoundT]):
    """One of the probe scripts.

    Attributes:
        name: of its folder in the run's analyses.
        code: name of the module that examines.
        layers_before: of the layer whose heads fetch x_t, how many the MLP that is asked about lies before it.
        examine: asks one network; takes the model, the run's settings, the task, the seed, the layer of the
            MLP, and whether to ask in full.
        measures: figures to follow over training.
        sentences: the verdict and what it rests on, of a network and its control.
        tables: what is kept, by name.
    """

    name: str
    code: str
    layers_before: int
    examine: Callable[[Model, RunConfig, Task, int, int, bool], FoundT]
    measures: Callable[[FoundT], Sequence[Measured]]
    sentences: Callable[["Seen[FoundT]"], list[str]]
    tables: Callable[[FoundT], dict[str, pd.DataFrame]]


@dataclass(frozen=True)
class Seen(Generic[FoundT]):
    """What was found in one checkpoint, beside a freshly initialised network."""

    run: Run
    model: Model
    task: Task
    step: int
    own: FoundT
    fresh: FoundT
    control: Model


def layer_asked(probe: Probe, model: Model, data: DataConfig, task: Task, seed: int) -> int:
    """The layer of the MLP that a probe is about."""
    return iteration_layer(model, data, task, torch.Generator().manual_seed(seed)) - probe.layers_before


def examined(probe: Probe[FoundT], run: Run, task: Task, step: int | None, seed: int) -> Seen[FoundT]:
    """One checkpoint and its control.

    Raises:
        RunError, ValueError: there is no such checkpoint, or the network or the task cannot be asked.
    """
    model, data = Model(run.params(step), run.config.model), run.config.data
    layer = layer_asked(probe, model, data, task, seed)
    control = Model(run.control(), run.config.model)
    own, fresh = (probe.examine(m, run.config, task, seed, layer, True) for m in (model, control))
    return Seen(run, model, task, run.steps[-1] if step is None else step, own, fresh, control)
