"""A run watched over its checkpoints: cleanliness of attention, routes and interchange scores (`trajectories`) by step,
and what emerges of them."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from compo_mech.analyses import trajectories
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.evaluation.table import highest
from compo_mech.model.params import Model
from compo_mech.routes.summary import RouteName
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.run import Run
from compo_mech.runs.trajectory import Measured, NetworkMeasure, Quantity, Step, follow

if TYPE_CHECKING:
    import pandas as pd

ACCURACY = Quantity("strings right")


@dataclass(frozen=True)
class Watched:
    """A run's figures over training.

    Attributes:
        task: that was measured.
        layer: that fetches x_t; None where no layer can be told.
        rows: the columns of `as_table`.
        more: quantities that emerge besides those of `trajectories`, by the name of their component.
    """

    task: Task
    layer: int | None
    rows: "pd.DataFrame"
    more: Mapping[str, Quantity] = field(default_factory=dict)

    def curve(self, quantity: Quantity) -> "pd.DataFrame":
        """Return columns step, value, low, high of the trained network, in order; no row if there is none."""
        found = quantity.rows(self.rows)
        found = found[found["network"] == "trained"]
        return found[["step", "value", "low", "high"]].astype({"step": int}).reset_index(drop=True)

    def control(self, quantity: Quantity) -> float:
        """Return the randomly initialised control's value; nan if there is none."""
        found = quantity.rows(self.rows)
        found = found[found["network"] == "control"]
        return float(found["value"].iloc[0]) if len(found) else math.nan

    def components(self) -> dict[str, Quantity]:
        """Return what emerges and the run has, by the name that tables and figures give it."""
        named = {"accuracy": ACCURACY}
        if self.layer is not None:
            named |= self._of_circuit(self.layer)
        named |= self.more
        return {name: quantity for name, quantity in named.items() if len(self.curve(quantity))}

    def _of_circuit(self, layer: int) -> dict[str, Quantity]:
        heads = self.heads(layer)
        head = heads[0] if len(heads) == 1 else None  # a single head stands for the layer
        above = functools.partial(Quantity, "IIA", "above placebo", context="independent", layer=layer)
        return {
            "lookup": Quantity("lookup_together", layer=max(0, layer - 1)),
            "iteration": Quantity("iteration_together", layer=layer),
            "ablation cost of iteration": Quantity("iteration pattern ablation", "cost", layer=layer, head=head),
            "t in the query": above(variable="t", site="q"),
            "x in the attention output": above(variable="x", site="attn_out"),
            "state in the MLP output": above(variable="answer", site="mlp_out"),
            "textbook route": Quantity("route share", str(RouteName.TEXTBOOK)),
        }

    def heads(self, layer: int) -> list[int]:
        """Return the heads of a layer."""
        heads = self.rows.loc[self.rows["layer"] == layer, "head"].dropna()
        return [int(head) for head in heads.unique()]


class ExtraMeasure(NamedTuple):
    """Something else to ask of every checkpoint, such as probes, which this package knows nothing of.

    Attributes:
        measure: takes data, task, the layer that fetches x_t, seed and network; a function of a module.
        code: name of its module, on which and on whose imports its figures depend.
        components: which of its quantities emerge, at the layer that fetches x_t, by the name that tables give them.
    """

    measure: Callable[[DataConfig, Task, int, int, Model], list[Measured]]
    code: str
    components: Mapping[str, Quantity]


Advance = Callable[[str, Step, int, str | None], None]
"""Called with what is asked, the step that is done, of how many, and what is wrong with its checkpoint."""


def watch(
    run: Run,
    task: Task,
    advance: Advance = lambda name, step, n_steps, problem: None,
    seed: int = 0,
    n_workers: int = 1,
    every: Mapping[str, int] | None = None,
    more: Mapping[str, ExtraMeasure] | None = None,
) -> Watched:
    """Measure a run's checkpoints; what was measured before is not measured again.

    Args:
        run: whose checkpoints.
        task: one of its.
        advance: called for each checkpoint as it is done.
        seed: of strings and placebos.
        n_workers: processes.
        every: by name (attention_metrics, interchange_scores, route_scores, or of `more`), to ask each n-th checkpoint
            only; the last always.
        more: by name, what else to ask where a layer after the first fetches x_t.

    Raises:
        RunError: no checkpoint can be read.
    """
    import pandas as pd

    data, more = run.config.data, more or {}
    problems, tables = list[str](), list[pd.DataFrame]()

    def ask(
        name: str, measure: NetworkMeasure, code: str = trajectories.__name__, **settings: object
    ) -> "pd.DataFrame":
        steps = thinned(run.steps, (every or {}).get(name, 1))
        settings = {"task": str(task), "seed": seed, **settings}

        def report(step: Step, problem: str | None) -> None:
            problems.extend([] if problem is None else [problem])
            advance(name, step, len(steps) + 1, problem)

        table = follow(run, name, settings, measure, code, report, steps, n_workers)
        tables.append(table)
        return table

    n = trajectories.N_STRINGS
    table = ask("attention_metrics", functools.partial(trajectories.attention_metrics, data, task, n), n_strings=n)
    if not (table["network"] == "trained").any():
        why = next(iter(problems), "there is none")
        raise RunError(f"run = {run.path}: has no checkpoint that can be read ({why})")
    layer = fetching_layer(table)
    if data.chain_of_thought:
        if layer is not None:
            measure = functools.partial(trajectories.interchange_scores, data, task, layer, seed)
            ask("interchange_scores", measure, layer=layer)
        if run.config.model.n_layers == 2:
            ask("route_scores", functools.partial(trajectories.route_scores, data, task, seed))
        if layer:
            for name, extra in more.items():
                ask(name, functools.partial(extra.measure, data, task, layer, seed), extra.code, layer=layer)
    emerging = {name: q._replace(layer=layer) for extra in more.values() for name, q in extra.components.items()}
    return Watched(task, layer, pd.concat(tables, ignore_index=True), emerging)


def thinned(steps: Sequence[int], every: int) -> list[int]:
    """Keep each n-th step, counted back from the last."""
    return list(steps[::-1][::every][::-1])


def fetching_layer(table: "pd.DataFrame") -> int | None:
    """Return the layer whose heads attend most to x_t at the last checkpoint; None where none can.

    It may be the first: where all strings are of one length, a row's own position tells t, and nothing is looked up.

    Raises:
        NotFinite: a layer's attention is no number.
    """
    scores = table[(table["measure"] == "iteration_together") & (table["step"] == table["step"].max())]
    return int(highest(scores, "value")["layer"]) if len(scores) else None
