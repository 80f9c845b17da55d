"""The search for a circuit in a network whose components may stand in for each other.

1. Edges that matter by themselves are kept: without one, the output moves away from the network's.
2. All others are dropped, least first and in whole stretches, as long as the output stays and the task is done. What
   cannot be dropped stands in for what was: of heads of which any two suffice, two are left.
3. Edges are removed from the network and from the circuit. Where the network does without them and the circuit does
   not, the circuit lacks a substitute, and the fewest edges that make up for it are added; and so for edges outside
   the circuit that do harm when only some of them are removed.

What is left is every edge that changes the output by itself, or together with others of which no fewer would. Dropping
by joint effect is that of Conmy et al. 2023 (arXiv 2304.14997), step 3 the completeness of Wang et al. 2022 (arXiv
2211.00593).
"""

from collections.abc import Callable, Iterator, Sequence

import torch

from compo_mech.circuits.edge_sets import OnRows
from compo_mech.interventions.edges import Edge

SWAPPED = 0.9
"""A circuit does the task if it moves this fraction of the answers that have to change by the algorithm."""

MATTERS = 0.01
"""An edge matters if without it the output moves by more than this, in units of what the corrupt input moves it by."""

MISSED = 0.1
"""Edges have a substitute if without them the network's output moves by at most this, and the circuit's by as much
more."""

N_DRAWS = 4

Edges = frozenset[Edge]


def minimal(kept: Edges, candidates: Sequence[Edge], holds: Callable[[Edges, Edges], bool]) -> Edges:
    """Drop candidates from a set, in whole stretches where that holds, until none can go.

    Args:
        kept: the set, which holds.
        candidates: that may be dropped, first ones first.
        holds: whether the second set may become the first, which has fewer edges.

    >>> from compo_mech import ModelConfig, all_edges
    >>> edges = all_edges(ModelConfig())[:6]
    >>> needed = {edges[1], edges[4]}
    >>> minimal(frozenset(edges), edges, lambda less, kept: needed <= less) == needed
    True
    """
    while True:
        before, stretches = kept, [[edge for edge in candidates if edge in kept]]
        while stretches:
            some = stretches.pop()
            if not some:
                continue
            if holds(kept.difference(some), kept):
                kept = kept.difference(some)
            elif len(some) > 1:
                half = len(some) // 2
                stretches += [some[half:], some[:half]]
        if kept == before:
            return kept


def search(on: OnRows, order: Sequence[Edge]) -> Edges:
    """Find all edges that matter, by themselves or together.

    Args:
        on: values of sets of edges.
        order: every edge, the ones that matter most first; it decides between edges that do not matter alone.

    >>> from compo_mech import Parity
    >>> from compo_mech.circuits.edge_sets import EdgeSets
    >>> from compo_mech.circuits.prompts import circuit_pairs
    >>> from compo_mech.ground_truth import build_hard_case
    >>> built, generator = build_hard_case("two of three", Parity(), max_length=3), torch.Generator().manual_seed(0)
    >>> pairs = circuit_pairs(built.model, built.data, 16, generator, Parity(), built.shifts)
    >>> sets = EdgeSets(built.model, pairs)
    >>> search(OnRows(sets), sets.edges) == built.edges
    True
    """
    return _Search(on, order).complete()


def sufficient(on: OnRows, kept: Edges, candidates: Sequence[Edge]) -> Edges:
    """Drop candidates from a set of edges that does the task until none can go without the task."""
    return minimal(kept, candidates, lambda less, _: on.swap(less) >= SWAPPED)


class _Search:
    def __init__(self, on: OnRows, order: Sequence[Edge]) -> None:
        self.on, self.every = on, frozenset(order)
        self.alone = {edge: on.distance(self.every - {edge}) for edge in order}
        self.ascending = sorted(reversed(order), key=lambda edge: round(self.alone[edge] / 1e-6))

    def complete(self) -> Edges:
        """The circuit, and all that stands in for any of it."""
        matter = frozenset(edge for edge, moved in self.alone.items() if moved > MATTERS)
        circuit = minimal(self.every, [edge for edge in self.ascending if edge not in matter], self.stays)
        while True:
            missing = next(filter(None, self.missing(circuit)), None)
            if missing is None:
                return circuit
            circuit |= missing

    def stays(self, less: Edges, kept: Edges) -> bool:
        """Whether the output stays and the task is done as before."""
        on = self.on
        return on.distance(less) <= on.distance(kept) + MATTERS and on.swap(less) >= min(SWAPPED, on.swap(kept))

    def missing(self, circuit: Edges) -> Iterator[Edges]:
        """Edges that the circuit lacks, for each set that is removed from it and from the network."""
        on = self.on
        outside = [edge for edge in self.ascending if edge not in circuit]
        for removed in self.removals(circuit):
            whole = self.every - removed
            moved = on.distance(whole)
            if moved <= MISSED < on.distance(circuit - removed) - moved:
                yield minimal(whole, outside, self.stays) - circuit
        generator = torch.Generator().manual_seed(0)
        for _ in range(N_DRAWS):
            order = torch.randperm(len(outside), generator=generator).tolist()
            some = frozenset(outside[i] for i in order[: len(outside) // 2])
            if self.harms(some, circuit):
                yield minimal(some, outside, lambda less, _: self.harms(less, circuit))

    def harms(self, removed: Edges, circuit: Edges) -> bool:
        """Whether the network misses edges although it does not miss all that is outside the circuit."""
        return self.on.distance(self.every - removed) - self.on.distance(circuit) > MISSED

    def removals(self, circuit: Edges) -> Iterator[Edges]:
        """Sets of the circuit's edges without any of which the network does: single ones, all of a writer, all into a
        reader, and as many as can go together, in several orders."""
        order = [edge for edge in self.ascending if edge in circuit and self.alone[edge] <= MISSED]
        yield from (frozenset({edge}) for edge in order)
        for end in range(2):
            for node in dict.fromkeys(edge[end] for edge in order):
                yield frozenset(edge for edge in circuit if edge[end] == node)
        generator = torch.Generator().manual_seed(1)
        for _ in range(N_DRAWS):
            some = [order[i] for i in torch.randperm(len(order), generator=generator).tolist()]
            left = minimal(self.every, some, lambda less, _: self.on.distance(less) <= MISSED)
            yield self.every - left
