"""Circuits of one network run on the same pairs, without computing the same twice.

What a head or an MLP puts out depends on the edges that lead to it alone. So each of its outputs is kept under the
edges that it was computed with, and circuits that agree on these share it.
"""

from collections.abc import Hashable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.data.layout import Span
from compo_mech.interventions.edges import (
    LOGITS,
    TOK,
    Edge,
    Reader,
    Writer,
    embedding_writers,
    readers_of,
    writers_before,
)
from compo_mech.interventions.graph import Outputs, Stream, run_both, run_graph
from compo_mech.interventions.pairs import Pairs
from compo_mech.model.finite import check_finite
from compo_mech.model.params import Model

MAX_KEPT = 2**27
"""Bytes of outputs that are kept; beyond that those go that were not asked for longest."""

Patched = Mapping[Reader, Mapping[Writer, frozenset[Span | None]]]
"""By reader and writer, the spans in which an edge carries the corrupt value; None: everywhere."""


class CircuitRuns:
    """The scored logits of circuits, all other edges carrying what the writers put out on the corrupt input.

    Args:
        model: the network.
        pairs: clean and corrupt inputs, and what is scored.
        edges: all that circuits are made of.
        corrupt: what the other edges carry instead.

    Raises:
        ValueError: the model cannot read the pairs.

    >>> from compo_mech import Parity, Switch, all_edges, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> runs = CircuitRuns(built.model, pairs, all_edges(built.model.config))
    >>> whole, none = (runs.logits(frozenset(edges)).argmax(-1) for edges in (runs.edges, ()))
    >>> torch.equal(whole, pairs.target), torch.equal(none, pairs.foil)
    (True, True)
    """

    def __init__(self, model: Model, pairs: Pairs, edges: Sequence[Edge], corrupt: Outputs | None = None) -> None:
        self.model, self.pairs, self.edges = model, pairs, edges
        with torch.no_grad():
            self.runs = run_both(model, pairs, corrupt)
        self._ids: dict[Hashable, int] = {}
        self._kept: dict[int, Stream] = {}
        self._n_kept = max(1, MAX_KEPT // self.runs.clean[TOK].nbytes)
        for writer, name in self._names({}).items():
            self._kept[name] = self.runs.clean[writer]

    @torch.no_grad()
    def logits(self, circuit: frozenset[Edge]) -> Float[Tensor, "scored d_vocab"]:
        """The logits when only the circuit's edges carry what their writers put out."""
        patched: dict[Reader, dict[Writer, frozenset[Span | None]]] = {}
        for edge in self.edges:
            if edge not in circuit:
                into = patched.setdefault(edge.reader, {})
                into[edge.writer] = into.get(edge.writer, frozenset()) | {edge.span}
        names = self._names(patched)
        known = {writer: self.runs.clean[writer] for writer in embedding_writers(self.model.config)}
        known |= {writer: self._kept[name] for writer, name in names.items() if name in self._kept}

        def read(reader: Reader, outputs: Outputs) -> Stream:
            return self._read(patched.get(reader, {}), outputs)

        outputs, logits = run_graph(self.model, known, read)
        for writer, name in names.items():
            self._kept.pop(name, None)  # the latest asked for stand last
            self._kept[name] = outputs[writer]
        for name in list(self._kept)[: max(0, len(self._kept) - self._n_kept)]:
            del self._kept[name]
        scored = logits[self.pairs.row, self.pairs.position]
        check_finite(f"logits with {len(circuit)} edges in the circuit", scored)
        return scored

    def _names(self, patched: Patched) -> dict[Writer, int]:
        """A number for what each head and MLP puts out: the same where all edges that lead to it agree."""
        names: dict[Writer, int] = {}
        config = self.model.config
        for writer in writers_before(LOGITS, config)[len(embedding_writers(config)) :]:
            seen: list[Hashable] = [writer]
            for reader in readers_of(writer, config):
                for source in writers_before(reader, config):
                    spans = patched.get(reader, {}).get(source, frozenset())
                    seen.append("corrupt" if None in spans else (names.get(source), spans))
            names[writer] = self._ids.setdefault(tuple(seen), len(self._ids))
        return names

    def _read(self, patched: Mapping[Writer, frozenset[Span | None]], outputs: Outputs) -> Stream:
        """What a reader sees some of whose edges are patched."""
        total = None
        for writer, own in outputs.items():
            spans = patched.get(writer, frozenset())
            if None in spans:
                own = self.runs.corrupt[writer]
            elif spans:
                where = torch.stack([self.pairs.where(span) for span in spans if span]).any(0)
                own = torch.where(where[..., None], self.runs.corrupt[writer], own)
            total = own if total is None else total + own
        assert total is not None
        return total
