"""From edge scores to a circuit: selection, the grade against a known truth, and its JSON.

A circuit is a set of edges of the graph. What it is worth under intervention is told by
`faithfulness.py`; whether a network has one at all by `discovery.py`.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NoReturn

from jaxtyping import Float
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from compo_mech.edges import TOLERANCE, EdgeScores
from compo_mech.graph import LOGITS, Edge, Reader, Writer, all_edges, all_readers
from compo_mech.model import ModelConfig

# ------------------------------------------------------------------------------ selection


def ranked(scores: EdgeScores) -> Float[Tensor, "edge"]:
    """|score| rounded to the tolerance, so that ties are ties; 0 for unidentifiable edges."""
    sizes = (scores.scores.detach().double().abs() / TOLERANCE).round() * TOLERANCE
    for i, hidden in enumerate(scores.unidentifiable):
        if hidden:
            sizes[i] = 0.0
    return sizes


@cache
def graph_order(edge: Edge) -> tuple[Any, ...]:
    """A sort key: by reader, then writer, then span, each in order of computation."""

    def place(part: Writer | Reader) -> tuple[float | int, bool, int, int]:
        layer = {"tok": -2, "pos": -1, "logits": math.inf}.get(part.kind, part.layer)
        assert layer is not None
        kind = "qkv".index(part.kind) if part.kind in ("q", "k", "v") else 0
        return layer, part.kind == "mlp", part.head or 0, kind

    return place(edge.reader), place(edge.writer), str(edge.span or "")


def score_order(scores: EdgeScores) -> list[Edge]:
    """Edges from the largest |score| down; ties in the order of the graph."""
    sizes = dict(zip(scores.edges, ranked(scores).tolist(), strict=True))
    return sorted(scores.edges, key=lambda edge: (-sizes[edge], graph_order(edge)))


def top(scores: EdgeScores, n_edges: int) -> frozenset[Edge]:
    """The edges of largest |score|.

    Raises:
        ValueError: there are not so many edges.
    """
    _check_n_edges(scores, n_edges)
    return frozenset(score_order(scores)[:n_edges])


def at_least(scores: EdgeScores, threshold: float) -> frozenset[Edge]:
    """The edges whose |score| is at least the threshold, to within the tolerance."""
    sizes = ranked(scores).tolist()
    return frozenset(e for e, size in zip(scores.edges, sizes, strict=True) if size >= threshold - TOLERANCE / 2)


def greedy(scores: EdgeScores, n_edges: int) -> frozenset[Edge]:
    """Grown from the logits backwards: always the edge of largest |score| whose reader is in the circuit.

    So every edge leads to the logits. Source: the greedy search of Hanna et al. 2024 (arXiv 2403.17806).

    Raises:
        ValueError: there are not so many edges.
    """
    _check_n_edges(scores, n_edges)
    waiting, inside, chosen = score_order(scores), {LOGITS.kind}, set[Edge]()
    for _ in range(n_edges):
        edge = next(edge for edge in waiting if _part(edge.reader) in inside)
        waiting.remove(edge)
        chosen.add(edge)
        inside.add(_part(edge.writer))
    return frozenset(chosen)


def connected(edges: Iterable[Edge]) -> frozenset[Edge]:
    """The edges on some path from `tok` or `pos` to the logits; the others lead nowhere."""
    edges = sorted(edges, key=graph_order)
    reached, leading = {"tok", "pos"}, {LOGITS.kind}
    for edge in edges:  # readers in order of computation: every way in comes before the way out
        if _part(edge.writer) in reached:
            reached.add(_part(edge.reader))
    for edge in reversed(edges):
        if _part(edge.reader) in leading:
            leading.add(_part(edge.writer))
    return frozenset(e for e in edges if _part(e.writer) in reached and _part(e.reader) in leading)


def _part(end: Writer | Reader) -> str:
    """The part of the network that an end of an edge belongs to, by its name in a circuit's JSON."""
    if end.kind == "mlp":
        return f"m{end.layer}"
    return end.kind if end.layer is None else f"a{end.layer}.h{end.head}"


