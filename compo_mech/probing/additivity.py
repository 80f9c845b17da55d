"""The accuracy lost when the output of an MLP is replaced by a sum of functions of its two variables."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from compo_mech.causal.row_patching import continued
from compo_mech.causal.rows import Rows
from compo_mech.interventions.row_traces import RowTrace
from compo_mech.model.params import Model
from compo_mech.model.sites import Site
from compo_mech.probing.variance import additive_rest, group_means
from compo_mech.stats.intervals import Interval, wilson

N_RANDOM = 5
"""Random sets of neurons beside each chosen one."""

TIE = 1e-4
"""Logits this close count as equal, and a tie counts as a random choice among the highest: made additive, the table of
a group gives all states the same logit, and rounding would decide."""


NEEDED = 0.1
"""What is not additive is needed if more than this fraction of answers goes with it."""


class Without(NamedTuple):
    """Fraction of right answers: of the unmodified network, with the non-additive rest removed from a site, and with a
    perturbation of the same norm in a random direction.

    >>> few, all_right = Interval(0.5, 0.4, 0.6), Interval(1.0, 0.9, 1.0)
    >>> Without(all_right, few, all_right).needed, Without(all_right, few, few).needed
    (True, False)
    """

    whole: Interval
    additive: Interval
    placebo: Interval

    @property
    def needed(self) -> bool:
        """Whether answers go with what is not additive, and do not go with the placebo."""
        return self.additive.high < self.placebo.low and self.additive.mean < self.whole.mean - NEEDED


def share_right(
    model: Model,
    rows: Rows,
    found: RowTrace,
    site: Site | None = None,
    change: Float[Tensor, "row dim"] | None = None,
    only: Bool[Tensor, "row"] | None = None,
) -> Interval:
    """Return the fraction of rows answered right when something is added to a site; None: nothing is.

    `only`: the rows that count; None: all.
    """
    logits = found.logits
    if site is not None and change is not None:
        logits = continued(model, found, site, found.at(site) + change)
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
    """Remove from a site what the mean over a pair's rows has beyond a sum of functions of either variable.

    Args:
        model: the network.
        rows, found: rows and their trace.
        site: of a row.
        groups: the pair of each row, numbered from 0.
        keys: both members of each pair.
        generator: draws the placebo's directions, one a pair.
    """
    rest = additive_rest(group_means(found.at(site), groups).means, *keys)
    direction = torch.randn(rest.shape, generator=generator, dtype=rest.dtype).to(rest)
    direction = direction * (rest.norm(dim=1) / direction.norm(dim=1))[:, None]
    changes = (-part[groups].to(found.logits) for part in (rest, direction))
    return Without(share_right(model, rows, found), *(share_right(model, rows, found, site, c) for c in changes))
