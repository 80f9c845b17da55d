"""Probes tested on *held-out groups*, so that a lookup table cannot pass for a rule.

A group is a pair whose label is to be told: positions (i, j) with t = i - j + 1, or (state, input)
with F(s, x). All its rows are held out together. A *site* is where features come from (a position,
a layer, a checkpoint); every measure takes any leading site axes and treats each site alone.

Beware of chance in pairs like (i, j): all other pairs with the same i have other labels, so a probe
that reads nothing but i and j is right *less* often than chance, nearly never.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from scipy.special import stdtrit
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from compo_mech.metrics import Interval

MIN_GROUPS, MIN_GROUPS_FOR_FOLDS = 4, 12
"""With fewer than the latter each group is a fold of its own."""
RIDGE, NUMERIC_RIDGE = 1e-3, 1e-4
"""Of the features' whole variance. A larger one hides a label that holds a 25th of it; a smaller one lets
discriminants of short lengths read t from raw position embeddings, where it is not (0.4 rather than 0.0)."""
N_HIDDEN, N_STEPS, LEARNING_RATE, WEIGHT_DECAY = 32, 200, 0.02, 1.0
ROUNDING = 1e-9
"""A share of variance below this is none, and a leverage that is as near to 1 is 1."""
TINY = 1e-30


@dataclass(frozen=True)
class Split:
    """What probes are to tell of each row, and in which fold the row is held out. Made by `Split.deal`.

    Attributes:
        labels: class of each row, from 0.
        groups: of each row, numbered from 0.
        fold: in which each row is held out; -1: in none, it is always trained on.
        n_folds: as asked for.
        also: what else must be known from other groups, such as i and j.
    """

    labels: Int[Tensor, "row"]
    groups: Int[Tensor, "row"]
    fold: Int[Tensor, "row"]
    n_folds: int
    also: Int[Tensor, "row key"] | None = None

    @classmethod
    def deal(
        cls,
        labels: Int[Tensor, "row"],
        groups: Int[Tensor, "row"],
        n_folds: int,
        generator: torch.Generator,
        also: Int[Tensor, "row key"] | None = None,
    ) -> "Split":
        """Deal groups to folds at random, each label evenly.

        The law: the label and the `also` keys of every held-out group occur in groups that are
        trained on meanwhile. Groups that break it go to fold -1, one by one, as each may serve others.

        Raises:
            ValueError: fewer than `MIN_GROUPS` groups or 2 folds, a label below 0, a label or an `also`
                key that varies within a group, or no group that can be held out.
        """
        numbers, groups = groups.unique(return_inverse=True)
        for name, value, least in (("pairs", len(numbers), MIN_GROUPS), ("n_folds", n_folds, 2)):
            if value < least:
                raise ValueError(f"{name} = {value}: must be at least {least}")
        if labels.min() < 0:
            raise ValueError(f"labels = {int(labels.min())}: must be at least 0")
        keys = labels[:, None] if also is None else torch.cat([labels[:, None], also], 1)
        of_group = keys[_a_row_of_each(groups)]
        for key, varies in enumerate((keys != of_group[groups]).any(0).tolist()):
            if varies:
                name = f"also[:, {key - 1}]" if key else "labels"
                raise ValueError(f"{name} = several in a pair: must be one for all rows of a pair")
        fold = _folds(of_group, n_folds, generator)
        if fold.max() < 0:
            raise ValueError("pairs to test = 0: at least 1 must share its label and its keys with others")
        return cls(labels, groups, fold[groups], n_folds, also)

    def shuffled(self, generator: torch.Generator) -> "Split":
        """Labels permuted among groups, and the groups dealt anew, so that the law holds for these labels."""
        order = torch.randperm(len(self.group_labels), generator=generator).to(self.labels.device)
        return Split.deal(self.group_labels[order][self.groups], self.groups, self.n_folds, generator, self.also)

    @cached_property
    def n_classes(self) -> int:
        return int(self.labels.max()) + 1

    @cached_property
    def group_labels(self) -> Int[Tensor, "group"]:
        return self.of_groups(self.labels)

    def of_groups(self, values: Int[Tensor, "row"]) -> Int[Tensor, "group"]:
        """Of each group what is the same in all its rows."""
        return values[_a_row_of_each(self.groups)]

    @cached_property
    def weights(self) -> Float[Tensor, "fold row"]:
        """Of rows when each fold is held out; they sum to 1.

        Classes weigh the same, so do the groups of a class and the rows of a group: a class of two
        pairs is not outvoted by one of ten.
        """
        trained = self.of_groups(self.fold) != torch.arange(int(self.fold.max()) + 1, device=self.fold.device)[:, None]
        n_alike = (trained.double() @ one_hot(self.group_labels).double())[:, self.group_labels]
        weights = (trained / n_alike.clamp_min(1) / self.groups.bincount())[:, self.groups]
        return weights / weights.sum(1, keepdim=True)


def _a_row_of_each(groups: Int[Tensor, "row"]) -> Int[Tensor, "group"]:
    rows = torch.arange(len(groups), device=groups.device)
    return rows.new_zeros(int(groups.max()) + 1).scatter(0, groups, rows)


def _folds(keys: Int[Tensor, "group key"], n_folds: int, generator: torch.Generator) -> Int[Tensor, "group"]:
    """The fold of each group; its first key is its label."""
    order = torch.randperm(len(keys), generator=generator).to(keys.device)
    order = order[keys[order, 0].argsort(stable=True)]
    fold = order.argsort() % (n_folds if len(keys) >= MIN_GROUPS_FOR_FOLDS else len(keys))
    same = keys[:, None] == keys  # [group, other, key]
    while True:
        known = (same & (fold[:, None] != fold)[..., None]).any(1).all(1)
        unfair = ((fold >= 0) & ~known).nonzero()[:, 0]
        if not len(unfair):
            return fold
        fold[unfair[int(torch.randint(len(unfair), (), generator=generator))]] = -1


def linear_probe(
    features: Float[Tensor, "*sites row dim"], split: Split, ridge: float = RIDGE
) -> Int[Tensor, "*sites row"]:
    """The class of each row, told by the probe that is trained on the other folds; -1 for rows that are in none.

    Linear discriminant analysis with equal classes (Hastie et al., The Elements of Statistical Learning,
    4.3): each class scores mu' S^-1 x - mu' S^-1 mu / 2, and the highest is told, as attention tells a key
    by the highest of scores linear in the query. S is the scatter within classes, with a ridge.

    Raises:
        ValueError: the ridge is not above 0.
    """
    _check_ridge(ridge)
    features, classes = features.detach().double(), one_hot(split.labels, split.n_classes).double()
    told = features.new_full(features.shape[:-1], -1, dtype=torch.long)
    for fold, weights in enumerate(split.weights):
        rows = split.fold == fold
        if not rows.any():
            continue
        x = _scaled(features, weights)
        shares = classes.T * weights  # [class, row]
        centres = shares @ x / shares.sum(1, keepdim=True).clamp_min(TINY)
        inside = x - centres[..., split.labels, :]
        scatter = inside.mT @ (weights[:, None] * inside) + ridge * torch.eye(x.shape[-1]).to(x)
        directions = torch.linalg.solve(scatter, centres.mT)
        scores = x[..., rows, :] @ directions - ((centres.mT * directions).sum(-2) / 2)[..., None, :]
        told[..., rows] = scores.masked_fill(shares.sum(1) == 0, -torch.inf).argmax(-1)
    return told


def numeric_probe(features: Float[Tensor, "*sites row dim"], split: Split) -> Int[Tensor, "*sites row"]:
    """The same by least squares on the label as a number, rounded to a class: only a control, as it reads
    t = i - j + 1 from its two summands, before anyone has subtracted them."""
    numbers = _least_squares(features, split.labels[:, None].double(), split, NUMERIC_RIDGE)[..., 0]
    return numbers.round().long().clamp(0, split.n_classes - 1).where(split.fold >= 0, -1)


def mlp_probe(
    features: Float[Tensor, "*sites row dim"], split: Split, generator: torch.Generator
) -> Int[Tensor, "*sites row"]:
    """The same by an MLP with one hidden layer of ReLUs, all sites and folds at once, by AdamW on whole batches.

    Features are centred and scaled by all rows, without their labels. All sites start from the same
    weights, so that what is told at one does not depend on the others.
    """
    x = features.detach().float().reshape(-1, *features.shape[-2:])
    x = x - x.mean(1, keepdim=True)
    x = (x / x.square().mean((1, 2), keepdim=True).clamp_min(TINY).sqrt()).mT.contiguous()  # rows last: twice as fast
    weights = split.weights.float().repeat(len(x), 1)  # [site and fold, row]

    def start(*shape: int) -> Float[Tensor, "site fold out in"]:
        drawn = torch.randn(len(split.weights), *shape, generator=generator) * math.sqrt(2 / shape[1])
        return drawn.to(x).repeat(len(x), 1, 1, 1).requires_grad_()

    w_in, w_out = start(N_HIDDEN, x.shape[1]), start(split.n_classes, N_HIDDEN)
    b_in, b_out = (torch.zeros_like(w[..., :1]).requires_grad_() for w in (w_in, w_out))
    optimizer = torch.optim.AdamW([w_in, w_out, b_in, b_out], lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def logits() -> Float[Tensor, "site fold class row"]:
        read = (w_in.flatten(1, 2) @ x).unflatten(1, w_in.shape[1:3])
        return w_out @ (read + b_in).relu() + b_out

    with torch.enable_grad():
        for _ in range(N_STEPS):
            targets = split.labels.expand(len(weights), -1)
            losses = cross_entropy(logits().flatten(0, 1), targets, reduction="none")
            optimizer.zero_grad()
            (losses * weights).sum().backward()
            optimizer.step()
    with torch.no_grad():
        classes = logits().argmax(2)[:, split.fold.clamp_min(0), torch.arange(len(split.fold))]
    return classes.view(features.shape[:-1]).where(split.fold >= 0, -1)


def _least_squares(
    features: Float[Tensor, "*sites row dim"], targets: Float[Tensor, "row out"], split: Split, ridge: float
) -> Float[Tensor, "*sites row out"]:
    """What the fit to the other folds says of each row; 0 for rows that are in none."""
    features = features.detach().double()
    said = features.new_zeros(*features.shape[:-1], targets.shape[1])
    for fold, weights in enumerate(split.weights):
        rows = split.fold == fold
        said[..., rows, :] = _fit(features, targets, weights, ridge)[..., rows, :]
    return said


def _fit(
    features: Float[Tensor, "*sites row dim"], targets: Float[Tensor, "row out"], weights: Tensor, ridge: float
) -> Float[Tensor, "*sites row out"]:
    """Weighted least squares with intercept, said of every row; weights sum to 1."""
    x, mean = _scaled(features, weights), weights @ targets
    gram = x.mT @ (weights[:, None] * x) + ridge * torch.eye(x.shape[-1]).to(x)
    return x @ torch.linalg.solve(gram, x.mT @ (weights[:, None] * (targets - mean))) + mean


def _scaled(features: Float[Tensor, "*sites row dim"], weights: Tensor) -> Float[Tensor, "*sites row dim"]:
    """Centred, with a whole variance of 1 in the rows that are trained on."""
    x = features - (weights @ features)[..., None, :]
    return x / (weights @ x.square()).sum(-1)[..., None, None].clamp_min(TINY).sqrt()


def _check_ridge(ridge: float) -> None:
    if not ridge > 0:
        raise ValueError(f"ridge = {ridge}: must be above 0")


@dataclass(frozen=True)
class Intervals:
    """A value and its 2.5% and 97.5% quantiles for each site, over so many groups."""

    mean: Float[Tensor, "*sites"]
    low: Float[Tensor, "*sites"]
    high: Float[Tensor, "*sites"]
    n_groups: int

    def at(self, *site: int) -> Interval:
        """Of one site; without a number, of the only one."""
        return Interval(*(float(values[site]) for values in (self.mean, self.low, self.high)))


@dataclass(frozen=True)
class Control:
    """The accuracy with labels permuted among groups, and where it lies in 95% of cases if only chance is at work."""

    accuracy: Float[Tensor, "*sites"]
    chance: Intervals

    @property
    def by_chance(self) -> Bool[Tensor, "*sites"]:
        """Whether the accuracy lies there."""
        return (self.accuracy >= self.chance.low - ROUNDING) & (self.accuracy <= self.chance.high + ROUNDING)

    def selectivity(self, found: Intervals) -> Float[Tensor, "*sites"]:
        """How much more often the probe is right with the true labels (Hewitt & Liang 2019, arXiv 1909.03368)."""
        return found.mean - self.accuracy


def accuracy(
    predictions: Int[Tensor, "*sites row"], split: Split, generator: torch.Generator, n_boot: int = 1000
) -> Intervals:
    """Mean over groups of the share of a group's rows that are right, with a bootstrap over groups.

    Rows of which -1 is said do not count.
    """
    shares, tested = _shares(predictions, split)
    right = shares[..., torch.arange(len(tested)), split.group_labels[tested]]
    draws = draws_of(len(tested), n_boot, generator).to(right)
    return intervals_of(right.mean(-1), right @ draws / len(tested), len(tested))


def shuffled_control(
    probe: Callable[[Split], Int[Tensor, "*sites row"]], split: Split, generator: torch.Generator, n_shuffles: int = 8
) -> Control:
    """What a probe, such as `lambda split: linear_probe(features, split)`, makes of labels permuted among groups.

    Chance is the mean over folds, by tested groups, of sum_k (share of predictions of class k) (share
    of labels of class k): given what was trained on, the labels of the held-out groups are equally
    likely in any order, and so much is right on average over the orders. Shares over all folds
    together would promise too much, since a class is rarer among the others where one of it is held
    out. Where each group is a fold of its own there are no shares by fold, and labels dealt anew to so
    few pairs are often a function of one part (four of the six ways to deal two labels to 2 x 2 pairs):
    chance is then what the same linear probe tells from both parts one-hot, or the shares over all
    folds where that is more, and any accuracy below it is by chance as well.
    Shuffles are independent: the interval is chance ± t(n - 1) sd(accuracy - chance) / sqrt(n) over
    the n shuffles, with t the 97.5% quantile of Student's distribution.

    Raises:
        ValueError: fewer than 2 shuffles, or labels shuffled so that no pair can be tested.
    """
    if n_shuffles < 2:
        raise ValueError(f"n_shuffles = {n_shuffles}: must be at least 2")
    right, chance, n_tested, alone = [], [], [], False
    for _ in range(n_shuffles):
        shuffled = split.shuffled(generator)
        shares, tested = _shares(probe(shuffled), shuffled)
        labels = one_hot(shuffled.group_labels, split.n_classes)[tested].to(shares)
        fold = shuffled.of_groups(shuffled.fold)[tested]
        alone = len(fold.unique()) == len(fold)
        if alone:
            fold = torch.zeros_like(fold)
        mates = one_hot(fold).to(shares)
        mates = mates / mates.sum(0).clamp_min(1).sqrt()  # twice: the product of two means, times the fold's groups
        right.append((shares * labels).sum((-2, -1)) / len(tested))
        by_shares = ((mates.T @ shares) * (mates.T @ labels)).sum((-2, -1)) / len(tested)
        if alone and shuffled.also is not None:
            parts = torch.cat([one_hot(key.unique(return_inverse=True)[1]) for key in shuffled.also.T], 1).double()
            told, _ = _shares(linear_probe(parts, shuffled), shuffled)
            by_shares = by_shares.clamp(min=float((told * labels).sum() / len(tested)))
        chance.append(by_shares)
        n_tested.append(len(tested))
    found, by_chance = torch.stack(right), torch.stack(chance)
    half = (found - by_chance).std(0) / math.sqrt(n_shuffles) * float(stdtrit(n_shuffles - 1, 0.975))
    mean = by_chance.mean(0)
    low = torch.zeros_like(mean) if alone else mean - half
    return Control(found.mean(0), Intervals(mean, low, mean + half, min(n_tested)))


def best_from(key: Int[Tensor, "row"], split: Split) -> float:
    """Accuracy over the tested groups of the best guess of the label from `key` alone, such as i.

    An upper bound: for each value it knows the most frequent label, the tested groups' own included.
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
    """The share of each tested group's rows of which each class is said, and which groups these are."""
    said = one_hot(predictions + 1, split.n_classes + 1)[..., 1:].double()
    shape = (*said.shape[:-2], len(split.group_labels), split.n_classes)
    counts = said.new_zeros(shape).index_add(-2, split.groups, said)
    tested = counts.sum(-1).reshape(-1, shape[-2]).amin(0).nonzero()[:, 0]
    return counts[..., tested, :] / counts[..., tested, :].sum(-1, keepdim=True), tested


