"""From edge scores to a set of edges."""

import heapq
import math
from collections.abc import Iterable, Sequence
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.circuits.scores import TOLERANCE, EdgeScores, check_scores
from compo_mech.interventions.edges import LOGITS, Edge, Reader, Writer, heads_reading
from compo_mech.model.config import ModelConfig


def ranked(scores: EdgeScores) -> Float[Tensor, "edge"]:
    """|score| rounded to the tolerance, so that ties are ties; 0 for unidentifiable edges.

    >>> import torch
    >>> from compo_mech import ModelConfig, all_edges
    >>> edges, no = tuple(all_edges(ModelConfig())[:3]), (False,) * 3
    >>> scores = EdgeScores(edges, torch.tensor([-0.5, 2.0, 1.0]), unidentifiable=(False, True, False), no_effect=no)
    >>> ranked(scores).tolist()
    [0.5, 0.0, 1.0]
    """
    check_scores(scores.edges, scores.scores)
    sizes = (scores.scores.detach().double().abs() / TOLERANCE).round() * TOLERANCE
    for i, hidden in enumerate(scores.unidentifiable):
        if hidden:
            sizes[i] = 0.0
    return sizes


Order = tuple[float | int, bool, int, int]
"""Where the end of an edge comes in the order of computation: layer, MLP after heads, head, q before k before v."""


@cache
def graph_order(edge: Edge) -> tuple[Order, Order, str]:
    """Return a sort key: by reader, then writer, then span, each in order of computation.

    >>> from compo_mech import ModelConfig, all_edges
    >>> edges = all_edges(ModelConfig())
    >>> sorted(edges[::-1], key=graph_order) == edges
    True
    """

    def rank(end: Writer | Reader) -> Order:
        layer = {"tok": -2, "pos": -1, "logits": math.inf}.get(end.kind, end.layer)
        assert layer is not None
        kind = "qkv".index(end.kind) if end.kind in ("q", "k", "v") else 0
        return layer, end.kind == "mlp", end.head or 0, kind

    return rank(edge.reader), rank(edge.writer), str(edge.span or "")


def score_order(scores: EdgeScores) -> list[Edge]:
    """Sort edges from the largest |score| down; ties in the order of the graph.

    >>> import torch
    >>> from compo_mech import ModelConfig, all_edges
    >>> edges, no = tuple(all_edges(ModelConfig())[:3]), (False,) * 3
    >>> [edges.index(edge) for edge in score_order(EdgeScores(edges, torch.tensor([0.1, -2.0, 1.0]), no, no))]
    [1, 2, 0]
    """
    sizes = dict(zip(scores.edges, ranked(scores).tolist(), strict=True))
    return sorted(scores.edges, key=lambda edge: (-sizes[edge], graph_order(edge)))


def top(scores: EdgeScores, n_edges: int) -> frozenset[Edge]:
    """Return the edges of largest |score|.

    Raises:
        ValueError: there are not so many edges.

    >>> import torch
    >>> from compo_mech import ModelConfig, all_edges
    >>> edges, no = tuple(all_edges(ModelConfig())[:3]), (False,) * 3
    >>> top(EdgeScores(edges, torch.tensor([0.1, -2.0, 1.0]), no, no), 2) == {edges[1], edges[2]}
    True
    """
    _check_n_edges(scores, n_edges)
    return frozenset(score_order(scores)[:n_edges])


def at_least(scores: EdgeScores, threshold: float) -> frozenset[Edge]:
    """Return the edges whose |score| is at least the threshold, to within the tolerance.

    >>> import torch
    >>> from compo_mech import ModelConfig, all_edges
    >>> edges, no = tuple(all_edges(ModelConfig())[:3]), (False,) * 3
    >>> at_least(EdgeScores(edges, torch.tensor([0.1, -2.0, 1.0]), no, no), 1.5) == {edges[1]}
    True
    """
    sizes = ranked(scores).tolist()
    return frozenset(e for e, size in zip(scores.edges, sizes, strict=True) if size >= threshold - TOLERANCE / 2)


