"""The two probes that are followed over many seeds: t from the queries, the state from the stream after the MLP.

Each is a linear probe read on pairs that it was not fitted on. That something can be decoded does not show that it is
used: beside these stand the interchanges at the same places.
"""

import torch

from compo_mech.causal.row_patching import trace_rows
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.model.params import Model
from compo_mech.model.sites import Site
from compo_mech.probing.controls import accuracy
from compo_mech.probing.grid import position_grid, state_grid
from compo_mech.probing.probes import linear_probe
from compo_mech.runs.trajectory import Measured, Quantity

PROBE_OF_T = Quantity("probe accuracy", variable="t", site="q")
PROBE_OF_STATE = Quantity("probe accuracy", variable="answer", site="resid_post")
"""Of the layer that fetches x_t, which `probe_accuracies` fills in."""


@torch.no_grad()
def probe_accuracies(data: DataConfig, task: Task, layer: int, seed: int, model: Model) -> list[Measured]:
    """Measure the accuracy of both probes.

    Args:
        data: of the run.
        task: one of its.
        layer: that fetches x_t, after the first.
        seed: of strings and folds.
        model: the network.
    """
    generator = torch.Generator().manual_seed(seed)
    plans = (
        (PROBE_OF_T, position_grid(data, task, generator), Site("q", layer)),
        (PROBE_OF_STATE, state_grid(data, task, generator), Site("resid_post", layer)),
    )
    found = []
    for quantity, grid, site in plans:
        rows = grid.rows.to(model.device)
        values = trace_rows(model, rows).at(site).cpu()
        decoded = accuracy(linear_probe(values, grid.split), grid.split, generator).at()
        found.append(Measured(quantity._replace(layer=layer), *decoded))
    return found
