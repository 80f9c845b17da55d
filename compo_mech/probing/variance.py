"""How much of the variance between pairs a label explains beyond all sums of a function of either variable."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from compo_mech.probing.controls import Intervals, draws_of, intervals_of
from compo_mech.probing.probes import ROUNDING


@dataclass(frozen=True)
class Beyond:
    """How much of the variance between groups is explained at each site.

    Attributes:
        additive: R² of one-hot first + one-hot second, in the groups it was fitted to.
        label: R² of the one-hot label alone, likewise.
        beyond: what the label explains beyond the two, of the whole variance, likewise. Noise gives it
            (parameters gained) / (groups - 1).
        of_rest: what it explains of what the two leave unexplained, cross-validated: noise gives 0 or less.
            None where no group can be predicted from the others, as with 2 x 2 groups.
    """

    additive: Float[Tensor, "*sites"]
    label: Float[Tensor, "*sites"]
    beyond: Intervals
    of_rest: Intervals | None


def beyond_additive(
    values: Float[Tensor, "*sites group dim"],
    labels: Int[Tensor, "group"],
    first: Int[Tensor, "group"],
    second: Int[Tensor, "group"],
    generator: torch.Generator,
    n_boot: int = 1000,
) -> Beyond:
    """Does the label explain what no function f(first) + g(second) can, in means over each group's rows?

    Let e and e' be the errors on a group when it is left out of the fit of first + second, without and
    with the label: of_rest = sum(e² - e'²) / sum(e²). An error left out is residual / (1 - leverage)
    (Allen's PRESS); groups of leverage 1 in the larger fit are left out of the sums. Both fractions are 0 where first +
    second explain all. The bootstraps draw groups.
    """
    values = values.detach().cpu().double()
    values = values - values.mean(-2, keepdim=True)
    whole, one = values.square().sum(-1), torch.ones_like(labels)
    fits = [_residuals(values, *keys, one) for keys in ((labels,), (first, second), (first, second, labels))]
    left = [rest.square().sum(-1) for rest, _ in fits]
    label, additive = (1 - _ratio(part.sum(-1), whole.sum(-1)) for part in left[:2])
    room = (additive < 1 - ROUNDING)[..., None]
    n = len(labels)
    draws = torch.cat([torch.ones(n, 1), draws_of(n, n_boot, generator)], 1).to(whole)
    share = _ratio((left[1] - left[2]) @ draws * room, whole @ draws)
    beyond = intervals_of(share[..., 0], share[..., 1:], n)
    kept = (fits[2][1] < 1 - ROUNDING).nonzero()[:, 0]
    if not len(kept):
        return Beyond(additive, label, beyond, None)
    before, after = (
        (part / (1 - leverage) ** 2)[..., kept] for part, (_, leverage) in zip(left[1:], fits[1:], strict=True)
    )
    draws = torch.cat([torch.ones(len(kept), 1), draws_of(len(kept), n_boot, generator)], 1).to(whole)
    share = _ratio((before - after) @ draws * room, before @ draws)
    return Beyond(additive, label, beyond, intervals_of(share[..., 0], share[..., 1:], len(kept)))


def additive_rest(
    values: Float[Tensor, "*sites group dim"], first: Int[Tensor, "group"], second: Int[Tensor, "group"]
) -> Float[Tensor, "*sites group dim"]:
    """Return what no function f(first) + g(second) can be: residuals of least squares on both, one-hot."""
    return _residuals(values.detach().cpu().double(), first.cpu(), second.cpu())[0]


def _residuals(
    values: Float[Tensor, "*sites group dim"], *keys: Int[Tensor, "group"]
) -> tuple[Float[Tensor, "*sites group dim"], Float[Tensor, "group"]]:
    """Residuals of least squares on one-hot keys, and leverages."""
    design = torch.cat([one_hot(key.unique(return_inverse=True)[1]) for key in keys], 1).double()
    basis, sizes, _ = torch.linalg.svd(design, full_matrices=False)
    basis = basis[:, sizes > ROUNDING * sizes[0]]
    return values - basis @ (basis.T @ values), basis.square().sum(1)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / whole, 0)


class Grouped(NamedTuple):
    """Means over each group's rows, the groups' numbers, and the fraction of each site's variance within groups."""

    means: Float[Tensor, "*sites group dim"]
    groups: Int[Tensor, "group"]
    within: Float[Tensor, "*sites"]


def group_means(features: Float[Tensor, "*sites row dim"], groups: Int[Tensor, "row"]) -> Grouped:
    """Groups in the order of their numbers; on the CPU, where the splits of pairs are, whatever the features are on."""
    x, groups = features.detach().cpu().double(), groups.cpu()
    numbers, index, counts = groups.unique(return_inverse=True, return_counts=True)
    sums = x.new_zeros(*x.shape[:-2], len(numbers), x.shape[-1]).index_add(-2, index, x)
    means = sums / counts[:, None]
    inside, whole = ((x - centre).square().sum((-2, -1)) for centre in (means[..., index, :], x.mean(-2, keepdim=True)))
    return Grouped(means, numbers, _ratio(inside, whole))
