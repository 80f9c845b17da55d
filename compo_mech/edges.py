"""The computational graph with `tok` and `pos` as writers of their own, and scores of its edges.

Writers put something into the residual stream: the token embedding, the position embedding,
every head, every MLP. Readers take the stream in: each head's queries, keys and values, every MLP
and the logits. An edge (writer, reader) is *patched* when that reader alone sees what the writer
puts out on the corrupt input; everything after it is computed anew.

Every scorer has the signature (model, pairs, edges, metric) -> scores, so that they compare in a
loop: `exact`, `eap` (edge attribution patching, Syed et al. 2023, arXiv 2310.10348) and `eap_ig`
(its integrated gradients over inputs, Hanna et al. 2024, arXiv 2403.17806).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.counterfactuals import Pairs
from compo_mech.forward import ACTIVATIONS, LAYER_NORM_EPS
from compo_mech.model import ModelConfig, Params


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
    """What a writer puts out, as one reader sees it."""

    writer: Writer
    reader: Reader

    def __str__(self) -> str:
        return f"{self.writer} → {self.reader}"


def _place(kind: str, layer: int | None, head: int | None) -> str:
    return f"L{layer}H{head}" if kind == "head" else f"{kind}{layer}"


TOK, POS, LOGITS = Writer("tok"), Writer("pos"), Reader("logits")


def all_edges(config: ModelConfig) -> list[Edge]:
    """Every edge of the network, by reader in order of computation."""
    edges: list[Edge] = []
    writers = [TOK, POS]
    for layer in range(config.n_layers):
        heads = range(config.n_heads)
        edges += [Edge(w, Reader(kind, layer, head)) for head in heads for kind in "qkv" for w in writers]
        writers += [Writer("head", layer, head) for head in heads]
        edges += [Edge(w, Reader("mlp", layer)) for w in writers]
        writers.append(Writer("mlp", layer))
    return edges + [Edge(w, LOGITS) for w in writers]


Stream = Float[Tensor, "batch pos d_model"]
Outputs = dict[Writer, Stream]


@dataclass(frozen=True)
class Model:
    """Parameters with the configuration that they belong to."""

    params: Params
    config: ModelConfig


Metric = Callable[[Float[Tensor, "scored d_vocab"], Float[Tensor, "scored d_vocab"], Pairs], Float[Tensor, ""]]


def cross_entropy(logits: Tensor, clean: Tensor, pairs: Pairs) -> Float[Tensor, ""]:
    """Mean cross-entropy of the right tokens, in nats."""
    return F.cross_entropy(logits, pairs.target)


def logit_difference(logits: Tensor, clean: Tensor, pairs: Pairs) -> Float[Tensor, ""]:
    """Mean logit of the corrupt input's answer above the clean one's, where they differ."""
    gap = logits.gather(1, pairs.foil[:, None]) - logits.gather(1, pairs.target[:, None])
    return gap.sum() / (pairs.foil != pairs.target).sum().clamp(min=1)


def kl_divergence(logits: Tensor, clean: Tensor, pairs: Pairs) -> Float[Tensor, ""]:
    """Mean KL divergence from the clean run's distribution, in nats."""
    return F.kl_div(logits.log_softmax(-1), clean.log_softmax(-1), log_target=True, reduction="batchmean")


def inaccuracy(logits: Tensor, clean: Tensor, pairs: Pairs) -> Float[Tensor, ""]:
    """Share of places whose likeliest token is wrong. It has no gradient: for exact patching alone."""
    return (logits.argmax(-1) != pairs.target).to(logits.dtype).mean()


METRICS: dict[str, Metric] = {
    "cross_entropy": cross_entropy,
    "logit_difference": logit_difference,
    "kl": kl_divergence,
    "inaccuracy": inaccuracy,
}


# ------------------------------------------------------------------------------- the graph


def embeddings(model: Model, tokens: Int[Tensor, "batch pos"], positions: Int[Tensor, "batch pos"]) -> Outputs:
    """What `tok` and `pos` put out."""
    return {TOK: model.params["embed.W_E"][tokens], POS: model.params["pos_embed.W_pos"][positions]}


