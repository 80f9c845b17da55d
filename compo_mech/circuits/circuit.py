"""A circuit: edges of a network with the scores that they were chosen by, and its JSON."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from compo_mech.circuits.scores import EdgeScores
from compo_mech.circuits.selection import graph_order, node_name, reading_nodes
from compo_mech.interventions.edges import LOGITS, Edge, all_edges, all_readers, embedding_writers
from compo_mech.model.config import ModelConfig


@dataclass(frozen=True)
class Circuit:
    """Edges of a network, with the scores that they were chosen by.

    Attributes:
        config: of the network.
        edges: in the circuit.
        scores: of edges in the circuit and out of it; an edge without a score is left out.

    Raises:
        ValueError: an edge is not one of the network's, or a score is not a finite number.

    >>> from compo_mech import Parity, build
    >>> built = build(Parity(), max_length=3)
    >>> circuit = Circuit(built.model.config, built.edges)
    >>> len(circuit.edges), len(all_edges(built.model.config))
    (10, 61)
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
        """Make a circuit with the scores of all edges that were scored.

        >>> from compo_mech import Parity, Switch, build, exact, make_pairs
        >>> import torch
        >>> built, edge = build(Parity(), max_length=3), all_edges(ModelConfig())[0]
        >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
        >>> Circuit.of(built.model.config, [], exact(built.model, pairs, [edge])).scores[edge]  # tok → L0H0.q
        0.0
        """
        return cls(config, frozenset(edges), dict(zip(scores.edges, scores.scores.tolist(), strict=True)))


def to_json(circuit: Circuit) -> str:
    """Write the circuit in the fields of EAP-IG's and MIB's graphs.

    Their one node `input` is two here, `tok` and `pos`, and an edge without a score has no `score`. A node is in the
    graph if an edge of the circuit begins or ends there; the logits always are.

    Raises:
        ValueError: an edge is restricted to a span, for which that format has no field.

    >>> from compo_mech import Parity, build
    >>> built = build(Parity(), max_length=3)
    >>> written = json.loads(to_json(Circuit(built.model.config, built.edges)))
    >>> written["edges"]["a1.h0->m1"], written["nodes"]["a1.h1"]
    ({'in_graph': True}, {'in_graph': False})
    """
    for edge in sorted({*circuit.edges, *circuit.scores}, key=graph_order):
        if edge.span is not None:
            raise ValueError(f"edge = {edge}: must have no span to be written as JSON")
    used = {name for edge in circuit.edges for name in _ends(edge, circuit.config)} | {LOGITS.kind}
    edges: dict[str, dict[str, object]] = {}
    for name, edge in _edge_names(circuit.config).items():
        edges[name] = {"in_graph": edge in circuit.edges}
        if edge in circuit.scores:
            edges[name]["score"] = circuit.scores[edge]
    nodes = {name: {"in_graph": name in used} for name in _node_names(circuit.config)}
    return json.dumps({"cfg": _cfg(circuit.config), "nodes": nodes, "edges": edges}, allow_nan=False)


def from_json(text: str, config: ModelConfig) -> Circuit:
    """Read the circuit that `to_json` wrote.

    Raises:
        ValueError: one line: not JSON, a field is missing or of the wrong kind, it belongs to another network, or it
            names components that this network does not have.

    >>> from compo_mech import Parity, build
    >>> built = build(Parity(), max_length=3)
    >>> circuit = Circuit(built.model.config, built.edges)
    >>> from_json(to_json(circuit), built.model.config) == circuit
    True
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
    sections = {
        "node": (data["nodes"], dict.fromkeys(_node_names(config))),
        "edge": (data["edges"], _edge_names(config)),
    }
    for kind, (given, known) in sections.items():
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
            for end in _ends(edge, config):
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
    cfg: dict[str, object] = {
        "n_layers": config.n_layers,
        "n_heads": config.n_heads,
        "parallel_attn_mlp": config.parallel_attn_mlp,
        "d_model": config.d_model,
    }
    return cfg if config.n_sharing == 1 else cfg | {"n_key_value_heads": config.n_kv_heads}


def _node_names(config: ModelConfig) -> list[str]:
    writers = map(node_name, embedding_writers(config))
    return list(dict.fromkeys([*writers, *(name for r in all_readers(config) for name in reading_nodes(r, config))]))


def _ends(edge: Edge, config: ModelConfig) -> list[str]:
    return [node_name(edge.writer), *reading_nodes(edge.reader, config)]


def _edge_names(config: ModelConfig) -> dict[str, Edge]:
    """`a0.h0->m0` and `m0->a1.h0<q>`: every edge by its name, in the order of the graph.

    Before `<k>` and `<v>` stands the head of keys and values.
    """
    names = {}
    for edge in all_edges(config):
        into = f"<{edge.reader.kind}>" if edge.reader.kind in ("q", "k", "v") else ""
        names[f"{node_name(edge.writer)}->{node_name(edge.reader)}{into}"] = edge
    return names
