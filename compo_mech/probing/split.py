"""Probes tested on *held-out groups*, so that a lookup table cannot pass for a rule.

A group is a pair whose label is to be decoded: positions (i, j) with t = i - j + 1, or (state, input)
with F(s, x). All its rows are held out together. A *site* is where features come from (a position,
a layer, a checkpoint); every measure takes any leading site axes and treats each site alone.

Note on chance for pairs like (i, j): all other pairs with the same i have other labels, so a probe that reads nothing
but i and j is right *less* often than chance, nearly never.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

MIN_GROUPS, MIN_GROUPS_FOR_FOLDS = 4, 12
"""With fewer than the latter each group is a fold of its own."""


@dataclass(frozen=True)
class Split:
    """The label of each row, and the fold in which the row is held out. Made by `Split.draw`.

    Attributes:
        labels: class of each row, from 0.
        groups: of each row, numbered from 0.
        fold: in which each row is held out; -1: in none, it is always trained on.
        n_folds: number of folds.
        also: further keys that must occur in other groups, such as i and j.
    """

    labels: Int[Tensor, "row"]
    groups: Int[Tensor, "row"]
    fold: Int[Tensor, "row"]
    n_folds: int
    also: Int[Tensor, "row key"] | None = None

    @classmethod
    def draw(
        cls,
        labels: Int[Tensor, "row"],
        groups: Int[Tensor, "row"],
        n_folds: int,
        generator: torch.Generator,
        also: Int[Tensor, "row key"] | None = None,
    ) -> "Split":
        """Assign groups to folds at random, each label as equally as possible.

        Guarantee: the label and the `also` keys of every held-out group occur in the groups trained on. Groups that
        violate it go to fold -1, one by one, as each may help others.

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

    def permuted(self, generator: torch.Generator) -> "Split":
        """Permute labels among groups and assign the groups to folds again, so that the guarantee holds for these
        labels."""
        order = torch.randperm(len(self.group_labels), generator=generator).to(self.labels.device)
        return Split.draw(self.group_labels[order][self.groups], self.groups, self.n_folds, generator, self.also)

    @cached_property
    def n_classes(self) -> int:
        return int(self.labels.max()) + 1

    @cached_property
    def group_labels(self) -> Int[Tensor, "group"]:
        return self.of_groups(self.labels)

    def of_groups(self, values: Int[Tensor, "row"]) -> Int[Tensor, "group"]:
        """For each group the value that all its rows have."""
        return values[_a_row_of_each(self.groups)]

    @cached_property
    def weights(self) -> Float[Tensor, "fold row"]:
        """Of rows when each fold is held out; they sum to 1.

        Classes have equal weight, and so have the groups of a class and the rows of a group: a class of two pairs is
        not outvoted by one of ten.
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
