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
    all_readers,
    readers_of,
    writers_before,
)
from compo_mech.interventions.graph import run_both, run_graph
from compo_mech.interventions.pairs import Pairs
from compo_mech.interventions.streams import Outputs, Stream, Totals
from compo_mech.model.finite import check_finite
from compo_mech.model.params import Model

MAX_KEPT = 2**27
"""Bytes of outputs that are kept; beyond that those go that were not asked for longest."""

EVERYWHERE: frozenset[Span | None] = frozenset({None})

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
        readers = all_readers(model.config)
        before = {reader: writers_before(reader, model.config) for reader in readers}
        corrupt_totals = Totals()
        self._corrupt = {
            n: corrupt_totals.of(_first(self.runs.corrupt, n)) for n in sorted(set(map(len, before.values())))
        }
        self._still: dict[int, Stream] = {}
        if corrupt is None:  # what no clean value reaches is as in the corrupt run
            nowhere = {reader: dict.fromkeys(writers, EVERYWHERE) for reader, writers in before.items()}
            self._still = {name: self.runs.corrupt[writer] for writer, name in self._names(nowhere).items()}

    @torch.no_grad()
    def logits(self, circuit: frozenset[Edge]) -> Float[Tensor, "scored d_vocab"]:
        """The logits when only the circuit's edges carry what their writers put out."""
        patched: dict[Reader, dict[Writer, frozenset[Span | None]]] = {}
        for edge in self.edges:
            if edge not in circuit:
                into = patched.setdefault(edge.reader, {})
                into[edge.writer] = into.get(edge.writer, frozenset()) | {edge.span}
        names = self._names(patched)
        known = {writer: output for writer, output in self.runs.clean.items() if writer.layer is None}
        known |= {writer: self._kept[name] for writer, name in names.items() if name in self._kept}
        known |= {writer: self._still[name] for writer, name in names.items() if name in self._still}
        totals = Totals()

        def read(reader: Reader, outputs: Outputs) -> Stream:
            return self._read(patched.get(reader, {}), outputs, totals)

        outputs, scored = run_graph(self.model, known, read, (self.pairs.row, self.pairs.position))
        for writer, name in names.items():
            if name in self._still:
                continue
            self._kept.pop(name, None)  # the latest asked for stand last
            self._kept[name] = outputs[writer]
        for name in list(self._kept)[: max(0, len(self._kept) - self._n_kept)]:
            del self._kept[name]
        check_finite(f"logits with {len(circuit)} edges in the circuit", scored)
        return scored

    def _names(self, patched: Patched) -> dict[Writer, int]:
        """A number for what each head and MLP puts out: the same where all edges that lead to it agree."""
        names: dict[Writer, int] = {}
        config = self.model.config
        for writer in writers_before(LOGITS, config):
            if writer.layer is None:  # an embedding
                continue
            seen: list[Hashable] = [writer]
            for reader in readers_of(writer, config):
                for source in writers_before(reader, config):
                    spans = patched.get(reader, {}).get(source, frozenset())
                    seen.append("corrupt" if None in spans else (names.get(source), spans))
            names[writer] = self._ids.setdefault(tuple(seen), len(self._ids))
        return names

    def _read(self, patched: Mapping[Writer, frozenset[Span | None]], outputs: Outputs, totals: Totals) -> Stream:
        """What a reader sees some of whose edges are patched: the clean or the corrupt sum, whichever is nearer, and
        what the other edges change in it."""
        whole = {writer for writer, spans in patched.items() if None in spans}
        from_clean = 2 * len(whole) <= len(outputs)
        total = totals.of(outputs) if from_clean else self._corrupt[len(outputs)]
        for writer in patched if from_clean else [writer for writer in outputs if writer not in whole]:
            change, spans = self.runs.corrupt[writer] - outputs[writer], patched.get(writer, frozenset())
            if None not in spans and spans:
                where = torch.stack([self.pairs.where(span) for span in spans if span]).any(0)[..., None]
                change = change.where(where if from_clean else ~where, 0.0)
            total = total + change if from_clean else total - change
        return total


def _first(outputs: Outputs, n: int) -> Outputs:
    return dict(list(outputs.items())[:n])
