"""One network asked by a probe, beside its control: at one checkpoint, with a verdict, or at all."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar

import torch

from compo_mech.causal.interchange import FOLLOWED, HOLDS
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.model.params import Model
from compo_mech.probing.additivity import NEEDED, Without
from compo_mech.probing.sites import iteration_layer
from compo_mech.runs.config import RunConfig
from compo_mech.runs.run import Run
from compo_mech.runs.trajectory import Measured, Quantity
from compo_mech.stats.intervals import on_its_side

if TYPE_CHECKING:
    import pandas as pd

FoundT = TypeVar("FoundT")


class Answer(StrEnum):
    """What a probe answers to its question."""

    YES = "yes"
    IN_PART = "in part"
    NO = "no"
    NOTHING = "nothing to compute"
    CANNOT_BE_TOLD = "cannot be told"


@dataclass(frozen=True)
class ProbeVerdict:
    """The answer of a probe, and why; as text `no; this, that`."""

    answer: Answer
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.answer}; {', '.join(self.reasons)}"

    @classmethod
    def no(cls, lacks: Mapping[str, bool]) -> "ProbeVerdict":
        """Answer no, because of each condition, said in words, that is lacking."""
        return cls(Answer.NO, tuple(reason for reason, lacking in lacks.items() if lacking))


def with_interval(row: "Mapping | pd.Series", column: str) -> str:
    """Return a fraction of a row, such as its `iia` or `linear`, with the row's interval."""
    return f"{row[column]:.0%} ({row['low']:.0%} .. {row['high']:.0%})"


def holds(row: "Mapping | pd.Series") -> bool:
    """Return whether a site holds its variable and nothing else that matters, and no control of the row passes."""
    return bool(row["iia"] >= HOLDS) and not failing(row)


def failing(row: "Mapping | pd.Series", level: float = HOLDS) -> list[str]:
    """Name the controls of a row that are not below a level, so that what is put in is not what tells."""
    controls = {"placebo": "the placebo", "permuted": "permuted labels"}
    return [name for column, name in controls.items() if not row[column] < level]


def followed(row: "Mapping | pd.Series") -> bool:
    """Return whether more than half of the answers beyond chance follow what is put in, and no control passes."""
    return bool(row["low"] > FOLLOWED) and not failing(row, FOLLOWED)


def iia_text(row: "Mapping | pd.Series") -> str:
    """Return the IIA of a row with its interval, each written on its side of the level that it is compared with."""
    iia, low = on_its_side(row["iia"], HOLDS, percent=True), on_its_side(row["low"], FOLLOWED, percent=True)
    return f"{iia} ({low} .. {row['high']:.1%})"


def beside_text(row: "Mapping | pd.Series", control: "Mapping | pd.Series") -> str:
    """Return what an IIA is compared with: the levels, the row's own controls and the control network's."""
    return (
        f"{HOLDS:.0%} needed to hold it, an interval above {FOLLOWED:.0%} to be followed; same-size change "
        f"{row['placebo']:.0%}, permuted labels {row['permuted']:.0%}, control {control['iia']:.0%}"
    )


def needed_text(found: Without) -> str:
    """Return how many states are right once an MLP's output is made a sum, and what that is compared with."""
    return (
        f"{on_its_side(found.additive.mean, found.whole.mean - NEEDED, percent=True)} of states are right, with as "
        f"much taken out at random {found.placebo.mean:.1%}, as it is {found.whole.mean:.1%} (needed if the first is "
        f"lower than the last by more than {100 * NEEDED:.0f} points, and its interval, up to "
        f"{found.additive.high:.1%}, below that at random, from {found.placebo.low:.1%})"
    )


def at_named_site(measure: str, variable: str, site: str, mlp: int, statistic: str = "value") -> Quantity:
    """Return a quantity of a site that is named after the MLP of a layer, such as `MLP input` or `query`."""
    layer = {"raw embeddings": None, "query": mlp + 1}.get(site, mlp)
    return Quantity(measure, statistic, variable, site=site, layer=layer)


def interchange_quantity(row: Mapping) -> Quantity:
    """Return what a row of an interchange table is about."""
    import pandas as pd

    head = None if pd.isna(row["head"]) else int(row["head"])
    return Quantity("IIA", "value", row["variable"], row["context"], row["kind"], int(row["layer"]), head)


def interchange_rows(table: "pd.DataFrame") -> Iterator[Measured]:
    """Yield the IIA of each row of an interchange table."""
    for row in table.to_dict("records"):
        yield Measured(interchange_quantity(row), row["iia"], row["low"], row["high"])


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
        tables: what is kept of one network, by name.
    """

    name: str
    code: str
    layers_before: int
    examine: Callable[[Model, RunConfig, Task, int, int, bool], FoundT]
    measures: Callable[[FoundT], Sequence[Measured]]
    sentences: Callable[["Seen[FoundT]"], list[str]]
    tables: "Callable[[FoundT], dict[str, pd.DataFrame]]"


@dataclass(frozen=True)
class Seen(Generic[FoundT]):
    """What was found in one checkpoint, beside a randomly initialised control."""

    run: Run
    task: Task
    step: int
    model: Model
    control_model: Model
    trained: FoundT
    control: FoundT

    def tables(self, probe: Probe[FoundT]) -> "dict[str, pd.DataFrame]":
        """Return what is kept, by name, with a column network: trained or control."""
        import pandas as pd

        trained, control = probe.tables(self.trained), probe.tables(self.control)
        both = {"trained": trained, "control": control}
        return {
            name: pd.concat([found[name].assign(network=network) for network, found in both.items()], ignore_index=True)
            for name in trained
        }


def layer_asked(probe: Probe, model: Model, data: DataConfig, task: Task, seed: int) -> int:
    """Return the layer of the MLP that a probe is about."""
    return iteration_layer(model, data, task, torch.Generator().manual_seed(seed)) - probe.layers_before


def examined(probe: Probe[FoundT], run: Run, task: Task, step: int | None, seed: int) -> Seen[FoundT]:
    """Examine one checkpoint and its control.

    Raises:
        RunError, ValueError: there is no such checkpoint, or the network or the task cannot be asked.
    """
    model, data = Model(run.params(step), run.config.model), run.config.data
    layer = layer_asked(probe, model, data, task, seed)
    control_model = Model(run.control(), run.config.model)
    trained, control = (probe.examine(m, run.config, task, seed, layer, True) for m in (model, control_model))
    return Seen(run, task, run.steps[-1] if step is None else step, model, control_model, trained, control)
