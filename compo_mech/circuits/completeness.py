"""The verdict on a circuit: is it faithful, complete and minimal, beside random circuits of its size?"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from compo_mech.circuits.accuracy import PairAccuracy
from compo_mech.circuits.faithfulness import Behaviour
from compo_mech.circuits.selection import graph_order
from compo_mech.interventions.edges import Edge
from compo_mech.stats.intervals import ROUNDING, Interval, on_its_side

FAITHFUL = 0.01
"""A circuit is faithful if its faithfulness lies within this of 1."""

COMPLETE = 0.3
"""A circuit is complete if it and the network never differ by more than this, in units of the whole gap."""

MINIMAL = 0.01
"""An edge is needed if its removal moves the result by more than this, in units of the whole gap."""
N_HALVES = 8
N_RANDOM = 5


class Removal(NamedTuple):
    """A set K of a circuit's edges that is taken out of it.

    >>> from compo_mech import Parity, build
    >>> *_, last = removals(build(Parity(), max_length=3).edges, torch.Generator().manual_seed(0), n_halves=0)
    >>> last.name, len(last.edges)
    ('everything', 10)
    """

    name: str
    edges: frozenset[Edge]


def removals(circuit: frozenset[Edge], generator: torch.Generator, n_halves: int = N_HALVES) -> Iterator[Removal]:
    """Yield the sets K: nothing, each edge, all edges of each writer and reader, random halves, everything.

    >>> from compo_mech import Parity, build
    >>> circuit = build(Parity(), max_length=3).edges
    >>> names = [removal.name for removal in removals(circuit, torch.Generator().manual_seed(0), n_halves=1)]
    >>> names[0], names[1], names[-2:]
    ('nothing', 'tok → L0H0.k', ['half 0', 'everything'])
    """
    edges = sorted(circuit, key=graph_order)
    yield Removal("nothing", frozenset())
    yield from (Removal(str(edge), frozenset({edge})) for edge in edges)
    for writer in dict.fromkeys(edge.writer for edge in edges):
        yield Removal(f"all of {writer}", frozenset(edge for edge in edges if edge.writer == writer))
    for reader in dict.fromkeys(edge.reader for edge in edges):
        yield Removal(f"all into {reader}", frozenset(edge for edge in edges if edge.reader == reader))
    for n in range(n_halves):
        order = torch.randperm(len(edges), generator=generator).tolist()
        yield Removal(f"half {n}", frozenset(edges[i] for i in order[: len(edges) // 2]))
    yield Removal("everything", circuit)


class Gap(NamedTuple):
    """The difference between a circuit and the network when the same edges are removed from both, in units of the whole
    gap.

    >>> Gap("half 0", circuit=0.25, network=0.75).size
    0.5
    """

    removed: str
    circuit: float
    network: float

    @property
    def size(self) -> float:
        """|f(C without K) - f(M without K)|."""
        return abs(self.circuit - self.network)


def completeness(behaviour: Behaviour, circuit: Iterable[Edge], without: Sequence[Removal]) -> list[Gap]:
    """f(C \\ K) beside f(M \\ K) for every K; the largest gap is the incompleteness.

    Source: Wang et al. 2022 (arXiv 2211.00593), with f for their F.

    Returns:
        One gap a removal; none where the network's own gap is too small.

    >>> from compo_mech import Parity, build
    >>> from compo_mech.circuits.prompts import circuit_pairs
    >>> built, generator = build(Parity(), max_length=3), torch.Generator().manual_seed(0)
    >>> pairs = circuit_pairs(built.model, built.data, 8, generator, Parity(), built.shifts)
    >>> behaviour = Behaviour(built.model, pairs)
    >>> gaps = completeness(behaviour, built.edges, list(removals(built.edges, generator, n_halves=2)))
    >>> max(gap.size for gap in gaps) < 0.01  # what is not in the true circuit never stands in for it
    True
    """
    kept, network = frozenset(circuit), frozenset(behaviour.edges)
    gaps = []
    for name, removed in without:
        ours, whole = behaviour.faithfulness(kept - removed), behaviour.faithfulness(network - removed)
        if ours is not None and whole is not None:
            gaps.append(Gap(name, ours, whole))
    return gaps


def minimality(behaviour: Behaviour, circuit: Iterable[Edge], without: Sequence[Removal]) -> dict[Edge, float]:
    """For every edge, the change of f(C \\ K) when the edge is removed as well, for a K that shows it.

    That is the first K whose effect is above MINIMAL, and else the largest effect of any. The smallest over edges is
    the circuit's minimality. Source: Wang et al. 2022 (arXiv 2211.00593).

    Returns:
        Effects in units of the whole gap; none where that is too small.

    >>> from compo_mech import Parity, build
    >>> from compo_mech.circuits.prompts import circuit_pairs
    >>> built, generator = build(Parity(), max_length=3), torch.Generator().manual_seed(0)
    >>> pairs = circuit_pairs(built.model, built.data, 8, generator, Parity(), built.shifts)
    >>> behaviour = Behaviour(built.model, pairs)
    >>> effects = minimality(behaviour, built.edges, list(removals(built.edges, generator, n_halves=2)))
    >>> set(effects) == built.edges, min(effects.values()) > MINIMAL
    (True, True)
    """
    kept, effects = frozenset(circuit), dict[Edge, float]()
    for edge in sorted(kept, key=graph_order):
        for _, removed in without:
            if edge in removed:
                continue
            ours = behaviour.faithfulness(kept - removed)
            less = behaviour.faithfulness(kept - removed - {edge})
            if ours is None or less is None:
                return {}
            effects[edge] = max(effects.get(edge, 0.0), abs(ours - less))
            if effects[edge] > MINIMAL:
                break
    return effects


@dataclass(frozen=True)
class CircuitMeasures:
    """Three numbers of one circuit, in units of the whole gap.

    Attributes:
        faithfulness: f(C).
        gap: the largest of `completeness`.
        effects: of each edge, as `minimality` finds them.

    >>> from compo_mech.interventions.edges import LOGITS, TOK
    >>> measures = CircuitMeasures(1.0, Gap("nothing", 1.0, 0.9), effects={Edge(TOK, LOGITS): 0.5})
    >>> round(measures.incompleteness, 2), measures.minimality
    (0.1, 0.5)
    """

    faithfulness: float
    gap: Gap
    effects: dict[Edge, float]

    @property
    def incompleteness(self) -> float:
        return self.gap.size

    @property
    def minimality(self) -> float:
        return min(self.effects.values())


@dataclass(frozen=True)
class CircuitVerdict:
    """Whether a circuit is faithful, complete and minimal.

    Attributes:
        accuracy: of the network on both inputs.
        measures: of the circuit; None where that accuracy, or the network's own gap, is too small to measure by.
        random_faithfulness, random_incompleteness, random_minimality: of random circuits of its size.

    >>> from compo_mech.interventions.edges import LOGITS, TOK
    >>> measures = CircuitMeasures(1.0, Gap("nothing", 1.0, 0.9), effects={Edge(TOK, LOGITS): 0.5})
    >>> verdict = CircuitVerdict(PairAccuracy(1.0, 1.0), measures, None, None, None)
    >>> print(*str(verdict).split("; "), sep=chr(10))
    faithful: 1.00 (within 0.01 of 1 needed)
    complete: 0.10 apart without nothing (at most 0.3)
    minimal: tok → logits moves 0.50 (more than 0.01)
    """

    accuracy: PairAccuracy
    measures: CircuitMeasures | None
    random_faithfulness: Interval | None
    random_incompleteness: Interval | None
    random_minimality: Interval | None

    @property
    def faithful(self) -> bool:
        return self.measures is not None and _is_faithful(self.measures.faithfulness)

    @property
    def complete(self) -> bool:
        return self.measures is not None and _is_complete(self.measures.incompleteness)

    @property
    def minimal(self) -> bool:
        return self.measures is not None and _is_minimal(self.measures.minimality)

    @property
    def holds(self) -> bool:
        return self.faithful and self.complete and self.minimal

    def __str__(self) -> str:
        if not self.accuracy.able:
            return self.accuracy.refusal
        if self.measures is None:
            return "no verdict: the network does the same on the corrupt input"
        found, (edge, effect) = self.measures, min(self.measures.effects.items(), key=lambda item: item[1])
        near = 1 - FAITHFUL if found.faithfulness < 1 else 1 + FAITHFUL
        complete, minimal = "complete" if self.complete else "incomplete", f"{'' if self.minimal else 'not '}minimal"
        return (
            f"{'' if self.faithful else 'not '}faithful: {on_its_side(found.faithfulness, near)} (within {FAITHFUL} of "
            f"1 needed{_beside(self.random_faithfulness, _is_faithful)}); {complete}: "
            f"{on_its_side(found.gap.size, COMPLETE)} apart without {found.gap.removed} (at most {COMPLETE}"
            f"{_beside(self.random_incompleteness, _is_complete)}); {minimal}: {edge} moves "
            f"{on_its_side(effect, MINIMAL)} (more than {MINIMAL}{_beside(self.random_minimality, _is_minimal)})"
        )


def _is_faithful(faithfulness: float) -> bool:
    return abs(faithfulness - 1) <= FAITHFUL + ROUNDING


def _is_complete(incompleteness: float) -> bool:
    return incompleteness <= COMPLETE + ROUNDING


def _is_minimal(minimality: float) -> bool:
    return minimality > MINIMAL + ROUNDING


def _beside(random: Interval | None, passes: Callable[[float], bool]) -> str:
    return "" if random is None else f"; random circuits {random}{', which pass too' if passes(random.mean) else ''}"


def judge(
    behaviour: Behaviour,
    circuit: Iterable[Edge],
    generator: torch.Generator,
    n_halves: int = N_HALVES,
    n_random: int = N_RANDOM,
) -> CircuitVerdict:
    """Measure faithfulness, completeness and minimality of a circuit, each beside random circuits of its size.

    Nothing is measured where the network does not do the task (see `accuracy.ABLE`).

    Args:
        behaviour: of the network.
        circuit: some of its edges.
        generator: draws the halves and the random circuits.
        n_halves: random halves among the sets that are removed.
        n_random: random circuits.

    Raises:
        ValueError: the circuit has no edge, or one that the network does not have.

    >>> from compo_mech import Parity, build
    >>> from compo_mech.circuits.prompts import circuit_pairs
    >>> built, generator = build(Parity(), max_length=3), torch.Generator().manual_seed(0)
    >>> pairs = circuit_pairs(built.model, built.data, 8, generator, Parity(), built.shifts)
    >>> behaviour = Behaviour(built.model, pairs)
    >>> verdict = judge(behaviour, built.edges, generator, n_halves=2, n_random=1)
    >>> verdict.faithful, verdict.complete, verdict.minimal
    (True, True, True)
    """
    kept = frozenset(circuit)
    if not kept:
        raise ValueError("circuit = no edge: must have at least one")
    if not behaviour.accuracy.able:
        return CircuitVerdict(behaviour.accuracy, None, None, None, None)
    found = _measures(behaviour, kept, generator, n_halves)
    others = [
        _measures(behaviour, behaviour.random_circuit(len(kept), generator), generator, n_halves)
        for _ in range(n_random)
    ]
    measured = [other for other in others if other is not None]
    if found is None or not measured:
        return CircuitVerdict(behaviour.accuracy, found, None, None, None)
    return CircuitVerdict(
        behaviour.accuracy,
        found,
        Interval.of([other.faithfulness for other in measured]),
        Interval.of([other.incompleteness for other in measured]),
        Interval.of([other.minimality for other in measured]),
    )


def _measures(
    behaviour: Behaviour, circuit: frozenset[Edge], generator: torch.Generator, n_halves: int
) -> CircuitMeasures | None:
    without = list(removals(circuit, generator, n_halves))
    faithfulness = behaviour.faithfulness(circuit)
    if faithfulness is None:
        return None
    gap = max(completeness(behaviour, circuit, without), key=lambda gap: gap.size)
    return CircuitMeasures(faithfulness, gap, minimality(behaviour, circuit, without))