def _check_n_edges(scores: EdgeScores, n_edges: int) -> None:
    if not 0 <= n_edges <= len(scores.edges):
        raise ValueError(f"n_edges = {n_edges}: must be 0 .. {len(scores.edges)}")


# ------------------------------------------------------------------------------ against a known truth


@dataclass(frozen=True)
class Grade:
    """How well edge scores tell the true edges from the others.

    Attributes:
        auc: area under the ROC curve of |score| over the identifiable edges; None where they are
            all true or all false.
        coverage: share of the true edges that are identifiable.
        auc_all: the same area over all edges, with unidentifiable ones as 0, the field's habit.
        top_is_truth: whether the n highest scores are exactly the n true edges, with none of the
            others level with the lowest of them.
        auprc, auprc_all: average precision over the same two sets of edges.
    """

    auc: float | None
    coverage: float
    auc_all: float
    top_is_truth: bool
    auprc: float | None
    auprc_all: float


def grade(scores: EdgeScores, truth: Iterable[Edge]) -> Grade:
    """Grade scores against the true edges; scores within 1e-6 of each other are tied.

    Raises:
        ValueError: the truth has an edge that was not scored, or holds all edges or none.
    """
    true = set(truth)
    unscored = true - set(scores.edges)
    if unscored:
        raise ValueError(f"truth = {', '.join(map(str, sorted(unscored, key=graph_order)))}: has no score")
    if not 0 < len(true) < len(scores.edges):
        raise ValueError(f"truth = {len(true)} edges: must be some but not all of {len(scores.edges)}")
    values = ranked(scores).tolist()
    labels = [edge in true for edge in scores.edges]
    seen = [not hidden for hidden in scores.unidentifiable]
    seen_labels = [label for label, shown in zip(labels, seen, strict=True) if shown]
    seen_values = [value for value, shown in zip(values, seen, strict=True) if shown]
    mixed = len(set(seen_labels)) == 2
    lowest_true = min(value for value, label in zip(values, labels, strict=True) if label)
    highest_false = max(value for value, label in zip(values, labels, strict=True) if not label)
    return Grade(
        auc=float(roc_auc_score(seen_labels, seen_values)) if mixed else None,
        coverage=sum(seen_labels) / len(true),
        auc_all=float(roc_auc_score(labels, values)),
        top_is_truth=lowest_true > highest_false,
        auprc=float(average_precision_score(seen_labels, seen_values)) if mixed else None,
        auprc_all=float(average_precision_score(labels, values)),
    )


# ------------------------------------------------------------------------------ JSON


