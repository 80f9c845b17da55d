"""How far two circuits overlap, and whether an edge differs between two tasks, beside permutations.

The overlap of two circuits is compared with that of a circuit of the same size whose edges are permuted. Whether an
edge differs between two tasks is tested by permuting the prompts' task labels, with the largest difference over all
edges as the statistic, so that the p-value holds however many edges there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.circuits.edge_patches import RowScores
from compo_mech.circuits.scores import TOLERANCE
from compo_mech.interventions.edges import Edge
from compo_mech.model.finite import check_finite
from compo_mech.stats.intervals import Interval

if TYPE_CHECKING:
    import pandas as pd


def jaccard(one: frozenset[Edge], other: frozenset[Edge]) -> float:
    """Shared edges over all edges of either; 1 if both are empty.

    >>> from compo_mech import ModelConfig, all_edges
    >>> one, two, three = all_edges(ModelConfig())[:3]
    >>> jaccard(frozenset({one, two}), frozenset({two})), jaccard(frozenset({one}), frozenset({two, three}))
    (0.5, 0.0)
    """
    return len(one & other) / len(one | other) if one | other else 1.0


N_PERMUTATIONS = 999

LEVEL = 0.05
"""An edge differs between tasks if its corrected p-value is at most this."""


def joined(one: RowScores, other: RowScores) -> RowScores:
    """The rows of both, one after the other.

    >>> from compo_mech import ModelConfig, all_edges
    >>> rise, gap = torch.ones(1, 2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    >>> rows = RowScores(tuple(all_edges(ModelConfig())[:1]), rise, gap, torch.tensor([1, 1]))
    >>> len(joined(rows, rows).gap)
    4
    """
    columns = zip((one.rise, one.gap, one.n_scored), (other.rise, other.gap, other.n_scored), strict=True)
    return RowScores(one.edges, *(torch.cat(both, -1) for both in columns))


def permutation_test(
    one: RowScores, other: RowScores, generator: torch.Generator, n_permutations: int = N_PERMUTATIONS
) -> "pd.DataFrame":
    """Does an edge's share of the gap differ between two sets of rows, more than between rows with permuted labels?

    Under no difference rows are exchangeable: their labels are permuted. Each difference is taken in units of its
    standard deviation over permutations, and an edge's p-value is that of the largest over all edges (Westfall and
    Young 1993).

    Args:
        one, other: rows of either task.
        generator: draws the permutations.
        n_permutations: how often.

    Returns:
        Columns edge, first_share, second_share, difference, p; a row an edge.

    >>> from compo_mech import ModelConfig, all_edges
    >>> edges, gap, n = tuple(all_edges(ModelConfig())[:1]), torch.ones(6, dtype=torch.float64), torch.ones(6).long()
    >>> one, other = (RowScores(edges, torch.full((1, 6), x, dtype=torch.float64), gap, n) for x in (0.1, 0.9))
    >>> table = permutation_test(one, other, torch.Generator().manual_seed(0), n_permutations=99)
    >>> table[["first_share", "second_share", "p"]].round(2).values.tolist()
    [[0.1, 0.9, 0.01]]
    """
    import pandas as pd

    every, n_one = joined(one, other), one.rise.shape[1]
    n_rows = every.rise.shape[1]
    first = torch.zeros(n_permutations + 1, n_rows, dtype=torch.float64)
    order = torch.rand(n_permutations + 1, n_rows, generator=generator).argsort(1)
    order[0] = torch.arange(n_rows)  # as it is
    first.scatter_(1, order[:, :n_one], 1.0)
    difference = every.shares(first) - every.shares(1 - first)
    spread = difference.std(0)
    size = torch.where(spread > TOLERANCE, difference.abs() / spread.clamp(min=TOLERANCE), 0.0)
    largest = size[1:].amax(1)
    n_beyond = (largest[:, None] >= size[0] - TOLERANCE).sum(0)
    columns = {"first_share": one.share, "second_share": other.share, "difference": difference[0]}
    columns["p"] = (n_beyond + 1) / (n_permutations + 1)
    return pd.DataFrame({"edge": list(every.edges)} | {name: column.tolist() for name, column in columns.items()})


@dataclass(frozen=True)
class PermutationResult:
    """A figure beside what it is when edges are permuted.

    Attributes:
        value: the figure.
        permuted: its mean and 95% range over permutations.
        p: fraction of permutations, the actual order among them, that come up to it.

    >>> print(PermutationResult(0.5, Interval(0.1, 0.0, 0.2), 0.01))
    0.50 (permuted 0.00 .. 0.20, p = 0.010)
    """

    value: float
    permuted: Interval
    p: float

    def __str__(self) -> str:
        return f"{self.value:.2f} (permuted {self.permuted.low:.2f} .. {self.permuted.high:.2f}, p = {self.p:.3f})"


def standard_ranks(values: Float[Tensor, "edge"]) -> Float[Tensor, "edge"]:
    """Ranks, ties at their mean, about 0 and of length 1: the product of two sums to Spearman's correlation.

    All 0 where the values are constant.

    >>> one, other = standard_ranks(torch.tensor([0.1, 0.2, 9.0])), standard_ranks(torch.tensor([3.0, 2.0, 1.0]))
    >>> round(float(one @ other), 6)  # Spearman's correlation
    -1.0
    """
    import pandas as pd

    check_finite("values", values)
    ranks = torch.tensor(pd.Series(values.tolist()).rank().tolist(), dtype=torch.float64)
    ranks = ranks - ranks.mean()
    return ranks / ranks.norm().clamp(min=TOLERANCE)


def permutations_within(
    groups: Int[Tensor, "item"], n_permutations: int, generator: torch.Generator
) -> Int[Tensor, "permutation item"]:
    """Draw permutations in which every item becomes one of its own group.

    >>> groups = torch.tensor([0, 1, 0, 1])
    >>> drawn = permutations_within(groups, 5, torch.Generator().manual_seed(0))
    >>> torch.equal(groups[drawn], groups.expand(5, -1))
    True
    """
    home = groups.argsort(stable=True)
    drawn = groups + torch.rand(n_permutations, len(groups), generator=generator, dtype=torch.float64)
    permuted = torch.empty_like(drawn, dtype=torch.long)
    permuted[:, home] = drawn.argsort(1)
    return permuted


def permuted_overlap(
    circuits: tuple[frozenset[Edge], frozenset[Edge]],
    shares: tuple[Float[Tensor, "edge"], Float[Tensor, "edge"]],
    edges: Sequence[Edge],
    generator: torch.Generator,
    n_permutations: int = N_PERMUTATIONS,
    same_kind: bool = False,
) -> tuple[PermutationResult, PermutationResult]:
    """Jaccard overlap of two circuits and rank correlation of their scores, with the second's edges permuted.

    Args:
        circuits: the two.
        shares: scores of the edges for either task.
        edges: that are permuted: those that can be in a circuit at all.
        generator: draws the permutations.
        n_permutations: how often.
        same_kind: an edge can only become one whose reader is of its kind (q, k, v, mlp, logits).

    Raises:
        ValueError: a circuit has an edge that is not among these.

    >>> from compo_mech import Parity, all_edges, build
    >>> built = build(Parity(), max_length=3)
    >>> edges, circuit = all_edges(built.model.config), built.edges
    >>> score = torch.tensor([float(edge in circuit) for edge in edges])
    >>> overlap, _ = permuted_overlap((circuit, circuit), (score, score), edges, torch.Generator().manual_seed(0), 99)
    >>> overlap.value, overlap.permuted.high < 0.5, overlap.p
    (1.0, True, 0.01)
    """
    if not circuits[0] | circuits[1] <= set(edges):
        raise ValueError("circuits = with other edges: must lie among the edges that are permuted")
    kinds = [edge.reader.kind if same_kind else "" for edge in edges]
    groups = torch.tensor([sorted(set(kinds)).index(kind) for kind in kinds])
    order = torch.cat([torch.arange(len(edges))[None], permutations_within(groups, n_permutations, generator)])
    inside = [torch.tensor([edge in circuit for edge in edges]) for circuit in circuits]
    both, either = ((op(inside[0], inside[1][order])).sum(1) for op in (torch.logical_and, torch.logical_or))
    overlap = torch.where(either > 0, both / either.clamp(min=1), 1.0).double()
    one, other = map(standard_ranks, shares)
    return _permutation_result(overlap), _permutation_result((one * other[order]).sum(-1))


def _permutation_result(values: Float[Tensor, "permutation"]) -> PermutationResult:
    """The first is the actual one."""
    n_beyond = int((values[1:] >= values[0] - TOLERANCE).sum())
    return PermutationResult(float(values[0]), Interval.of(values[1:].tolist()), (n_beyond + 1) / len(values))
