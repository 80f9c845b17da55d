"""Neurons of an MLP that updates states: what each adds to the right answer, and the pairs (s, x) it fires for."""

from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from compo_mech.causal.row_patching import trace_rows
from compo_mech.causal.rows import Rows
from compo_mech.data.tasks import Task
from compo_mech.interventions.row_traces import RowTrace
from compo_mech.model import blocks, norms
from compo_mech.model.params import Model
from compo_mech.model.sites import Site
from compo_mech.probing.grid import StateGrid
from compo_mech.probing.neurons import hidden
from compo_mech.probing.variance import group_means
from compo_mech.weights.qk_ov import direct_logits

if TYPE_CHECKING:
    import pandas as pd

N_NAMED = 8
"""A neuron that fires for more pairs has them counted, not named."""


def neuron_table(
    model: Model,
    found: RowTrace,
    layer: int,
    grid: StateGrid,
    means: Float[Tensor, "pair neuron"],
    rest: Float[Tensor, "pair neuron"],
) -> "pd.DataFrame":
    """Rank neurons by what their rest beyond sums adds to the right answer's logit above the other states', by the
    direct path through the last norm as it is.

    Returns:
        Columns neuron, added, share (of what all add), share beyond s and x (of its variance), fires on (s, x).
    """
    import pandas as pd

    added = _added(model, found, layer, grid, rest)
    varied = (means - means.mean(0)).square().sum(0)
    table = pd.DataFrame(
        {
            "neuron": range(means.shape[1]),
            "added": added.tolist(),
            "share": (added / added.sum()).tolist(),
            "share beyond s and x": (rest.square().sum(0) / varied.clamp_min(1e-30)).tolist(),
            "fires on (s, x)": _fires(grid, means),
        }
    )
    return table.sort_values("added", ascending=False, kind="stable").reset_index(drop=True)


def _added(
    model: Model, found: RowTrace, layer: int, grid: StateGrid, rest: Float[Tensor, "pair neuron"]
) -> Float[Tensor, "neuron"]:
    """Return what each neuron's rest adds to the right answer's logit above the mean of the other states'."""
    direct = direct_logits(model, blocks.neuron_outputs(model, layer))
    post = found.at(Site("resid_post", model.config.n_layers - 1))
    scale = norms.norm_size(model, "ln_final", post)
    inverse = group_means(1 / scale, grid.split.groups).means[:, 0]
    states = direct[:, : int(grid.split.labels.max()) + 1].cpu().double()
    n_states, right = states.shape[1], grid.split.group_labels
    above = (states[:, right] - (states.sum(1, keepdim=True) - states[:, right]) / max(1, n_states - 1)).mT
    return (rest * inverse[:, None] * above).mean(0)


def _fires(grid: StateGrid, means: Float[Tensor, "pair neuron"]) -> list[str]:
    """Name the pairs for which each neuron is more than half as active as at its peak."""
    lowest, peak = means.min(0).values, means.max(0).values
    fires = means > lowest + 0.5 * (peak - lowest)
    names = [f"{s},{x}" for s, x in zip(grid.s.tolist(), grid.x.tolist(), strict=True)]
    return [
        " ".join(name for name, on in zip(names, column, strict=True) if on)
        if sum(column) <= N_NAMED
        else f"{sum(column)} pairs"
        for column in fires.mT.tolist()
    ]


def activation_table(grid: StateGrid, means: Float[Tensor, "pair neuron"]) -> "pd.DataFrame":
    """Lay out each neuron's mean activation on each pair: columns s, x and the neurons' numbers."""
    import pandas as pd

    keys = {"s": grid.s.tolist(), "x": grid.x.tolist()}
    return pd.DataFrame(keys | dict(zip(map(str, range(means.shape[1])), means.mT.tolist(), strict=True)))


def with_start(model: Model, layer: int, start: Rows, table: "pd.DataFrame", task: Task) -> "pd.DataFrame":
    """Add the pairs of the start, whose state is numbered n_states, to the table of activations."""
    import pandas as pd

    found = trace_rows(model, start)
    means = group_means(hidden(model, found, layer), start.x)
    columns = {"s": [task.n_states] * len(means.groups), "x": means.groups.tolist()}
    columns |= dict(zip(map(str, range(means.means.shape[1])), means.means.mT.tolist(), strict=True))
    return pd.concat([table, pd.DataFrame(columns)], ignore_index=True)
