"""An MLP's neurons over a table of pairs, and the accuracy lost when the first of them are made additive."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.causal.rows import Rows
from compo_mech.interventions.row_traces import RowTrace
from compo_mech.model import blocks
from compo_mech.model.params import Model
from compo_mech.model.sites import Site
from compo_mech.probing.additivity import N_RANDOM, share_right

if TYPE_CHECKING:
    import pandas as pd


def hidden(model: Model, found: RowTrace, layer: int) -> Float[Tensor, "row neuron"]:
    """Activations of an MLP's neurons at each string's row."""
    return blocks.neurons(model, layer, blocks.mlp_input(model, found.resid_pre[layer], found.resid_mid[layer]))


@torch.no_grad()
def without_neurons(
    model: Model,
    rows: Rows,
    found: RowTrace,
    layer: int,
    rest: Float[Tensor, "pair neuron"],
    groups: Int[Tensor, "row"],
    order: Sequence[int],
    generator: torch.Generator,
) -> "pd.DataFrame":
    """Fraction of right answers when the non-additive rest is removed from the first 0, 1, 2, 4, ... neurons of an
    order.

    Returns:
        Columns n_neurons, chosen, random: the last for as many neurons drawn at random, a mean.
    """
    import pandas as pd

    n, outputs = rest.shape[1], blocks.neuron_outputs(model, layer)
    site, table, groups = Site("mlp_out", layer), rest.to(outputs), groups.to(outputs.device)

    def right(neurons: Tensor) -> float:
        return share_right(model, rows, found, site, -(table[:, neurons] @ outputs[neurons])[groups]).mean

    counts = [0, *(2**k for k in range(n.bit_length()) if 2**k < n), n]
    ordered = torch.tensor(order, device=outputs.device)
    drawn = [torch.randperm(n, generator=generator).to(outputs.device) for _ in range(N_RANDOM)]
    return pd.DataFrame(
        {
            "n_neurons": counts,
            "chosen": [right(ordered[:k]) for k in counts],
            "random": [sum(right(d[:k]) for d in drawn) / N_RANDOM for k in counts],
        }
    )
