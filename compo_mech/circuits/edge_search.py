"""The search for a circuit in a network whose components may stand in for each other.

1. Edges that matter by themselves are kept: without one, the output moves away from the network's or answers are lost.
2. All others are dropped, least first and in whole stretches, as long as the output stays and the task is done. What
   cannot be dropped stands in for what was: of three heads of which any two suffice, two are left.
3. Edges are removed from the network and from the circuit: single ones, all of a writer, all into a reader, as many as
   the network does without. Where it does and the circuit does not, the circuit lacks what stands in for them, and the
   fewest edges that do are added. So are edges outside the circuit that do harm when only some of them are removed.

What is left is every edge that changes the output by itself, or together with others of which no fewer would, each with
the two sets that show it. Dropping by joint effect is that of Conmy et al. 2023 (arXiv 2304.14997), step 3 the
completeness of Wang et al. 2022 (arXiv 2211.00593).
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.circuits.edge_sets import OnRows
from compo_mech.circuits.scores import TOLERANCE
from compo_mech.interventions.edges import Edge

SWAPPED = 0.9
"""A circuit does the task if it moves this fraction of the answers that have to change by the algorithm."""

MATTERS = 0.015
"""An edge matters if without it the output is further from the network's by more than this, in units of how far the
corrupt input's is."""

LOST = 0.01
"""An edge that does less matters if without it more than this fraction of the answers to be moved is lost, and if what
it does is far beyond the median edge: where small weights are noise, each may turn an answer."""

BACKGROUND = 100.0
"""So many times the median."""

SPARED = 0.05
"""The network does without edges if its output moves by at most this when they are removed."""

MISSED = 0.15
"""A circuit lacks what stands in for edges if it is further from the network without them by more than this."""

N_DRAWS = 4
"""Random orders and random halves in which edges are removed."""

N_SETS = 4
"""The search for what stands in for edges ends when this many sets an edge of the network were run."""

Edges = frozenset[Edge]


class Witness(NamedTuple):
    """Two sets that differ in one edge: by what it changes between them, the edge is in a circuit or out of it.

    >>> from compo_mech import ModelConfig, all_edges
    >>> kept = frozenset(all_edges(ModelConfig()))
    >>> one = min(kept, key=str)
    >>> Witness(kept - {one}, kept).kept - Witness(kept - {one}, kept).less == {one}
    True
    """

    less: Edges
    kept: Edges


@dataclass(frozen=True)
class Found:
    """A circuit and why each edge is in it or not.

    Attributes:
        circuit: all edges that matter.
        witnesses: of every edge of the network.
        together: edges of the circuit that matter only together with others.
        n_sets: sets of edges that were run for it.
        background: what an edge has to move the output by that matters for the answers it loses.
        finished: whether it ended by itself, not because it had run as many sets as it may.

    >>> from compo_mech.interventions.notation import read_edge
    >>> edge = read_edge("mlp1 → logits")
    >>> Found(frozenset({edge}), {}, frozenset(), n_sets=0, background=0.0, finished=True).circuit == {edge}
    True
    """

    circuit: Edges
    witnesses: Mapping[Edge, Witness]
    together: Edges
    n_sets: int
    background: float
    finished: bool

    def effects(self, on: OnRows) -> dict[Edge, float]:
        """How much each edge moves the output, where that shows."""
        return {edge: on.distance(witness.less) - on.distance(witness.kept) for edge, witness in self.witnesses.items()}

    def on_draws(self, on: OnRows, weights: Float[Tensor, "draw row"]) -> list[Edges]:
        """The circuit by the same sets on other draws of the rows, none of which is run again."""
        draws = [OnRows(on.sets, row) for row in weights]
        return [frozenset(edge for edge in self.witnesses if self.shows(at, edge)) for at in draws]

    def shows(self, on: OnRows, edge: Edge) -> bool:
        """Whether the two sets of an edge say on these rows that it is in the circuit."""
        witness = self.witnesses[edge]
        return matters(on, *witness, self.background) or (edge in self.together and undone(on, *witness))


def matters(on: OnRows, less: Edges, kept: Edges, background: float = 0.0) -> bool:
    """Whether what the first set lacks is missed: answers are lost, or the output moves away.

    >>> from compo_mech import Parity, build
    >>> from compo_mech.circuits import EdgeSets, circuit_pairs
    >>> built, generator = build(Parity(), max_length=2), torch.Generator().manual_seed(0)
    >>> pairs = circuit_pairs(built.model, built.data, 8, generator, Parity(), built.shifts)
    >>> on = OnRows(EdgeSets(built.model, pairs))
    >>> every = frozenset(on.sets.edges)
    >>> matters(on, built.edges, every), matters(on, every - built.edges, every)
    (False, True)
    """
    moved, before, after = on.distance(less) - on.distance(kept), on.swap(kept), on.swap(less)
    return moved > MATTERS or (moved > background and after < before - LOST)


def undone(on: OnRows, less: Edges, kept: Edges) -> bool:
    """Whether the first set no longer does the task.

    >>> from compo_mech import Parity, build
    >>> from compo_mech.circuits import EdgeSets, circuit_pairs
    >>> built, generator = build(Parity(), max_length=2), torch.Generator().manual_seed(0)
    >>> pairs = circuit_pairs(built.model, built.data, 8, generator, Parity(), built.shifts)
    >>> on = OnRows(EdgeSets(built.model, pairs))
    >>> undone(on, built.edges, frozenset(on.sets.edges)), undone(on, frozenset(), built.edges)
    (False, True)
    """
    return on.swap(less) < min(SWAPPED, on.swap(kept))


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
            if some and holds(kept.difference(some), kept):
                kept = kept.difference(some)
            elif len(some) > 1:
                half = len(some) // 2
                stretches += [some[half:], some[:half]]
        if kept == before:
            return kept


