"""The network as a graph, with `tok` and `pos` as writers of their own, and patches of its edges.

An edge (see `edges`) is *patched* when its reader alone sees what the writer puts out on the corrupt input, or a
baseline (see `ablation.baseline_outputs`); everything downstream is recomputed.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from compo_mech.interventions.edges import (
    LOGITS,
    POS,
    TOK,
    Edge,
    Reader,
    Writer,
    all_readers,
    embedding_writers,
    readers_of,
    writers_before,
)
from compo_mech.interventions.pairs import Pairs
from compo_mech.interventions.streams import Outputs, Stream, Totals, total_of
from compo_mech.model import blocks
from compo_mech.model.finite import check_finite, check_weights
from compo_mech.model.params import Model

Read = Callable[[Reader, Outputs], Stream]
"""The stream that a reader sees, given what the writers before it put out."""

Projected = Float[Tensor, "batch pos d_head"]  # named here, as what a function writes out is made at each call
Rows = tuple[Int[Tensor, "row"], Int[Tensor, "row"]]
"""Rows of a batch and a position of each."""


def check_pairs(model: Model, pairs: Pairs) -> None:
    """Refuse pairs that the model cannot read.

    Raises:
        ValueError: a token id, a position id or an answer is out of the model's range, they are on another device, they
            differ in position ids alone, which networks without position embeddings do not read, or rows are padded
            where attention goes both ways.

    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> far = make_pairs(built.data, Switch.SHIFT, 4, torch.Generator().manual_seed(0), max_shift=40)
    >>> check_pairs(built.model, far)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ValueError: pairs.position_ids = 0 .. ...: must be 0 .. 12, what the model knows
    """
    if pairs.row.device != model.device:
        raise ValueError(f"pairs = on {pairs.row.device}: must be on {model.device}, where the model is: pairs.to(...)")
    for name, ids, n in (
        ("tokens", (pairs.clean_tokens, pairs.corrupt_tokens), model.d_vocab),
        ("position_ids", (pairs.clean_position_ids, pairs.corrupt_position_ids), model.n_ctx),
        ("answers", (pairs.target, pairs.foil), blocks.unembedding(model).shape[-1]),
    ):
        low, high = min(int(i.min()) for i in ids), max(int(i.max()) for i in ids)
        if low < 0 or high >= n:
            raise ValueError(f"pairs.{name} = {low} .. {high}: must be 0 .. {n - 1}, what the model knows")
    if model.config.attention_dir == "bidirectional" and not bool(pairs.both_read.all()):
        raise ValueError("pairs = padded rows: must be of one length for attention both ways, which sees the padding")
    kind = model.config.positional_embedding
    is_shifted = not torch.equal(pairs.clean_position_ids, pairs.corrupt_position_ids)
    if kind != "standard" and is_shifted and torch.equal(pairs.clean_tokens, pairs.corrupt_tokens):
        raise ValueError(f"pairs = of equal tokens: must differ in them, since positional_embedding = {kind}")


def embeddings(model: Model, tokens: Int[Tensor, "batch pos"], position_ids: Int[Tensor, "batch pos"]) -> Outputs:
    """What `tok` puts out, and `pos`, where positions have an embedding.

    >>> from compo_mech import Parity, build
    >>> model = build(Parity(), max_length=3).model
    >>> out = embeddings(model, torch.tensor([[5, 1, 2, 1]]), torch.arange(4)[None])
    >>> torch.equal(out[TOK][0, 1], out[TOK][0, 3]), torch.equal(out[POS][0, 1], out[POS][0, 3])  # 1 is read twice
    (True, False)
    """
    outputs = {TOK: blocks.token_embedding(model, tokens)}
    if POS in embedding_writers(model.config):
        outputs[POS] = blocks.position_embedding(model, position_ids)
    return outputs


def run_graph(
    model: Model, known: Outputs, read: Read | None = None, at: Rows | None = None
) -> tuple[Outputs, Float[Tensor, "*row d_vocab"]]:
    """The network with every reader's input in the caller's hands.

    Args:
        model: the network.
        known: what `embeddings` puts out, and any other writer that need not be computed.
        read: the stream that a reader sees, given what the writers before it put out; None: their sum, which is the
            network as it is.
        at: rows and positions of the logits; None: all [batch, pos].

    Returns:
        What every writer put out, and the logits. Where `at` is given the last MLP, which nothing else reads, is
        computed there alone and 0 elsewhere.

    >>> from compo_mech import Parity, build
    >>> model = build(Parity(), max_length=3).model
    >>> tokens = torch.tensor([[5, 1, 0, 1, 2, 1, 1, 0]])  # [task] x1 x2 x3 [EoI] s1 s2 s3
    >>> _, logits = run_graph(model, embeddings(model, tokens, torch.arange(8)[None]))
    >>> logits[0, 4:].argmax(-1).tolist()  # s1 s2 s3 [EoS]
    [1, 1, 0, 3]
    """
    outputs = run_writers(model, known, read, at)
    last = read(LOGITS, outputs) if read else total_of(outputs)
    return outputs, blocks.logits(model, last if at is None else last[at])


def run_writers(model: Model, known: Outputs, read: Read | None = None, at: Rows | None = None) -> Outputs:
    """What every writer puts out; arguments as `run_graph`."""
    totals, n_layers = Totals(), model.config.n_layers
    read = read or (lambda reader, outputs: totals.of(outputs))
    outputs = {writer: known[writer] for writer in embedding_writers(model.config)}
    for layer in range(n_layers):
        outputs = run_layer(model, layer, outputs, known, read, at if layer == n_layers - 1 else None)
    return outputs


def run_layer(model: Model, layer: int, before: Outputs, known: Outputs, read: Read, at: Rows | None = None) -> Outputs:
    """One layer of the graph: what is put out before it, and what its heads and its MLP put out.

    Args:
        model: the network.
        layer: that is run.
        before: what the writers before it put out, or their sum under any name.
        known: what its heads and its MLP put out, where that need not be computed.
        read: the stream that a reader sees.
        at: rows and positions at which alone its MLP is computed, 0 elsewhere; None: all.

    >>> from compo_mech import Parity, build
    >>> model = build(Parity(), max_length=3).model
    >>> known = embeddings(model, torch.tensor([[5, 1, 2, 1]]), torch.arange(4)[None])
    >>> outputs = run_layer(model, 0, known, {}, lambda reader, outputs: sum(outputs.values()))
    >>> [str(writer) for writer in outputs]
    ['tok', 'pos', 'L0H0', 'L0H1', 'mlp0']
    """
    n_pos = before[TOK].shape[1]
    seen = blocks.seen(model, torch.arange(n_pos, device=before[TOK].device), n_pos)
    outputs = before | _heads_out(model, layer, known, before, read, seen)
    mlp = Writer("mlp", layer)
    if mlp in known:
        outputs[mlp] = known[mlp]
    elif not model.config.attn_only:
        seen_by_mlp = before if model.config.parallel_attn_mlp else outputs
        stream = read(Reader("mlp", layer), seen_by_mlp)
        if at is None:
            outputs[mlp] = blocks.mlp_out(model, layer, stream)
        else:
            outputs[mlp] = torch.zeros_like(stream).index_put(at, blocks.mlp_out(model, layer, stream[at]))
    return outputs


def _heads_out(
    model: Model, layer: int, known: Outputs, before: Outputs, read: Read, seen: Bool[Tensor, "pos pos"] | None
) -> Outputs:
    """What the heads of a layer put out, those that are known or computed; keys and values are read once.

    The first head carries the layer's bias along, which belongs to no head.
    """
    projected: dict[Reader, Projected] = {}
    normed: dict[int, tuple[Stream, Stream]] = {}  # by the stream's identity: most readers share theirs

    def project(reader: Reader) -> Projected:
        assert reader.head is not None
        if reader not in projected:
            stream = read(reader, before)
            if id(stream) not in normed:
                normed[id(stream)] = stream, blocks.attention_input(model, layer, stream)
            _, ready = normed[id(stream)]
            projected[reader] = blocks.project_head(model, layer, reader.head, reader.kind.upper(), ready)
        return projected[reader]

    found: Outputs = {}
    for head in range(model.config.n_heads):
        writer = Writer("head", layer, head)
        if writer in known:
            found[writer] = known[writer]
            continue
        q, k, v = (project(reader) for reader in readers_of(writer, model.config))
        out = blocks.head_result(model, layer, head, blocks.pattern(blocks.scores(model, layer, q, k), seen) @ v)
        found[writer] = out + blocks.attn_bias(model, layer) if model.config.biases and head == 0 else out
    return found


@dataclass(frozen=True)
class Runs:
    """Both runs of pairs: what every writer puts out, and the clean logits that are scored.

    Attributes:
        clean: on the clean input.
        corrupt: what patched edges carry instead: the corrupt run's, or a baseline.
        logits: of the clean run.

    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> runs = run_both(built.model, pairs)
    >>> torch.equal(runs.logits.argmax(-1), pairs.target)
    True
    """

    clean: Outputs
    corrupt: Outputs
    logits: Float[Tensor, "scored d_vocab"]


def run_both(model: Model, pairs: Pairs, corrupt: Outputs | None = None) -> Runs:
    """Run the clean input, and the corrupt one unless what patched edges carry is given.

    Raises:
        ValueError: the model cannot read the pairs, or a weight or a logit is not finite.

    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.SHIFT, 4, torch.Generator().manual_seed(0))
    >>> runs = run_both(built.model, pairs)
    >>> torch.equal(runs.clean[TOK], runs.corrupt[TOK]), torch.equal(runs.clean[POS], runs.corrupt[POS])
    (True, False)
    """
    check_pairs(model, pairs)
    check_weights(model)
    at = pairs.row, pairs.position
    clean = run_writers(model, embeddings(model, pairs.clean_tokens, pairs.clean_position_ids))
    scored = blocks.logits(model, total_of(clean)[at])
    check_finite("logits of the clean run", scored)
    if corrupt is None:
        corrupt = run_writers(model, embeddings(model, pairs.corrupt_tokens, pairs.corrupt_position_ids))
        check_finite("logits of the corrupt run", blocks.logits(model, total_of(corrupt)[at]))
    return Runs(clean, corrupt, scored)


def corrupt_logits(model: Model, pairs: Pairs, runs: Runs) -> Float[Tensor, "scored d_vocab"]:
    """Scored logits when every writer carries the corrupt value into them.

    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> torch.equal(corrupt_logits(built.model, pairs, run_both(built.model, pairs)).argmax(-1), pairs.foil)
    True
    """
    return run_patched(model, pairs, runs, [Edge(writer, LOGITS) for writer in writers_before(LOGITS, model.config)])


def run_patched(model: Model, pairs: Pairs, runs: Runs, patched: Iterable[Edge]) -> Float[Tensor, "scored d_vocab"]:
    """Scored logits when each patched edge carries the corrupt value and every other its own.

    Only what lies behind the first patched reader is computed.

    >>> from compo_mech import Parity, Switch, all_edges, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> runs = run_both(built.model, pairs)
    >>> torch.equal(run_patched(built.model, pairs, runs, []), runs.logits)  # patch nothing = clean
    True
    >>> everything = run_patched(built.model, pairs, runs, all_edges(built.model.config))  # = corrupt
    >>> torch.equal(everything.argmax(-1), pairs.foil)
    True
    """
    by_reader: dict[Reader, dict[Writer, Tensor | None]] = {}
    for edge in patched:
        swapped = by_reader.setdefault(edge.reader, {})
        if edge.span is None:
            swapped[edge.writer] = None
        elif swapped.get(edge.writer, edge) is not None:
            where = pairs.where(edge.span)[..., None]
            before = swapped.get(edge.writer)
            swapped[edge.writer] = where if before is None else before | where

    totals = Totals()

    def read(reader: Reader, outputs: Outputs) -> Stream:
        swapped = by_reader.get(reader)
        if swapped is None:
            return totals.of(outputs)
        total = None
        for writer, own in outputs.items():
            if writer in swapped:
                where = swapped[writer]
                own = runs.corrupt[writer] if where is None else torch.where(where, runs.corrupt[writer], own)
            total = own if total is None else total + own
        assert total is not None
        return total

    first = next((reader for reader in all_readers(model.config) if reader in by_reader), LOGITS)
    known = {writer: runs.clean[writer] for writer in writers_before(first, model.config)}
    if first.layer is not None:  # what reads, in the same layer, nothing that is patched
        of_layer = [Writer("head", first.layer, head) for head in range(model.config.n_heads)]
        of_layer += [Writer("mlp", first.layer)] if model.config.parallel_attn_mlp else []
        unchanged = (w for w in of_layer if not any(reader in by_reader for reader in readers_of(w, model.config)))
        known |= {writer: runs.clean[writer] for writer in unchanged}
    logits = run_graph(model, known, read, (pairs.row, pairs.position))[1]
    check_finite("logits with patched edges", logits)
    return logits