def run_graph(
    model: Model,
    inputs: Outputs,
    read: Callable[[Reader, Outputs], Stream] | None = None,
) -> tuple[Outputs, Float[Tensor, "batch pos d_vocab"]]:
    """The network with every reader's input in the caller's hands.

    Args:
        model: the network.
        inputs: what `tok` and `pos` put out.
        read: the stream that a reader sees, given what the writers before it put out; None: their
            sum, which is the network as it is.

    Returns:
        What every writer put out, and the logits at every position.
    """
    params, config = model.params, model.config
    read = read or (lambda reader, outputs: _sum(outputs))
    outputs = dict(inputs)
    n_pos = inputs[TOK].shape[1]
    mask = torch.ones(n_pos, n_pos, dtype=torch.bool, device=inputs[TOK].device).tril()
    for layer in range(config.n_layers):
        block = f"blocks.{layer}"
        made: Outputs = {}
        for head in range(config.n_heads):
            query, key, value = (
                norm_of(model, f"{block}.ln1", read(Reader(kind, layer, head), outputs))
                @ params[f"{block}.attn.W_{kind.upper()}"][head]
                + bias_of(params, f"{block}.attn.b_{kind.upper()}", head)
                for kind in "qkv"
            )
            scores = (query @ key.mT / math.sqrt(config.head_width)).masked_fill(~mask, -torch.inf)
            made[Writer("head", layer, head)] = scores.softmax(-1) @ value @ params[f"{block}.attn.W_O"][head]
        outputs |= made
        if config.biases:  # belongs to no head: it is the same on every input
            first = Writer("head", layer, 0)
            outputs[first] = outputs[first] + params[f"{block}.attn.b_O"]
        stream = norm_of(model, f"{block}.ln2", read(Reader("mlp", layer), outputs))
        hidden = ACTIVATIONS[config.act_fn](stream @ params[f"{block}.mlp.W_in"] + bias_of(params, f"{block}.mlp.b_in"))
        outputs[Writer("mlp", layer)] = hidden @ params[f"{block}.mlp.W_out"] + bias_of(params, f"{block}.mlp.b_out")
    final = norm_of(model, "ln_final", read(LOGITS, outputs))
    return outputs, final @ params["unembed.W_U"] + bias_of(params, "unembed.b_U")


def _sum(outputs: Outputs) -> Stream:
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


def norm_of(model: Model, name: str, x: Stream) -> Stream:
    """The stream as a part sees it: through its LayerNorm, where there is one."""
    if model.config.normalization == "none":
        return x
    weight, bias = model.params[f"{name}.w"], model.params.get(f"{name}.b")
    return F.layer_norm(x, x.shape[-1:], weight, bias, LAYER_NORM_EPS)


def run_patched(
    model: Model, inputs: Outputs, corrupt: Outputs, patched: Iterable[Edge]
) -> Float[Tensor, "batch pos d_vocab"]:
    """Logits when each patched edge carries the corrupt run's value and every other its own."""
    by_reader: dict[Reader, set[Writer]] = {}
    for edge in patched:
        by_reader.setdefault(edge.reader, set()).add(edge.writer)

    def read(reader: Reader, outputs: Outputs) -> Stream:
        swapped = by_reader.get(reader, set())
        return _sum({writer: corrupt[writer] if writer in swapped else out for writer, out in outputs.items()})

    return run_graph(model, inputs, read)[1]


# -------------------------------------------------------------------------------- scorers


@dataclass(frozen=True)
class EdgeScores:
    """One number an edge: how much the metric moves when the edge is patched.

    Attributes:
        edges: in the order of the scores.
        scores: change of the metric, patched minus clean.
        unidentifiable: the writer puts out the same on both inputs (to 1e-6 of its norm), so that
            no patch of the edge can show anything.
        no_effect: the writer varies, yet the metric moves by less than 1e-6.
    """

    edges: tuple[Edge, ...]
    scores: Float[Tensor, "edge"]
    unidentifiable: tuple[bool, ...]
    no_effect: tuple[bool, ...]


Scorer = Callable[[Model, Pairs, Sequence[Edge], Metric], EdgeScores]
TOLERANCE = 1e-6


