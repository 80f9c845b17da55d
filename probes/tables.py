"""An MLP's neurons over a table of pairs, and what is lost when what they add to the sum of two parts is taken away.

Any function y(a, b) on pairs is f(a) + g(b) and a *rest* that no such sum can be: for parity the rest is
the exclusive or, for positions what makes i - j a class of its own. To be found in neurons is not yet to be
used: so the rest is taken out of the running network, and the answers are counted.
"""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from compo_mech.causal import continued, value_at
from compo_mech.forward import ACTIVATIONS
from compo_mech.graph import Model, bias_of, norm_of
from compo_mech.hooks import Site
from compo_mech.metrics import Interval, wilson
from compo_mech.traces import RowTrace
from compo_mech.variables import Rows
from probes.variance import additive_rest, group_means

N_RANDOM = 5
"""Random sets of neurons beside each chosen one."""

TIE = 1e-4
"""Logits that near are equal, and one of the highest is drawn: without its rest a table of a group leaves all states
alike, and rounding would tell the right one."""


class Without(NamedTuple):
    """Share of right answers: of the network as it is, with the rest taken out of a site, and with as much taken
    out in a random direction."""

    whole: Interval
    additive: Interval
    placebo: Interval


def hidden(model: Model, found: RowTrace, layer: int) -> Float[Tensor, "row neuron"]:
    """Activations of an MLP's neurons at each string's row."""
    mid = value_at(found, Site("resid_mid", layer))
    mlp = f"blocks.{layer}.mlp"
    read = norm_of(model, f"blocks.{layer}.ln2", mid) @ model.params[f"{mlp}.W_in"]
    return ACTIVATIONS[model.config.act_fn](read + bias_of(model.params, f"{mlp}.b_in"))


def share_right(
    model: Model,
    rows: Rows,
    found: RowTrace,
    site: Site | None = None,
    change: Float[Tensor, "row dim"] | None = None,
    only: Bool[Tensor, "row"] | None = None,
) -> Interval:
    """Share of the rows that are answered right when something is added to a site; None: nothing is.

    `only`: the rows that count; None: all.
    """
    if site is None or change is None:
        logits = found.logits
    else:
        logits = continued(model, found, site, value_at(found, site) + change)
    highest = logits >= logits.amax(-1, keepdim=True) - TIE
    right = highest.gather(1, rows.answer[:, None])[:, 0] / highest.sum(-1)
    right = right if only is None else right[only]
    return wilson(round(float(right.sum())), len(right))


@torch.no_grad()
def made_additive(
    model: Model,
    rows: Rows,
    found: RowTrace,
    site: Site,
    groups: Int[Tensor, "row"],
    keys: tuple[Int[Tensor, "group"], Int[Tensor, "group"]],
    generator: torch.Generator,
) -> Without:
    """Take out of a site what the mean over a pair's rows has beyond functions of either part.

    Args:
        model: the network.
        rows, found: rows and their trace.
        site: of a row.
        groups: the pair of each row, numbered from 0.
        keys: both parts of each pair.
        generator: draws the placebo's directions, one a pair.
    """
    rest = additive_rest(group_means(value_at(found, site), groups).means, *keys)
    direction = torch.randn(rest.shape, generator=generator, dtype=rest.dtype).to(rest)
    direction = direction * (rest.norm(dim=1) / direction.norm(dim=1))[:, None]
    changes = (-part[groups].to(found.logits.dtype) for part in (rest, direction))
    return Without(share_right(model, rows, found), *(share_right(model, rows, found, site, c) for c in changes))


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
) -> pd.DataFrame:
    """Share of right answers when the rest is taken out of the first 0, 1, 2, 4, ... neurons of an order.

    Returns:
        Columns n_neurons, chosen, random: the last for as many neurons drawn at random, a mean.
    """
    n, w_out = rest.shape[1], model.params[f"blocks.{layer}.mlp.W_out"]
    site, table = Site("mlp_out", layer), rest.to(w_out.dtype)

    def right(neurons: Tensor) -> float:
        return share_right(model, rows, found, site, -(table[:, neurons] @ w_out[neurons])[groups]).mean

    counts = [0, *(2**k for k in range(n.bit_length()) if 2**k < n), n]
    ordered = torch.tensor(order)
    drawn = [torch.randperm(n, generator=generator) for _ in range(N_RANDOM)]
    return pd.DataFrame(
        {
            "n_neurons": counts,
            "chosen": [right(ordered[:k]) for k in counts],
            "random": [sum(right(d[:k]) for d in drawn) / N_RANDOM for k in counts],
        }
    )
