"""Subspaces that class means span in the input of an MLP, and whether answers follow what is swapped there."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from compo_mech.causal.interchange import interchange, interchange_row, interchange_traces
from compo_mech.causal.rows import Variable
from compo_mech.causal.variables import make_interchanges, uses
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.interventions.row_traces import RowTrace
from compo_mech.model.params import Model
from compo_mech.model.sites import mlp_input_site
from compo_mech.probing.grid import StateGrid
from compo_mech.probing.variance import group_means

if TYPE_CHECKING:
    import pandas as pd


def class_mean_subspaces(
    model: Model,
    data: DataConfig,
    task: Task,
    grid: StateGrid,
    found: RowTrace,
    layer: int,
    generator: torch.Generator,
    n_swaps: int,
) -> "tuple[pd.DataFrame, float | None]":
    """Find the class means of s and of x in the MLP's input, and interchange what they span.

    Args:
        model, data, task: the network, and what it is asked about.
        grid: pairs (s, x).
        found: the trace of its rows.
        layer: of the MLP.
        generator: of pairs, placebos and random subspaces.
        n_swaps: pairs of rows; those that start from [EoI] are left out, since it is no state.

    Returns:
        Columns of `interchange_row`, n_dims, share (of the rows' variance) and random (the IIA of random directions), a
        row a variable that the task uses; and the mean squared cosine between the two subspaces, None where there is
        but one.
    """
    import pandas as pd

    site = mlp_input_site(model.config, layer)
    values = found.at(site).cpu().double()
    means = group_means(values, grid.split.groups).means
    spread, rows, bases = (values - values.mean(0)).square().sum(), [], {}
    names: tuple[Variable, ...] = ("s", "x")
    for variable, key in zip(names, (grid.s, grid.x), strict=True):
        if not uses(task, variable):
            continue
        centres = group_means(means, key).means
        basis = torch.linalg.svd((centres - centres.mean(0)).mT, full_matrices=False)[0][:, : len(centres) - 1]
        bases[variable] = basis
        share = float(((values - values.mean(0)) @ basis).square().sum() / spread)
        pairs = make_interchanges(data, variable, "independent", n_swaps, generator, task)
        pairs = pairs[(pairs.base.t > 1) & (pairs.source.t > 1)].to(model.device)
        traces = interchange_traces(model, pairs)
        drawn = torch.linalg.qr(torch.randn(basis.shape, generator=generator, dtype=torch.float64)).Q.to(basis)
        score, random = (
            interchange(model, pairs, site, generator, directions.to(found.logits), traces)
            for directions in (basis, drawn)
        )
        more = {"n_dims": basis.shape[1], "share": share, "random": random.accuracy.mean}
        rows.append(interchange_row(pairs, site, score) | more)
    return pd.DataFrame(rows), _overlap(bases["s"], bases["x"]) if len(bases) == 2 else None


def _overlap(one: Tensor, other: Tensor) -> float:
    """Return the mean squared cosine of the principal angles between two subspaces."""
    return float((one.mT @ other).square().sum() / min(one.shape[1], other.shape[1]))