def faithful(on: OnRows, kept: Edges, candidates: Sequence[Edge]) -> Edges:
    """Drop candidates from a set whose output is near the network's (see `SPARED`) until none can go without that.

    >>> from compo_mech import Parity, build
    >>> from compo_mech.circuits import EdgeSets, circuit_pairs
    >>> built, generator = build(Parity(), max_length=2), torch.Generator().manual_seed(0)
    >>> pairs = circuit_pairs(built.model, built.data, 8, generator, Parity(), built.shifts)
    >>> sets = EdgeSets(built.model, pairs)
    >>> faithful(OnRows(sets), frozenset(sets.edges), sets.edges) <= built.edges
    True
    """
    return minimal(kept, candidates, lambda less, _: on.distance(less) <= SPARED)


def search(on: OnRows, order: Sequence[Edge]) -> Found:
    """Find all edges that matter, by themselves or together.

    Args:
        on: values of sets of edges; the whole network must do the task.
        order: every edge, the ones that matter most first; it decides between edges that do not matter alone.

    >>> from compo_mech import Parity, build
    >>> from compo_mech.circuits import EdgeSets, circuit_pairs
    >>> built, generator = build(Parity(), max_length=2), torch.Generator().manual_seed(0)
    >>> pairs = circuit_pairs(built.model, built.data, 8, generator, Parity(), built.shifts)
    >>> sets = EdgeSets(built.model, pairs)
    >>> found = search(OnRows(sets), sets.edges)
    >>> found.circuit == built.edges, found.together  # where components stand in for each other, edges matter together
    (True, frozenset())
    """
    return _Search(on, order).found()


class _Search:
    def __init__(self, on: OnRows, order: Sequence[Edge]) -> None:
        self.on, self.every, self.n_before = on, frozenset(order), on.sets.n_run
        self.alone = {edge: Witness(self.every - {edge}, self.every) for edge in order}
        self.moves = {edge: on.distance(witness.less) for edge, witness in self.alone.items()}
        self.background = BACKGROUND * statistics.median(self.moves.values())
        least_first = order[::-1]
        self.ascending = sorted(least_first, key=lambda edge: round(self.moves[edge] / TOLERANCE))

    def found(self) -> Found:
        by_itself = {edge: witness for edge, witness in self.alone.items() if self.matters(*witness)}
        candidates = [edge for edge in self.ascending if edge not in by_itself]
        first = minimal(self.every, candidates, self.stays)
        circuit = by_itself | {edge: Witness(first - {edge}, first) for edge in first if edge not in by_itself}
        n_edges = 0
        while n_edges < len(circuit) and not self.ended:
            n_edges = len(circuit)
            for witnesses in self.missing(circuit):
                circuit |= witnesses
                if self.ended:
                    break
        together = frozenset(circuit).difference(by_itself)
        n_sets = self.on.sets.n_run - self.n_before
        return Found(frozenset(circuit), self.alone | circuit, together, n_sets, self.background, not self.ended)

    def stays(self, less: Edges, kept: Edges) -> bool:
        """Whether what the first set lacks is not missed, and the task is still done."""
        return not (self.matters(less, kept) or undone(self.on, less, kept))

    def matters(self, less: Edges, kept: Edges) -> bool:
        return matters(self.on, less, kept, self.background)

    @property
    def ended(self) -> bool:
        """Whether as many sets were run as the search may run."""
        return self.on.sets.n_run - self.n_before > N_SETS * len(self.every)

    def missing(self, circuit: Mapping[Edge, Witness]) -> Iterator[dict[Edge, Witness]]:
        """Edges that a growing circuit lacks, for each set that is removed from it and from the network."""
        on = self.on
        for removed in self.removals(frozenset(circuit)):
            own, whole = frozenset(circuit), self.every - removed
            moved = on.distance(whole)
            if moved <= SPARED and on.distance(own - removed) - moved - on.distance(own) > MISSED:
                near = moved + SPARED
                candidates = [edge for edge in self.ascending if edge not in own]
                left = minimal(whole, candidates, lambda less, _, near=near: on.distance(less) <= near)
                yield {edge: Witness(left - {edge}, left) for edge in left - own}
        generator, own = torch.Generator().manual_seed(0), frozenset(circuit)
        outside = [edge for edge in self.ascending if edge not in own]
        for _ in range(N_DRAWS):
            order = torch.randperm(len(outside), generator=generator).tolist()
            some = frozenset(outside[i] for i in order[: len(outside) // 2])
            if self.harms(some, own):
                some = minimal(some, outside, lambda less, _: self.harms(less, own))
                yield {edge: Witness(self.every - some, (self.every - some) | {edge}) for edge in some}

    def harms(self, removed: Edges, circuit: Edges) -> bool:
        """Whether the network misses edges although it does not miss all that is outside the circuit."""
        return self.on.distance(self.every - removed) - self.on.distance(circuit) > MISSED

    def removals(self, circuit: Edges) -> Iterator[Edges]:
        """Sets of the circuit's edges that the network may do without: single ones, all of a writer, all into a reader,
        and as many as can go together, in several orders."""
        order = [edge for edge in self.ascending if edge in circuit and self.moves[edge] <= SPARED]
        yield from (frozenset({edge}) for edge in order)
        for end in range(2):
            for node in dict.fromkeys(edge[end] for edge in order):
                yield frozenset(edge for edge in circuit if edge[end] == node)
        generator = torch.Generator().manual_seed(1)
        for _ in range(N_DRAWS):
            some = [order[i] for i in torch.randperm(len(order), generator=generator).tolist()]
            yield self.every - faithful(self.on, self.every, some)
