"""The computational graph, with `tok` and `pos` as writers of their own, and patches of its edges.

Writers put something into the residual stream: the token embedding, the position embedding,
every head, every MLP. Readers take the stream in: each head's queries, keys and values, every MLP
and the logits. An edge (writer, reader) is *patched* when that reader alone sees what the writer
puts out on the corrupt input, or a baseline (see `interventions.baseline_outputs`); everything after
it is computed anew. An edge may be narrowed to a span of the row, such as the states.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.data.layout import WHOLE_SPANS, Span
from compo_mech.interventions.pairs import Pairs
from compo_mech.model.blocks import LAYER_NORM_EPS
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import ACTIVATIONS, Model, Params


class Writer(NamedTuple):
    """`tok`, `pos`, `head` or `mlp`; layer and head where it has them."""

    kind: str
    layer: int | None = None
    head: int | None = None

    def __str__(self) -> str:
        return self.kind if self.layer is None else _place(self.kind, self.layer, self.head)


class Reader(NamedTuple):
    """`q`, `k` or `v` of a head, `mlp` of a layer, or `logits`."""

    kind: str
    layer: int | None = None
    head: int | None = None

    def __str__(self) -> str:
        if self.kind in ("q", "k", "v"):
            return f"L{self.layer}H{self.head}.{self.kind}"
        return self.kind if self.layer is None else _place(self.kind, self.layer, self.head)


class Edge(NamedTuple):
    """What a writer puts out, as one reader sees it: everywhere, or in one span of the row."""

    writer: Writer
    reader: Reader
    span: Span | None = None

    def __str__(self) -> str:
        return f"{self.writer} → {self.reader}" + (f" @ {self.span}" if self.span else "")


def _place(kind: str, layer: int | None, head: int | None) -> str:
    return f"L{layer}H{head}" if kind == "head" else f"{kind}{layer}"


TOK, POS, LOGITS = Writer("tok"), Writer("pos"), Reader("logits")


def writers_before(reader: Reader, config: ModelConfig) -> list[Writer]:
    """Every writer that a reader sees, in order of computation."""
    layer = config.n_layers if reader.layer is None else reader.layer
    writers = [TOK, POS]
    for earlier in range(layer):
        writers += [Writer("head", earlier, head) for head in range(config.n_heads)] + [Writer("mlp", earlier)]
    if reader.kind == "mlp":
        writers += [Writer("head", layer, head) for head in range(config.n_heads)]
    return writers


def all_readers(config: ModelConfig) -> list[Reader]:
    """Every reader, in order of computation."""
    readers = []
    for layer in range(config.n_layers):
        readers += [Reader(kind, layer, head) for head in range(config.n_heads) for kind in "qkv"]
        readers.append(Reader("mlp", layer))
    return [*readers, LOGITS]


def all_edges(config: ModelConfig, by_span: bool = False) -> list[Edge]:
    """Every edge of the network, by reader in order of computation; `by_span`: once for each part of the row."""
    spans = WHOLE_SPANS if by_span else (None,)
    readers = all_readers(config)
    return [Edge(w, reader, span) for reader in readers for w in writers_before(reader, config) for span in spans]


Stream = Float[Tensor, "batch pos d_model"]
Outputs = dict[Writer, Stream]


def check_pairs(model: Model, pairs: Pairs) -> None:
    """Refuse pairs that the model cannot read.

    Raises:
        ValueError: a token id or a position id is out of the model's range.
    """
    d_vocab, n_ctx = model.params["embed.W_E"].shape[0], model.params["pos_embed.W_pos"].shape[0]
    for name, ids, n in (
        ("tokens", (pairs.clean_tokens, pairs.corrupt_tokens), d_vocab),
        ("positions", (pairs.clean_positions, pairs.corrupt_positions), n_ctx),
    ):
        low, high = min(int(i.min()) for i in ids), max(int(i.max()) for i in ids)
        if low < 0 or high >= n:
            raise ValueError(f"pairs.{name} = {low} .. {high}: must be 0 .. {n - 1}, what the model knows")


def check_edges(model: Model, edges: Sequence[Edge]) -> None:
    """Refuse edges that the network does not have.

    Raises:
        ValueError: there is none, or one of them is not in the network.
    """
    if not edges:
        raise ValueError("edges = none: there must be at least one")
    known = set(all_edges(model.config))
    for edge in edges:
        if edge._replace(span=None) not in known:
            n_layers, n_heads = model.config.n_layers, model.config.n_heads
            raise ValueError(f"edge = {edge}: must be one of the network's, {n_layers} layers × {n_heads} heads")


def embeddings(model: Model, tokens: Int[Tensor, "batch pos"], positions: Int[Tensor, "batch pos"]) -> Outputs:
    """What `tok` and `pos` put out."""
    return {TOK: model.params["embed.W_E"][tokens], POS: model.params["pos_embed.W_pos"][positions]}


def run_graph(
    model: Model,
    known: Outputs,
    read: Callable[[Reader, Outputs], Stream] | None = None,
) -> tuple[Outputs, Float[Tensor, "batch pos d_vocab"]]:
    """The network with every reader's input in the caller's hands.

    Args:
        model: the network.
        known: what `tok` and `pos` put out, and any other writer that need not be computed.
        read: the stream that a reader sees, given what the writers before it put out; None: their
            sum, which is the network as it is.

    Returns:
        What every writer put out, and the logits at every position.
    """
    params, config = model.params, model.config
    read = read or (lambda reader, outputs: total_of(outputs))
    outputs = {TOK: known[TOK], POS: known[POS]}
    n_pos = known[TOK].shape[1]
    mask = torch.ones(n_pos, n_pos, dtype=torch.bool, device=known[TOK].device).tril()
    for layer in range(config.n_layers):
        block = f"blocks.{layer}"
        made: Outputs = {}
        for head in range(config.n_heads):
            writer = Writer("head", layer, head)
            if writer in known:
                made[writer] = known[writer]
                continue
            query, key, value = (
                norm_of(model, f"{block}.ln1", read(Reader(kind, layer, head), outputs))
                @ params[f"{block}.attn.W_{kind.upper()}"][head]
                + bias_of(params, f"{block}.attn.b_{kind.upper()}", head)
                for kind in "qkv"
            )
            scores = (query @ key.mT / math.sqrt(config.head_width)).masked_fill(~mask, -torch.inf)
            made[writer] = scores.softmax(-1) @ value @ params[f"{block}.attn.W_O"][head]
            if config.biases and head == 0:  # it belongs to no head: it is the same on every input
                made[writer] = made[writer] + params[f"{block}.attn.b_O"]
        outputs |= made
        writer = Writer("mlp", layer)
        if writer in known:
            outputs[writer] = known[writer]
            continue
        stream = norm_of(model, f"{block}.ln2", read(Reader("mlp", layer), outputs))
        hidden = ACTIVATIONS[config.act_fn](stream @ params[f"{block}.mlp.W_in"] + bias_of(params, f"{block}.mlp.b_in"))
        outputs[writer] = hidden @ params[f"{block}.mlp.W_out"] + bias_of(params, f"{block}.mlp.b_out")
    final = norm_of(model, "ln_final", read(LOGITS, outputs))
    return outputs, final @ params["unembed.W_U"] + bias_of(params, "unembed.b_U")


def total_of(outputs: Outputs) -> Stream:
    """The stream that these writers make together."""
    total = outputs[TOK]
    for writer, out in outputs.items():
        if writer != TOK:
            total = total + out
    return total


def bias_of(params: Params, name: str, head: int | None = None) -> Tensor | float:
    """A bias, or 0 where there is none."""
    if name not in params:
        return 0.0
    return params[name] if head is None else params[name][head]


def norm_of(model: Model, name: str, x: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_model"]:
    """The stream as a part sees it: through its LayerNorm, where there is one."""
    if model.config.normalization == "none":
        return x
    weight, bias = model.params[f"{name}.w"], model.params.get(f"{name}.b")
    return F.layer_norm(x, x.shape[-1:], weight, bias, LAYER_NORM_EPS)


@dataclass(frozen=True)
class Runs:
    """Both runs of pairs: what every writer puts out, and the clean logits that are scored.

    Attributes:
        clean: on the clean input.
        corrupt: what patched edges carry instead: the corrupt run's, or a baseline.
        logits: of the clean run.
    """

    clean: Outputs
    corrupt: Outputs
    logits: Float[Tensor, "scored d_vocab"]


def run_both(model: Model, pairs: Pairs, corrupt: Outputs | None = None) -> Runs:
    """Run the clean input, and the corrupt one unless what patched edges carry is given.

    Raises:
        ValueError: the model cannot read the pairs.
    """
    check_pairs(model, pairs)
    clean, logits = run_graph(model, embeddings(model, pairs.clean_tokens, pairs.clean_positions))
    if corrupt is None:
        corrupt, _ = run_graph(model, embeddings(model, pairs.corrupt_tokens, pairs.corrupt_positions))
    return Runs(clean, corrupt, logits[pairs.row, pairs.position])


def run_patched(model: Model, pairs: Pairs, runs: Runs, patched: Iterable[Edge]) -> Float[Tensor, "scored d_vocab"]:
    """Scored logits when each patched edge carries the corrupt value and every other its own.

    Only what lies behind the first patched reader is computed.
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

    def read(reader: Reader, outputs: Outputs) -> Stream:
        swapped = by_reader.get(reader, {})
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
    if first.kind in ("q", "k", "v"):  # heads of the same layer that read nothing patched
        layer = (Writer("head", first.layer, head) for head in range(model.config.n_heads))
        read_by = {(reader.layer, reader.head) for reader in by_reader if reader.kind in ("q", "k", "v")}
        known |= {w: runs.clean[w] for w in layer if (w.layer, w.head) not in read_by}
    return run_graph(model, known, read)[1][pairs.row, pairs.position]
