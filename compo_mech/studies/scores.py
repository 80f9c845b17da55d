"""A score of a run, and the scores of both its networks: the trained one and its randomly initialised control."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.model.params import Model, Params
from compo_mech.runs.stacked_run import AnyRun
from compo_mech.studies.measures import Measure

Network = Literal["trained", "control"]


class RunScore(NamedTuple):
    """What a run scores by one measure. A field that does not apply is empty.

    Attributes:
        measure: by which.
        value: of the score.
        task: on whose strings; two, where it compares them.
        network: the trained one, or the randomly initialised control.
        statistic: what stands beside an estimate: its placebo, its bound, its value under permutation.
        variable: of the algorithm: t, x or the answer, which is the next state.
        site: where an activation is read or put in.
        component: the head or MLP.
        position: of the row in its string.
        route: by which x_t comes.
        checkpoint: the first or the last, where both are asked.
    """

    measure: Measure
    value: float
    task: str = ""
    network: Network = "trained"
    statistic: str = ""
    variable: str = ""
    site: str = ""
    component: str = ""
    position: str = ""
    route: str = ""
    checkpoint: str = ""

    def columns(self) -> dict[str, object]:
        """The score as a row of a table, where None stands for what does not apply."""
        row = {name: None if cell == "" else cell for name, cell in self._asdict().items()}
        return {"task": row.pop("task"), **row, "measure": self.measure.name, "value": row.pop("value")}


LABELS = ("network", "statistic", "variable", "site", "component", "position", "route", "checkpoint")
"""Columns that say which of a measure's scores of a run and task a row holds."""

RunScorer = Callable[[AnyRun], Sequence[RunScore]]
"""Asks a run for its scores; a function of a module, since processes call it."""

NetworkScorer = Callable[[Model, DataConfig, Task, int], Iterable[RunScore]]
"""Asks one network for its scores on one task; the number is the seed of all that is drawn."""


def beside_control(run: AnyRun, ask: NetworkScorer) -> list[RunScore]:
    """Scores of a run's trained network, then the same scores of its control, on each of its tasks."""
    config, scores = run.config, []
    networks: tuple[tuple[Network, Params], ...] = (("trained", run.params()), ("control", run.control()))
    for network, params in networks:
        model = Model(params, config.model)
        for task in config.data.measured_tasks:
            found = ask(model, config.data, task, config.seed)
            scores += [score._replace(task=str(task), network=network) for score in found]
    return scores
