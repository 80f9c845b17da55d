"""How far two circuits overlap, and whether an edge differs between two tasks, beside permutations.

How far two circuits overlap is said beside how far a circuit of the same size does whose edges are
permuted. Whether an edge differs between two tasks is tested by permuting the prompts' task labels,
with the largest difference over all edges as the statistic, so that the p-value holds however many
edges there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.circuits.edge_patches import RowScores
from compo_mech.circuits.scorers import TOLERANCE
from compo_mech.interventions.edges import Edge
from compo_mech.stats.intervals import Interval


def jaccard(one: frozenset[Edge], other: frozenset[Edge]) -> float:
    """Shared edges over all edges of either; 1 if both are empty."""
    return len(one & other) / len(one | other) if one | other else 1.0


N_PERMUTATIONS = 999

LEVEL = 0.05
"""An edge differs between tasks if its corrected p-value is at most this."""


def joined(one: RowScores, other: RowScores) -> RowScores:
    """The rows of both, one after the other."""
    parts = zip((one.rise, one.gap, one.n_scored), (other.rise, other.gap, other.n_scored), strict=True)
    return RowScores(one.edges, *(torch.cat(part, -1) for part in parts))


def permutation_test(
    one: RowScores, other: RowScores, generator: torch.Generator, n_deals: int = N_PERMUTATIONS
) -> pd.DataFrame:
    """Does an edge's share of the gap differ between two sets of rows, more than between rows dealt at random?

    Under no difference rows are exchangeable: they are dealt to two groups of the same sizes. Each
    difference is taken in units of its standard deviation over deals, and an edge's p-value is that of
    the largest over all edges (Westfall and Young 1993).

    Args:
        one, other: rows of either task.
        generator: deals.
        n_deals: how often.

    Returns:
        Columns edge, one, other, difference, p; a row an edge.
    """
    every, n_one = joined(one, other), one.rise.shape[1]
    n_rows = every.rise.shape[1]
    first = torch.zeros(n_deals + 1, n_rows, dtype=torch.float64)
    order = torch.rand(n_deals + 1, n_rows, generator=generator).argsort(1)
    order[0] = torch.arange(n_rows)  # as it is
    first.scatter_(1, order[:, :n_one], 1.0)
    difference = every.shares(first) - every.shares(1 - first)
    spread = difference.std(0)
    size = torch.where(spread > TOLERANCE, difference.abs() / spread.clamp(min=TOLERANCE), 0.0)
    largest = size[1:].amax(1)
    n_beyond = (largest[:, None] >= size[0] - TOLERANCE).sum(0)
    columns = {"one": one.share, "other": other.share, "difference": difference[0], "p": (n_beyond + 1) / (n_deals + 1)}
    return pd.DataFrame({"edge": list(every.edges)} | {name: column.tolist() for name, column in columns.items()})


@dataclass(frozen=True)
class PermutationResult:
    """A figure beside what it is when edges are dealt at random.

    Attributes:
        value: the figure.
        dealt: its mean and 95% range over deals.
        p: share of deals, the actual one among them, that come up to it.
    """

    value: float
    dealt: Interval
    p: float

    def __str__(self) -> str:
        return f"{self.value:.2f} (dealt at random {self.dealt.low:.2f} .. {self.dealt.high:.2f}, p = {self.p:.3f})"


def standard_ranks(values: Float[Tensor, "edge"]) -> Float[Tensor, "edge"]:
    """Ranks, ties at their mean, about 0 and of length 1: the product of two sums to Spearman's correlation.

    All 0 where the values are constant.
    """
    ranks = torch.tensor(pd.Series(values.tolist()).rank().tolist(), dtype=torch.float64)
    ranks = ranks - ranks.mean()
    return ranks / ranks.norm().clamp(min=TOLERANCE)


def permuted_overlap(
    circuits: tuple[frozenset[Edge], frozenset[Edge]],
    shares: tuple[Float[Tensor, "edge"], Float[Tensor, "edge"]],
    edges: Sequence[Edge],
    generator: torch.Generator,
    n_deals: int = N_PERMUTATIONS,
    same_kind: bool = False,
) -> tuple[PermutationResult, PermutationResult]:
    """Jaccard overlap of two circuits and rank correlation of their scores, beside deals of the second's edges.

    Args:
        circuits: the two.
        shares: scores of the edges for either task.
        edges: among which they are dealt: those that can be in a circuit at all.
        generator: deals.
        n_deals: how often.
        same_kind: an edge can only become one whose reader is of its kind (q, k, v, mlp, logits).

    Raises:
        ValueError: a circuit has an edge that is not among these.
    """
    if not circuits[0] | circuits[1] <= set(edges):
        raise ValueError("circuits = with other edges: must lie among the edges that are dealt")
    kinds = [edge.reader.kind if same_kind else "" for edge in edges]
    group = torch.tensor([sorted(set(kinds)).index(kind) for kind in kinds]).double()
    home = group.argsort(stable=True)
    drawn = (group + torch.rand(n_deals, len(edges), generator=generator, dtype=torch.float64)).argsort(1)
    deal = torch.empty_like(drawn)
    deal[:, home] = drawn
    deal = torch.cat([torch.arange(len(edges))[None], deal])
    inside = [torch.tensor([edge in circuit for edge in edges]) for circuit in circuits]
    both, either = ((op(inside[0], inside[1][deal])).sum(1) for op in (torch.logical_and, torch.logical_or))
    overlap = torch.where(either > 0, both / either.clamp(min=1), 1.0).double()
    one, other = map(standard_ranks, shares)
    return _permutation_result(overlap), _permutation_result((one * other[deal]).sum(-1))


def _permutation_result(values: Float[Tensor, "deal"]) -> PermutationResult:
    """The first is the actual one."""
    n_beyond = int((values[1:] >= values[0] - TOLERANCE).sum())
    return PermutationResult(float(values[0]), Interval.of(values[1:].tolist()), (n_beyond + 1) / len(values))