def greedy(scores: EdgeScores, n_edges: int, config: ModelConfig) -> frozenset[Edge]:
    """Grow a circuit backwards from the logits, always by the edge of largest |score| whose reader is in the circuit.

    So every edge leads to the logits; keys and values that heads share are read in the circuit if one of them is in it.
    Source: the greedy search of Hanna et al. 2024 (arXiv 2403.17806).

    Raises:
        ValueError: there are not so many edges.

    >>> import torch
    >>> edges, no = (Edge(Writer("tok"), Reader("mlp", 0)), Edge(Writer("mlp", 0), LOGITS)), (False,) * 2
    >>> chosen = greedy(EdgeScores(edges, torch.tensor([2.0, 1.0]), no, no), 1, ModelConfig())
    >>> [str(edge) for edge in chosen]  # the other scores higher, but leads nowhere yet
    ['mlp0 → logits']
    """
    _check_n_edges(scores, n_edges)
    into: dict[str, list[tuple[int, Edge]]] = {}
    for place, edge in enumerate(score_order(scores)):
        for node in reading_nodes(edge.reader, config):
            into.setdefault(node, []).append((place, edge))
    waiting, chosen = into.pop(LOGITS.kind, []), set[Edge]()  # a sorted list is a heap
    while len(chosen) < n_edges:
        _, edge = heapq.heappop(waiting)
        chosen.add(edge)  # where heads share keys it may be there already
        for item in into.pop(node_name(edge.writer), ()):
            heapq.heappush(waiting, item)
    return frozenset(chosen)


def connected(edges: Iterable[Edge], config: ModelConfig) -> frozenset[Edge]:
    """Return the edges on some path from `tok` or `pos` to the logits; the others have no effect on the logits.

    >>> kept = connected([Edge(Writer("tok"), LOGITS), Edge(Writer("tok"), Reader("mlp", 0))], ModelConfig())
    >>> [str(edge) for edge in kept]  # what MLP 0 puts out is not read
    ['tok → logits']
    """
    edges = sorted(edges, key=graph_order)
    reading = {reader: reading_nodes(reader, config) for reader in {edge.reader for edge in edges}}
    ends = [(edge, node_name(edge.writer), reading[edge.reader]) for edge in edges]
    reached, leading = {"tok", "pos"}, {LOGITS.kind}
    for _, writer, readers in ends:  # in order of computation: every edge into a node comes before those out of it
        if writer in reached:
            reached.update(readers)
    for _, writer, readers in reversed(ends):
        if not leading.isdisjoint(readers):
            leading.add(writer)
    return frozenset(edge for edge, writer, readers in ends if writer in reached and not leading.isdisjoint(readers))


def random_edges(edges: Sequence[Edge], n_edges: int, generator: torch.Generator) -> frozenset[Edge]:
    """Draw so many edges, each as likely as any other.

    >>> from compo_mech import ModelConfig, all_edges
    >>> edges = all_edges(ModelConfig())
    >>> len(random_edges(edges, 10, torch.Generator().manual_seed(0)))
    10
    """
    order = torch.randperm(len(edges), generator=generator).tolist()
    return frozenset(edges[i] for i in order[:n_edges])


def reading_nodes(reader: Reader, config: ModelConfig) -> list[str]:
    """Name the components that a reader belongs to: several heads where they share keys and values.

    >>> config = ModelConfig(n_heads=4, n_key_value_heads=2)
    >>> [reading_nodes(reader, config) for reader in (Reader("q", 1, 1), Reader("k", 1, 1), LOGITS)]
    [['a1.h1'], ['a1.h2', 'a1.h3'], ['logits']]
    """
    if reader.head is None:
        return [node_name(reader)]
    return [node_name(Writer("head", reader.layer, head)) for head in heads_reading(reader, config)]


@cache
def node_name(end: Writer | Reader) -> str:
    """Name a component by its name in a circuit's JSON: a writer, or whose queries, MLP or logits a reader is.

    Keys and values have the number of their own heads: see `reading_nodes`.

    >>> node_name(Writer("head", 1, 0)), node_name(Reader("q", 1, 0)), node_name(Reader("mlp", 0))
    ('a1.h0', 'a1.h0', 'm0')
    """
    if end.kind == "mlp":
        return f"m{end.layer}"
    return end.kind if end.layer is None else f"a{end.layer}.h{end.head}"


def _check_n_edges(scores: EdgeScores, n_edges: int) -> None:
    if not 0 <= n_edges <= len(scores.edges):
        raise ValueError(f"n_edges = {n_edges}: must be 0 .. {len(scores.edges)}")