def exact(model: Model, pairs: Pairs, edges: Sequence[Edge], metric: Metric = cross_entropy) -> EdgeScores:
    """Patch each edge in turn."""
    with torch.no_grad():
        clean_in, clean, corrupt, clean_logits = _both(model, pairs)
        base = metric(clean_logits, clean_logits, pairs)
        moved = []
        for edge in edges:
            logits = run_patched(model, clean_in, corrupt, [edge])[pairs.row, pairs.position]
            moved.append(metric(logits, clean_logits, pairs) - base)
    return _flagged(edges, torch.stack(moved), clean, corrupt)


def eap(model: Model, pairs: Pairs, edges: Sequence[Edge], metric: Metric = cross_entropy) -> EdgeScores:
    """Edge attribution patching: the clean run's gradient times the writer's change."""
    return eap_ig(model, pairs, edges, metric, n_steps=1)


def eap_ig(
    model: Model, pairs: Pairs, edges: Sequence[Edge], metric: Metric = cross_entropy, n_steps: int = 5
) -> EdgeScores:
    """The same with the gradient averaged over inputs on the way from clean to corrupt.

    The points lie at (k + 1/2) / n_steps of the way; a single step takes the clean input itself.
    """
    with torch.no_grad():
        clean_in, clean, corrupt, clean_logits = _both(model, pairs)
        corrupt_in = {writer: corrupt[writer] for writer in (TOK, POS)}
    total: dict[Reader, Tensor] = {}
    for k in range(n_steps):
        way = (k + 0.5) / n_steps if n_steps > 1 else 0.0
        inputs = {w: clean_in[w] + way * (corrupt_in[w] - clean_in[w]) for w in (TOK, POS)}
        for reader, gradient in _gradients(model, inputs, pairs, metric, clean_logits).items():
            total[reader] = total.get(reader, torch.zeros(())) + gradient / n_steps
    change = {writer: corrupt[writer] - clean[writer] for writer in clean}
    scores = torch.stack([(total[edge.reader] * change[edge.writer]).sum() for edge in edges])
    return _flagged(edges, scores, clean, corrupt)


def _gradients(
    model: Model, inputs: Outputs, pairs: Pairs, metric: Metric, clean_logits: Tensor
) -> dict[Reader, Stream]:
    """Gradient of the metric with respect to every reader's input."""
    seen: dict[Reader, Tensor] = {}

    def read(reader: Reader, outputs: Outputs) -> Stream:
        nudge = torch.zeros_like(inputs[TOK], requires_grad=True)
        seen[reader] = nudge
        return _sum(outputs) + nudge

    with torch.enable_grad():
        _, logits = run_graph(model, inputs, read)
        value = metric(logits[pairs.row, pairs.position], clean_logits, pairs)
        found = torch.autograd.grad(value, list(seen.values()))
    return dict(zip(seen, found, strict=True))


def _both(model: Model, pairs: Pairs) -> tuple[Outputs, Outputs, Outputs, Float[Tensor, "scored d_vocab"]]:
    """Clean embeddings, what writers put out clean and corrupt, and the clean logits that are scored."""
    clean_in = embeddings(model, pairs.clean_tokens, pairs.clean_positions)
    clean, logits = run_graph(model, clean_in)
    corrupt, _ = run_graph(model, embeddings(model, pairs.corrupt_tokens, pairs.corrupt_positions))
    return clean_in, clean, corrupt, logits[pairs.row, pairs.position]


def _flagged(edges: Sequence[Edge], scores: Tensor, clean: Outputs, corrupt: Outputs) -> EdgeScores:
    still = {
        writer: bool((corrupt[writer] - out).norm() <= TOLERANCE * out.norm().clamp(min=TOLERANCE))
        for writer, out in clean.items()
    }
    unidentifiable = tuple(still[edge.writer] for edge in edges)
    no_effect = tuple(
        not hidden and abs(score) < TOLERANCE for hidden, score in zip(unidentifiable, scores.tolist(), strict=True)
    )
    return EdgeScores(tuple(edges), scores, unidentifiable, no_effect)
