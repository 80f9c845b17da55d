"""Is there a circuit? Its stability over prompts, and the verdict "circuit", "no circuit" or "cannot be told".

Accuracy says whether there is anything to judge (see `accuracy`); of a network that does the task, only the effects of
its edges under intervention count.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from compo_mech.circuits.accuracy import PairAccuracy
from compo_mech.circuits.edge_patches import EdgePatches, scores_of_rows
from compo_mech.circuits.edge_search import SWAPPED, Found, search
from compo_mech.circuits.edge_sets import EdgeSets, OnRows
from compo_mech.circuits.exact import exact
from compo_mech.circuits.overlap import jaccard
from compo_mech.circuits.scorers import Scorer
from compo_mech.circuits.scores import EdgeScores
from compo_mech.circuits.selection import random_edges, score_order
from compo_mech.interventions.edges import Edge
from compo_mech.interventions.metrics import Metric, cross_entropy
from compo_mech.interventions.pairs import Pairs
from compo_mech.model.params import Model
from compo_mech.stats.intervals import Interval, level_beside, on_its_side

HELD_OUT = 0.7
"""A circuit found on half of the prompts must move this fraction on the other half."""

OVERLAP = 0.6
"""Circuits of the two halves must overlap by this much (Jaccard)."""

LARGEST_FRACTION = 0.9
"""A circuit must leave out at least a tenth of the network's edges: the whole network does not count as one."""
N_RANDOM = 20
N_GRID = 32

LARGE = 2000
"""Edges beyond which a circuit is the smallest in score order, and edges that stand in for it are not sought."""


DiscoveryVerdict = Literal["circuit", "no circuit", "cannot be told"]


@dataclass(frozen=True)
class Discovery:
    """Whether a network has a circuit for a task.

    Attributes:
        verdict: of all that follows.
        reason: the verdict in a sentence.
        accuracy: of the network, on the clean and on the corrupt input.
        circuit: all edges that matter, by themselves or together (see `edge_search`); in a network of more than `LARGE`
            edges the smallest in score order that moves enough of the answers. It is there whatever the verdict on it;
            None if not even the whole network moves enough, or nothing was judged.
        scores: of all edges.
        n_edges: of the whole network.
        swap: fraction of the answers to be moved that the circuit moves, or the network where there is none.
        random: the same for random circuits of its size.
        held_out: the same for circuits of one half of the prompts on the other, the lower of two.
        overlap: Jaccard overlap of the circuits of the two halves; None if a half has none.
        found: why each edge is in the circuit or not; None where it was not searched for.

    >>> from compo_mech import BuildOptions, Parity, build
    >>> from compo_mech.circuits.prompts import circuit_pairs
    >>> decoy, generator = build(Parity(), 3, BuildOptions(broken="update")), torch.Generator().manual_seed(0)
    >>> pairs = circuit_pairs(decoy.model, decoy.data, 8, generator, Parity(), decoy.shifts)
    >>> found = discover(decoy.model, pairs, generator)
    >>> found.verdict, found.kept
    ('cannot be told', frozenset())
    """

    verdict: DiscoveryVerdict
    reason: str
    accuracy: PairAccuracy
    circuit: frozenset[Edge] | None
    scores: EdgeScores
    n_edges: int
    swap: float
    random: Interval | None = None
    held_out: float | None = None
    overlap: float | None = None
    found: Found | None = None

    @property
    def sentence(self) -> str:
        """The verdict with its reason and the network's accuracy."""
        beside = "" if self.verdict == "cannot be told" else f"; the network is {self.accuracy}"
        return f"{self.reason}{beside}."

    @property
    def kept(self) -> frozenset[Edge]:
        """The circuit if the verdict is that there is one, else no edge."""
        return self.circuit if self.circuit and self.verdict == "circuit" else frozenset()


def size_grid(n_edges: int) -> list[int]:
    """Return the sizes of circuits that are tried: evenly spaced, in large networks by factors as well.

    A network of a few components has a circuit of a good part of its edges, one of tens of thousands of a few hundred.

    >>> size_grid(61)[:4], len(size_grid(61)), size_grid(70_000)[:6]
    ([2, 4, 6, 8], 32, [1, 2, 4, 8, 16, 32])
    """
    evenly = {round(n_edges * k / N_GRID) for k in range(1, N_GRID + 1)} - {0}
    doubled = {2**k for k in range(n_edges.bit_length()) if 2**k < n_edges} if n_edges > LARGE else set()
    first = min(evenly, default=0)
    return sorted(evenly | {n for n in doubled if n < first})


