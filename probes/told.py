"""The two probes that are followed over many seeds: t from the queries, the state from the stream after the MLP.

Each is a linear probe read on pairs that it was not fitted on. That something can be told does not show that it is
used: beside these stand the interchanges at the same places.
"""

import torch

from compo_mech.causal import trace_rows, value_at
from compo_mech.data import DataConfig
from compo_mech.graph import Model
from compo_mech.hooks import Site
from compo_mech.tasks import Task
from compo_mech.trajectory import Measured
from probes import position_subtraction, state_update
from probes.fit import accuracy, linear_probe


@torch.no_grad()
def told(data: DataConfig, task: Task, layer: int, seed: int, model: Model) -> list[Measured]:
    """Accuracy of both probes.

    Args:
        data: of the run.
        task: one of its.
        layer: that fetches x_t, after the first.
        seed: of strings and folds.
        model: the network.
    """
    generator = torch.Generator().manual_seed(seed)
    plans = (
        ("probe of t", position_subtraction.make_grid(data, task, generator), Site("q", layer)),
        ("probe of the state", state_update.make_grid(data, task, generator), Site("resid_post", layer)),
    )
    found = []
    for name, grid, site in plans:
        rows = grid.rows.to(model.params["embed.W_E"].device)
        values = value_at(trace_rows(model, rows), site).cpu()
        found.append(Measured(name, str(site), *accuracy(linear_probe(values, grid.split), grid.split, generator).at()))
    return found
