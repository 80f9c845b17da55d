"""Accuracy of probes with intervals, beside permuted labels and the best guess."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from compo_mech.probing.probes import ROUNDING, linear_probe
from compo_mech.probing.split import Split
from compo_mech.stats.intervals import Interval


@dataclass(frozen=True)
class Intervals:
    """A value and its 2.5% and 97.5% quantiles for each site, over so many groups."""

    mean: Float[Tensor, "*sites"]
    low: Float[Tensor, "*sites"]
    high: Float[Tensor, "*sites"]
    n_groups: int

    def at(self, *site: int) -> Interval:
        """Return the interval of one site; without a number, of the only one."""
        return Interval(*(float(values[site]) for values in (self.mean, self.low, self.high)))


@dataclass(frozen=True)
class Control:
    """The accuracy with labels permuted among groups, and its 95% range under chance."""

    accuracy: Float[Tensor, "*sites"]
    chance: Intervals

    @property
    def by_chance(self) -> Bool[Tensor, "*sites"]:
        """Whether the accuracy lies in that range."""
        return (self.accuracy >= self.chance.low - ROUNDING) & (self.accuracy <= self.chance.high + ROUNDING)

    def selectivity(self, found: Intervals) -> Float[Tensor, "*sites"]:
        """Return how much more often the probe is right with the true labels (Hewitt & Liang 2019, arXiv
        1909.03368)."""
        return found.mean - self.accuracy


def accuracy(
    predictions: Int[Tensor, "*sites row"], split: Split, generator: torch.Generator, n_boot: int = 1000
) -> Intervals:
    """Return the mean over groups of the fraction of a group's rows that are right, with a bootstrap over groups.

    Rows with prediction -1 do not count.
    """
    shares, tested = _shares(predictions, split)
    right = shares[..., torch.arange(len(tested)), split.group_labels[tested]]
    draws = draws_of(len(tested), n_boot, generator).to(right)
    return intervals_of(right.mean(-1), right @ draws / len(tested), len(tested))


def permuted_control(
    probe: Callable[[Split], Int[Tensor, "*sites row"]],
    split: Split,
    generator: torch.Generator,
    n_permutations: int = 8,
) -> Control:
    """Measure the accuracy of a probe, such as `lambda split: linear_probe(features, split)`, on labels permuted among
    groups.

    Chance is the mean over folds, by tested groups, of sum_k (fraction of predictions of class k) (fraction of labels
    of class k): given the training groups, all orders of the held-out groups' labels are equally likely, and this is
    the mean accuracy over them. Fractions over all folds together would be too high, since a class is rarer among the
    training groups where one of its own is held out. Where each group is a fold of its own there are no fractions by
    fold, and labels permuted among so few pairs are often a function of one variable (four of the six labellings of 2 x
    2 pairs by two labels): chance is then what the same linear probe decodes from both variables one-hot, or the
    fractions over all folds where that is more, and any accuracy below it is at chance as well.

    Permutations are independent: the interval is chance ± t(n - 1) sd(accuracy - chance) / sqrt(n) over
    the n permutations, with t the 97.5% quantile of Student's distribution.

    Raises:
        ValueError: fewer than 2 permutations, or labels permuted so that no pair can be tested.
    """
    from scipy.special import stdtrit

    if n_permutations < 2:
        raise ValueError(f"n_permutations = {n_permutations}: must be at least 2")
    right, chance, n_tested, alone = [], [], [], False
    for _ in range(n_permutations):
        permuted = split.permuted(generator)
        shares, tested = _shares(probe(permuted), permuted)
        labels = one_hot(permuted.group_labels, split.n_classes)[tested].to(shares)
        fold = permuted.of_groups(permuted.fold)[tested]
        alone = len(fold.unique()) == len(fold)
        if alone:
            fold = torch.zeros_like(fold)
        mates = one_hot(fold).to(shares)
        mates = mates / mates.sum(0).clamp_min(1).sqrt()  # twice: the product of two means, times the fold's groups
        right.append((shares * labels).sum((-2, -1)) / len(tested))
        by_shares = ((mates.T @ shares) * (mates.T @ labels)).sum((-2, -1)) / len(tested)
        if alone and permuted.also is not None:
            parts = torch.cat([one_hot(key.unique(return_inverse=True)[1]) for key in permuted.also.T], 1).double()
            guessed, _ = _shares(linear_probe(parts, permuted), permuted)
            by_shares = by_shares.clamp(min=float((guessed * labels).sum() / len(tested)))
        chance.append(by_shares)
        n_tested.append(len(tested))
    found, by_chance = torch.stack(right), torch.stack(chance)
    half = (found - by_chance).std(0) / math.sqrt(n_permutations) * float(stdtrit(n_permutations - 1, 0.975))
    mean = by_chance.mean(0)
    low = torch.zeros_like(mean) if alone else mean - half
    return Control(found.mean(0), Intervals(mean, low, mean + half, min(n_tested)))


def best_from(key: Int[Tensor, "row"], split: Split) -> float:
    """Return the accuracy over the tested groups of the best guess of the label from `key` alone, such as i.

    An upper bound: it uses the most frequent label of each value, the tested groups' own included.
    """
    tested = split.fold >= 0
    values, index = key[tested].unique(return_inverse=True)
    weights = (1 / split.groups.bincount().double())[split.groups[tested]]
    counts = weights.new_zeros(len(values), split.n_classes)
    counts.index_put_((index, split.labels[tested]), weights, accumulate=True)
    return float(counts.amax(1).sum() / weights.sum())


def _shares(
    predictions: Int[Tensor, "*sites row"], split: Split
) -> tuple[Float[Tensor, "*sites tested class"], Int[Tensor, "tested"]]:
    """For each tested group the fraction of its rows predicted as each class, and which groups these are."""
    said = one_hot(predictions + 1, split.n_classes + 1)[..., 1:].double()
    shape = (*said.shape[:-2], len(split.group_labels), split.n_classes)
    counts = said.new_zeros(shape).index_add(-2, split.groups, said)
    tested = counts.sum(-1).reshape(-1, shape[-2]).amin(0).nonzero()[:, 0]
    return counts[..., tested, :] / counts[..., tested, :].sum(-1, keepdim=True), tested


def draws_of(n_groups: int, n_boot: int, generator: torch.Generator) -> Float[Tensor, "group draw"]:
    """Draw how often each group is drawn, with replacement."""
    drawn = torch.randint(n_groups, (n_groups, n_boot), generator=generator)
    return torch.zeros(n_groups, n_boot).scatter_add(0, drawn, torch.ones(n_groups, n_boot))


def intervals_of(mean: Float[Tensor, "*sites"], draws: Float[Tensor, "*sites draw"], n_groups: int) -> Intervals:
    """Return means with the quantiles of their draws."""
    low, high = draws.quantile(torch.tensor([0.025, 0.975]).to(draws), dim=-1)
    return Intervals(mean, low, high, n_groups)