def draws_of(n_groups: int, n_boot: int, generator: torch.Generator) -> Float[Tensor, "group draw"]:
    """How often each group is drawn, with replacement."""
    drawn = torch.randint(n_groups, (n_groups, n_boot), generator=generator)
    return torch.zeros(n_groups, n_boot).scatter_add(0, drawn, torch.ones(n_groups, n_boot))


def intervals_of(mean: Float[Tensor, "*sites"], draws: Float[Tensor, "*sites draw"], n_groups: int) -> Intervals:
    """Means with the quantiles of their draws."""
    low, high = draws.quantile(torch.tensor([0.025, 0.975]).to(draws), dim=-1)
    return Intervals(mean, low, high, n_groups)


def separable(features: Float[Tensor, "*sites row dim"], labels: Int[Tensor, "row"]) -> Float[Tensor, "*sites"]:
    """Accuracy of a linear classifier on the rows it was fitted to: 1 where the classes are linearly separable.

    The better of least squares and, unless that is always right, logistic regression. Below 1 it is
    a lower bound: neither looks for the fewest errors.
    """
    x, even = features.detach().double(), torch.ones(len(labels)).to(features.device).double() / len(labels)
    best = (_fit(x, one_hot(labels).double(), even, ROUNDING).argmax(-1) == labels).double().mean(-1)
    for site, rows in enumerate(x.reshape(-1, *x.shape[-2:]).cpu().numpy()):
        if best.view(-1)[site] < 1:
            rows = (rows - rows.mean(0)) / rows.std(0).clip(min=TINY + ROUNDING * abs(rows).max())
            with warnings.catch_warnings(action="ignore"):
                score = LogisticRegression(C=1e4, max_iter=200).fit(rows, labels.cpu()).score(rows, labels.cpu())
            best.view(-1)[site] = max(float(best.view(-1)[site]), score)
    return best
