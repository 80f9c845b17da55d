"""Is a circuit the only one? The search for a second faithful circuit that shares as few edges with it as can be.

Both are minimal: their output is near the network's (`edge_search.SPARED`), and without any one of their edges it is
not. The first is the smallest part found of the discovered circuit; the second is what is left of the network when the
first one's edges are dropped before all others. Where components stand in for each other the two differ.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from compo_mech.circuits.edge_search import SPARED, faithful
from compo_mech.circuits.edge_sets import OnRows
from compo_mech.circuits.overlap import jaccard
from compo_mech.circuits.selection import graph_order, random_edges
from compo_mech.interventions.edges import Edge
from compo_mech.stats.intervals import Interval, counted, on_its_side, two_decimals

SAME = 2 / 3
"""Circuits that share this fraction of their edges (intersection over union) count as one."""

N_ORDERS = 2
N_RANDOM = 20


@dataclass(frozen=True)
class Alternative:
    """The smallest faithful part of a circuit, and the other faithful circuit that shares the fewest edges with it.

    Attributes:
        first: the smallest part found.
        second: the other one; None if every search ended with the first, a part of it or more than it.
        overlap: their intersection over union.
        distances: of either from the network's output, as `OnRows.distance` has it.
        random: overlap of two random circuits of their sizes.
        n_sets: sets of edges that the search asked for.

    >>> from compo_mech.interventions.notation import read_edge
    >>> one, two = (frozenset({read_edge(text)}) for text in ("mlp1 → logits", "mlp0 → logits"))
    >>> Alternative(one, two, 0.0, (0.01, 0.02), None, n_sets=40).exists
    True
    """

    first: frozenset[Edge]
    second: frozenset[Edge] | None
    overlap: float | None
    distances: tuple[float, float | None]
    random: Interval | None
    n_sets: int

    @property
    def exists(self) -> bool:
        """Whether there is a second circuit that is not nearly the first."""
        return self.overlap is not None and self.overlap < SAME

    def __str__(self) -> str:
        found = f"{'a' if self.exists else 'no'} second faithful circuit found among {self.n_sets} sets of edges"
        sizes, away = counted(len(self.first), "edge"), on_its_side(self.distances[0], SPARED)
        if self.second is None or self.overlap is None or self.distances[1] is None:
            return (
                f"{found}: every search led to the first, of {sizes}, a part of it or more than it; it is at a "
                f"distance of {away} (at most {SPARED})"
            )
        overlap = two_decimals(SAME) if self.overlap == SAME else on_its_side(self.overlap, SAME)
        shared = f"{'it' if self.exists else 'the least alike'} shares {overlap} of their edges"
        level = f"below 2/3 counts as another; two random circuits {self.random}"
        other = on_its_side(self.distances[1], SPARED)
        both = f"{sizes} and {len(self.second)}, at distances of {away} and {other} (at most {SPARED})"
        return f"{found}: {shared} with the first ({level}); they have {both}"


def alternative(
    on: OnRows, circuit: frozenset[Edge], order: Sequence[Edge], generator: torch.Generator
) -> Alternative | None:
    """Search for a second circuit; None where the discovered one is not near the network.

    Args:
        on: values of sets of edges.
        circuit: the discovered one.
        order: every edge, the ones that matter most first.
        generator: draws orders in which edges are dropped, and random circuits.

    >>> from compo_mech import Parity, build
    >>> from compo_mech.circuits import EdgeSets, circuit_pairs
    >>> built, generator = build(Parity(), max_length=2), torch.Generator().manual_seed(0)
    >>> pairs = circuit_pairs(built.model, built.data, 8, generator, Parity(), built.shifts)
    >>> sets = EdgeSets(built.model, pairs)
    >>> alternative(OnRows(sets), built.edges, sets.edges, generator).exists
    False
    """
    if on.distance(circuit) > SPARED:
        return None
    n_before, every, least = on.sets.n_asked, frozenset(order), list(order)[::-1]
    own = [edge for edge in least if edge in circuit]
    first = min((faithful(on, circuit, dropped) for dropped in _orders(own, generator)), key=len)
    others = [edge for edge in least if edge not in first]
    second, overlap = None, 1.0
    for dropped in _orders([edge for edge in own if edge in first], generator):
        found = faithful(on, every, [*dropped, *others])
        if jaccard(first, found) < overlap and not (found < first or found > first):
            second, overlap = found, jaccard(first, found)
    n_sets = on.sets.n_asked - n_before
    if second is None:
        return Alternative(first, None, None, (on.distance(first), None), None, n_sets)
    drawn = [[random_edges(order, len(c), generator) for c in (first, second)] for _ in range(N_RANDOM)]
    distances = on.distance(first), on.distance(second)
    return Alternative(first, second, overlap, distances, Interval.of([jaccard(*two) for two in drawn]), n_sets)


def _orders(edges: Sequence[Edge], generator: torch.Generator) -> Iterator[Sequence[Edge]]:
    """Orders in which edges are dropped: the least first, the most first, either way along the graph, and random."""
    along = sorted(edges, key=graph_order)
    yield from (edges, edges[::-1], along, along[::-1])
    for _ in range(N_ORDERS):
        yield [edges[i] for i in torch.randperm(len(edges), generator=generator).tolist()]
