"""A trained network taken apart: what its heads do, its edges and circuit, its routes, with a control.

Everything is measured twice, on the network and on a randomly initialised one of the same configuration. What one finds
in both is no finding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from compo_mech.analyses.beyond_training import beyond_sentence
from compo_mech.analyses.network_findings import NetworkFindings, network_findings
from compo_mech.circuits.circuit import Circuit
from compo_mech.circuits.prompts import PAIRS, circuit_switch
from compo_mech.data.config import DataConfig
from compo_mech.data.shifts import Shifts
from compo_mech.data.tasks import Task
from compo_mech.evaluation.attention import TEXTBOOK_SCORE
from compo_mech.model.params import Model, init_params
from compo_mech.routes.summary import RouteName, Summary
from compo_mech.stats.intervals import on_its_side, two_decimals

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Dissection:
    """One network beside its control.

    Attributes:
        model: the network.
        data: what it was trained on.
        task: that it is asked about.
        step: of the checkpoint.
        counterfactual: of the edges and the circuit, as the method card names such pairs.
        max_shift: of their position ids.
        trained, control: findings on the network and on the randomly initialised control.
    """

    model: Model
    data: DataConfig
    task: Task
    step: int
    counterfactual: str
    max_shift: int
    trained: NetworkFindings
    control: NetworkFindings

    @property
    def circuit(self) -> Circuit | None:
        """The circuit with its scores, if the verdict is that there is one."""
        found = self.trained.discovery
        return Circuit.of(self.model.config, found.kept, found.scores) if found.kept else None

    @property
    def sentences(self) -> list[str]:
        """What was found, for people."""
        own, control = self.trained, self.control
        found = [str(own.heads)]
        if own.routes is not None:
            other = None if control.routes is None else control.routes.summary()
            found.append(routes_sentence(own.routes.summary(), other))
        found.append(f"{own.discovery.sentence[0].upper()}{own.discovery.sentence[1:]}")
        if own.verdict is not None:
            found.append(f"The verdict on that circuit: {own.verdict}.")
        found += [] if own.checks is None else own.checks.sentences
        beyond = beyond_sentence(own.accuracy)
        found += [] if beyond is None else [beyond]
        found.append(f"A randomly initialised network: {control.discovery.sentence}")
        return found

    def tables(self) -> "dict[str, pd.DataFrame]":
        """Every result as a tidy table, by name; the column `network` says trained or control."""
        import pandas as pd

        from compo_mech.analyses.dissection_tables import network_tables

        networks = {"trained": self.trained, "control": self.control}
        found = {name: network_tables(findings, self.data.layout) for name, findings in networks.items()}
        tables = {}
        for name in found["trained"]:
            of_both = [found[network][name].assign(network=network) for network in networks]
            of_both = [table for table in of_both if len(table)]
            if of_both:
                tables[name] = pd.concat(of_both, ignore_index=True)
        return tables


def routes_sentence(routes: Summary, control: Summary | None) -> str:
    """Say whether x_t comes by the textbook's route, and by which else.

    Args:
        routes: of the network.
        control: of the randomly initialised control.
    """
    if not routes.n_cells:
        return f"By which routes x_t comes cannot be told: {routes}."
    share = routes.shares.get(RouteName.TEXTBOOK, 0.0)
    known = "" if control is None else f"; control {two_decimals(control.shares.get(RouteName.TEXTBOOK, 0.0))}"
    figures = f"{on_its_side(share, TEXTBOOK_SCORE)} of x_t's effect ({TEXTBOOK_SCORE} needed{known})"
    if share < TEXTBOOK_SCORE:
        return f"Its routes are not those of a textbook network: the textbook's carry {figures}. {routes}."
    through = ", through several heads" if max(routes.heads) < TEXTBOOK_SCORE and len(routes.heads) > 1 else ""
    return f"Its routes are the textbook's{through}: they carry {figures}. {routes}."


def dissect(
    model: Model,
    data: DataConfig,
    task: Task,
    step: int,
    shifts: Shifts,
    seed: int = 0,
    n_pairs: int = 48,
    n_strings: int = 128,
    tell: Callable[[str], None] = lambda what: None,
) -> Dissection:
    """The whole battery, on a network and on its control.

    Args:
        model: the network.
        data: what it was trained on.
        task: one of the data's.
        step: of the checkpoint.
        shifts: of position ids, as in training or as built.
        seed: of all that is drawn, and of the control's weights.
        n_pairs: clean and corrupt inputs for edges and circuits.
        n_strings: test strings of each length.
        tell: is told what comes next.

    Raises:
        ValueError: the task is not one that the data measures.
    """
    if task not in data.measured_tasks:
        raise ValueError(f"task = {task}: must be one of {' '.join(map(str, data.measured_tasks))}")
    generator = torch.Generator().manual_seed(seed)
    shape = len(data.vocabulary), model.n_ctx
    weights = init_params(model.config, *shape, generator)
    device = model.device
    untrained = Model({name: weight.to(device) for name, weight in weights.items()}, model.config)
    asked = {"shifts": shifts, "seed": seed, "n_pairs": n_pairs, "n_strings": n_strings}
    find = partial(network_findings, data=data, task=task, **asked)
    trained = find(model, tell=lambda what: tell(f"{task}: {what}"))
    control = find(untrained, tell=lambda what: tell(f"{task}, control: {what}"))
    return Dissection(model, data, task, step, PAIRS[circuit_switch(data, shifts)], shifts.largest, trained, control)