@dataclass(frozen=True)
class Circuit:
    """Edges of a network, with the scores that they were chosen by.

    Attributes:
        config: of the network.
        edges: in the circuit.
        scores: of edges in the circuit and out of it; an edge without a score is left out.

    Raises:
        ValueError: an edge is not one of the network's, or a score is not a finite number.
    """

    config: ModelConfig
    edges: frozenset[Edge]
    scores: Mapping[Edge, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = set(all_edges(self.config))
        for edge in sorted({*self.edges, *self.scores}, key=graph_order):
            if edge._replace(span=None) not in known:
                raise ValueError(f"edge = {edge}: must be one of the network's")
            if not math.isfinite(self.scores.get(edge, 0.0)):
                raise ValueError(f"score of {edge} = {self.scores[edge]}: must be a finite number")

    @classmethod
    def of(cls, config: ModelConfig, edges: Iterable[Edge], scores: EdgeScores) -> "Circuit":
        """A circuit with the scores of all edges that were scored."""
        return cls(config, frozenset(edges), dict(zip(scores.edges, scores.scores.tolist(), strict=True)))


def to_json(circuit: Circuit) -> str:
    """The circuit in the fields of EAP-IG's and MIB's graphs.

    Their one node `input` is two here, `tok` and `pos`, and an edge without a score has no `score`.
    A node is in the graph if an edge of the circuit begins or ends there; the logits always are.

    Raises:
        ValueError: an edge is narrowed to a span, for which that format has no field.
    """
    for edge in sorted({*circuit.edges, *circuit.scores}, key=graph_order):
        if edge.span is not None:
            raise ValueError(f"edge = {edge}: must have no span to be written as JSON")
    used = {_part(end) for edge in circuit.edges for end in (edge.writer, edge.reader)} | {LOGITS.kind}
    edges: dict[str, dict[str, object]] = {}
    for name, edge in _edge_names(circuit.config).items():
        edges[name] = {"in_graph": edge in circuit.edges}
        if edge in circuit.scores:
            edges[name]["score"] = circuit.scores[edge]
    nodes = {name: {"in_graph": name in used} for name in _node_names(circuit.config)}
    return json.dumps({"cfg": _cfg(circuit.config), "nodes": nodes, "edges": edges}, allow_nan=False)


def from_json(text: str, config: ModelConfig) -> Circuit:
    """The circuit that `to_json` wrote.

    Raises:
        ValueError: one line: not JSON, a field is missing or of the wrong kind, it belongs to
            another network, or it names parts that this network does not have.
    """
    try:
        # NaN and infinities are no JSON, though Python's reader takes them
        data = json.loads(text, parse_constant=lambda name: _refuse("score", name, "must be a finite number"))
    except json.JSONDecodeError as error:
        raise ValueError(f"circuit = line {error.lineno} column {error.colno}: must be JSON") from None
    except RecursionError:
        raise ValueError("circuit = something nested too deeply: must be an object with cfg, nodes and edges") from None
    if not isinstance(data, dict):
        _refuse("circuit", type(data).__name__, "must be an object with cfg, nodes and edges")
    for name in ("cfg", "nodes", "edges"):
        if not isinstance(data.get(name), dict):
            _refuse(f"circuit.{name}", data.get(name), "must be an object")
    for name, value in _cfg(config).items():
        if (found := data["cfg"].get(name)) != value or isinstance(found, bool) != isinstance(value, bool):
            _refuse(f"cfg.{name}", found, f"must be {value}, as in this network")
    parts = {"node": (data["nodes"], dict.fromkeys(_node_names(config))), "edge": (data["edges"], _edge_names(config))}
    for kind, (given, known) in parts.items():
        for name in given:
            if name not in known:
                _refuse(kind, name, "must be one of this network's")
            if not isinstance(given[name], dict) or not isinstance(given[name].get("in_graph"), bool):
                _refuse(f"{kind} {name}", given[name], "must be an object whose in_graph is true or false")
        for name in known:
            if name not in given:
                _refuse(kind, name, "must be in the file, in the graph or out of it")
    edges, scores = set[Edge](), dict[Edge, float]()
    for name, edge in _edge_names(config).items():
        if data["edges"][name]["in_graph"]:
            for end in (_part(edge.writer), _part(edge.reader)):
                if not data["nodes"][end]["in_graph"]:
                    _refuse(f"node {end}", "out of the graph", f"must be in it, as {name} is")
            edges.add(edge)
        if "score" in data["edges"][name]:
            score = data["edges"][name]["score"]
            if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
                _refuse(f"score of {name}", score, "must be a finite number")
            scores[edge] = float(score)
    return Circuit(config, frozenset(edges), scores)


def _refuse(setting: str, value: object, allowed: str) -> NoReturn:
    shown = repr(value)
    raise ValueError(f"{setting} = {shown if len(shown) <= 60 else shown[:57] + '...'}: {allowed}")


def _cfg(config: ModelConfig) -> dict[str, object]:
    return {
        "n_layers": config.n_layers,
        "n_heads": config.n_heads,
        "parallel_attn_mlp": False,
        "d_model": config.d_model,
    }


def _node_names(config: ModelConfig) -> list[str]:
    return list(dict.fromkeys(["tok", "pos", *(_part(reader) for reader in all_readers(config))]))


def _edge_names(config: ModelConfig) -> dict[str, Edge]:
    """`a0.h0->m0` and `m0->a1.h0<q>`: every edge by its name, in the order of the graph."""
    names = {}
    for edge in all_edges(config):
        into = f"<{edge.reader.kind}>" if edge.reader.kind in ("q", "k", "v") else ""
        names[f"{_part(edge.writer)}->{_part(edge.reader)}{into}"] = edge
    return names