def discover(
    model: Model,
    pairs: Pairs,
    generator: torch.Generator,
    scorer: Scorer = exact,
    metric: Metric = cross_entropy,
    patches: EdgePatches | None = None,
    sets: EdgeSets | None = None,
) -> Discovery:
    """Search for a circuit that does the pairs' task.

    It is judged where the network is right about at least `ABLE` of the answers to the clean and to the corrupt input.
    There is one if, with all other edges carrying the corrupt input, the edges that matter give the algorithm's answers
    to the clean input (not the network's: one that does something else by a small circuit has no circuit for the task);
    if they leave out enough of the network; if random circuits of their size do not do as well; and if each half of the
    prompts finds about the same circuit, which works on the other half.

    Args:
        model: the network.
        pairs: clean and corrupt inputs with the task's answers.
        generator: draws the halves and the random circuits.
        scorer: of edges; by it they are ordered that do not matter by themselves, in large networks all.
        metric: what it scores by.
        patches, sets: the pass of `exact` and sets of edges that were run on these pairs, if they are at hand.

    Raises:
        ValueError: the model cannot read the pairs, there are fewer than two rows, or no answer differs.

    >>> from compo_mech import Parity, build
    >>> from compo_mech.circuits.prompts import circuit_pairs
    >>> built, generator = build(Parity(), max_length=3), torch.Generator().manual_seed(0)
    >>> pairs = circuit_pairs(built.model, built.data, 8, generator, Parity(), built.shifts)
    >>> found = discover(built.model, pairs, generator)
    >>> found.verdict, found.circuit == built.edges
    ('circuit', True)
    """
    _check(pairs)
    score = scores_of_rows(model, pairs, scorer, metric, patches)
    scores, sets = score(None), sets or EdgeSets(model, pairs)
    if patches is not None:
        sets.know(patches)
    on, accuracy, n_edges = OnRows(sets), sets.accuracy, len(sets.edges)
    moved = on.swap(sets.edges)
    if not accuracy.able:
        return Discovery("cannot be told", accuracy.refusal, accuracy, None, scores, n_edges, moved)
    if moved < SWAPPED:
        whole = f"the whole network moves {on_its_side(moved, SWAPPED)}, and {SWAPPED} are needed"
        reason = f"no circuit: of the answers that the task asks for, {whole}"
        return Discovery("no circuit", reason, accuracy, None, scores, n_edges, moved)
    circuit, found = _circuit(on, scores)
    assert circuit is not None  # the whole network is one
    moved, size = on.swap(circuit), len(circuit)
    random = Interval.of([on.swap(random_edges(sets.edges, size, generator)) for _ in range(N_RANDOM)])
    halves = torch.randperm(len(pairs.clean_tokens), generator=generator).chunk(2)
    held_out, overlap = _held_out([(_half(sets, half), score(half.to(pairs.row.device))) for half in halves])
    objections = _objections(size, n_edges, moved, random, held_out, overlap)
    verdict = "no circuit" if objections else "circuit"
    but, alike = f"but {', and '.join(objections)}", f"as many at random {random}; {_overlap(overlap or 0.0)}"
    reason = f"{verdict}: {_moved(size, n_edges, moved, found)}, {but if objections else alike}"
    return Discovery(verdict, reason, accuracy, circuit, scores, n_edges, moved, random, held_out, overlap, found)


def _circuit(on: OnRows, scores: EdgeScores) -> tuple[frozenset[Edge] | None, Found | None]:
    """All edges that matter on these rows; in large networks the smallest circuit in score order, by its size.

    None where the whole network does not do the task.
    """
    order = score_order(scores)
    if on.swap(order) < SWAPPED:
        return None, None
    if len(order) <= LARGE:
        found = search(on, order)
        return found.circuit, found
    below, n = 0, len(order)
    for n in size_grid(len(order)):
        if on.swap(order[:n]) >= SWAPPED:
            break
        below = n
    while n - below > 1:  # swap nearly always grows with size; where it does not, a smaller one may be missed
        middle = (below + n) // 2
        below, n = (below, middle) if on.swap(order[:middle]) >= SWAPPED else (middle, n)
    return frozenset(order[:n]), None


def _half(sets: EdgeSets, rows: Int[Tensor, "half"]) -> OnRows:
    return OnRows(sets, torch.zeros_like(sets.n_scored).index_fill(0, rows, 1.0))


def _check(pairs: Pairs) -> None:
    if (n_rows := len(pairs.clean_tokens)) < 2:
        raise ValueError(f"pairs = {n_rows} rows: must be at least 2, to hold one half against the other")
    if not (pairs.foil != pairs.target).any():
        raise ValueError("pairs = none with answers that differ: there must be something to move")


def _moved(size: int, n_edges: int, moved: float, found: Found | None) -> str:
    which = f"the first {size} of {n_edges} edges in score order" if found is None else f"{size} of {n_edges} edges"
    if found is not None and (n := len(found.together)):
        which += f", {n} of which {'matters' if n == 1 else 'matter'} only together with others,"
    moves = f"{'moves' if size == 1 else 'move'} {on_its_side(moved, SWAPPED)}"
    return f"{which} {moves} of the answers that the task asks for ({SWAPPED} needed)"


def _overlap(overlap: float) -> str:
    shown = on_its_side(overlap, OVERLAP)
    return f"circuits of two halves of the prompts overlap by {shown} ({OVERLAP} needed)"


def _objections(
    size: int, n_edges: int, moved: float, random: Interval, held_out: float | None, overlap: float | None
) -> list[str]:
    """What speaks against a circuit that moves enough of the answers, in words; none: it is one."""
    found = []
    if size > LARGEST_FRACTION * n_edges:
        found.append(f"that is nearly the whole network (at most {LARGEST_FRACTION:.0%} allowed)")
    if not random.high < moved:
        found.append(f"as many at random move {random}, up to as much")
    if held_out is None or overlap is None:
        found.append("half of the prompts show none")
    elif not held_out >= HELD_OUT:
        moved_there = on_its_side(held_out, HELD_OUT)
        found.append(f"found on half of the prompts, one moves {moved_there} on the others ({HELD_OUT} needed)")
    elif not overlap >= OVERLAP:
        found.append(_overlap(overlap))
    elif not overlap > (chance := size / (2 * n_edges - size)):  # of two sets of this size, size² / n_edges are shared
        beside = level_beside(chance, overlap, on_its_side(overlap, OVERLAP))
        found.append(f"{_overlap(overlap)}, and two random ones of its size by {beside}")
    return found


def _held_out(halves: Sequence[tuple[OnRows, EdgeScores]]) -> tuple[float | None, float | None]:
    """The lower swap of a half's circuit on the other half, and the overlap of the two circuits."""
    (here, _), (there, _) = halves
    one, other = (_circuit(on, scores)[0] for on, scores in halves)
    if one is None or other is None:
        return None, None
    return min(there.swap(one), here.swap(other)), jaccard(one, other)
