"""Edge attribution in bounded memory: gradients layer by layer, and all writers against a layer's readers at once.

1. Forward: keep the stream in front of each layer and, in a large network, nothing else.
2. Backward from the logits: run each layer again, with a nudge on what each of its readers sees. The gradient of the
   nudges is what readers are worth; that of the layer's stream goes on to the layer below.
3. The scores of all edges into the readers of a layer are one matrix product, of what each writer changes with these
   gradients. So no product of an edge is ever held, and no gradient longer than its layer is worked on.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.data.layout import Span
from compo_mech.interventions.edges import LOGITS, TOK, Edge, Reader, all_readers, writers_before
from compo_mech.interventions.graph import Runs, run_layer
from compo_mech.interventions.metrics import Metric
from compo_mech.interventions.pairs import Pairs
from compo_mech.interventions.streams import Outputs, Stream, total_of
from compo_mech.model import blocks
from compo_mech.model.params import Model

MAX_KEPT = 2**28
"""Bytes of what a whole network's graph holds, beyond which layers are run again on the way back."""

COPIES = 5
"""Of the stream that the graph holds for each reader, about: what it sees, before and after its norm."""


def check_has_gradient(value: Float[Tensor, ""]) -> None:
    """Refuse a metric's value from which no gradient flows back.

    Raises:
        ValueError: it has none.

    >>> check_has_gradient(torch.tensor(1.0))
    Traceback (most recent call last):
    ValueError: metric = one without a gradient: goes with exact patching alone
    """
    if not value.requires_grad:
        raise ValueError("metric = one without a gradient: goes with exact patching alone")


def attribution(
    model: Model, pairs: Pairs, runs: Runs, edges: Sequence[Edge], metric: Metric, fractions: Sequence[float]
) -> Float[Tensor, "edge"]:
    """What each edge's change adds to a metric to first order, its gradient averaged over inputs between the two.

    Args:
        model: the network.
        pairs: clean and corrupt inputs, and what is scored.
        runs: of both.
        edges: of the network.
        metric: that is attributed.
        fractions: of the way from the clean to the corrupt input, at which gradients are taken.

    Raises:
        ValueError: the metric has no gradient.

    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> from compo_mech.interventions.graph import run_both
    >>> from compo_mech.interventions.metrics import cross_entropy
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> runs, into_spare = run_both(built.model, pairs), Edge(TOK, Reader("v", 1, 1))
    >>> attribution(built.model, pairs, runs, [into_spare], cross_entropy, [0.0]).tolist()
    [0.0]
    """
    points = []
    for fraction in fractions:
        inputs = {w: own + fraction * (runs.corrupt[w] - own) for w, own in runs.clean.items() if w.layer is None}
        points.append(reader_gradients(model, inputs, pairs, metric, runs.logits))
    return products(model, pairs, runs, edges, points)


def products(
    model: Model, pairs: Pairs, runs: Runs, edges: Sequence[Edge], points: Sequence[Iterable[dict[Reader, Stream]]]
) -> Float[Tensor, "edge"]:
    """Multiply what each edge's writer changes with its reader's gradient, which is averaged over points.

    Args:
        model: the network.
        pairs: clean and corrupt inputs.
        runs: of both.
        edges: of the network. One whose reader has no gradient at a point gets nothing there.
        points: at each, gradients of readers, as `reader_gradients` yields them.

    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> from compo_mech.interventions.graph import run_both
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> runs, edge = run_both(built.model, pairs), Edge(TOK, LOGITS)
    >>> change = runs.corrupt[TOK] - runs.clean[TOK]
    >>> found = products(built.model, pairs, runs, [edge], [[{LOGITS: torch.ones_like(change)}], []])
    >>> torch.allclose(found, change.sum() / 2)
    True
    """
    asked: dict[Reader, dict[Span | None, None]] = defaultdict(dict)  # spans in order, each once
    for edge in edges:
        asked[edge.reader][edge.span] = None
    masks = {span: pairs.where(span)[..., None] for spans in asked.values() for span in spans if span is not None}
    place = {writer: i for i, writer in enumerate(runs.clean)}
    change = torch.stack([(runs.corrupt[w] - own).expand_as(own) for w, own in runs.clean.items()]).flatten(1)
    totals: dict[tuple[Reader, Span | None], Tensor] = {}
    for point in points:
        for gradients in point:
            for n_writers, group in _by_writers(model, [reader for reader in gradients if reader in asked]).items():
                sources = [(reader, span) for reader in group for span in asked[reader]]
                worth = [gradients[r] if span is None else gradients[r] * masks[span] for r, span in sources]
                found = torch.stack(worth).flatten(1) @ change[:n_writers].T / len(points)
                for source, scores in zip(sources, found, strict=True):
                    totals[source] = totals[source] + scores if source in totals else scores
    lists = {source: scores.tolist() for source, scores in totals.items()}
    found = [lists[e.reader, e.span][place[e.writer]] if (e.reader, e.span) in lists else 0.0 for e in edges]
    return torch.tensor(found, dtype=change.dtype, device=change.device)


def _by_writers(model: Model, readers: Sequence[Reader]) -> dict[int, list[Reader]]:
    """Readers by how many writers they see: those of queries, keys and values alike, those of an MLP more."""
    found: dict[int, list[Reader]] = defaultdict(list)
    for reader in readers:
        found[len(writers_before(reader, model.config))].append(reader)
    return found


def reader_gradients(
    model: Model,
    inputs: Outputs,
    pairs: Pairs,
    metric: Metric,
    clean_logits: Float[Tensor, "scored d_vocab"],
    known: Outputs | None = None,
    first: int = 0,
    dropped: int | None = None,
) -> Iterator[dict[Reader, Stream]]:
    """Yield the gradient of a metric with respect to what each reader sees: of the logits first, then layer by layer.

    Args:
        model: the network.
        inputs: what the embeddings put out, or all that writes before the first layer.
        pairs: what is scored.
        metric: whose gradient it is.
        clean_logits: that the metric compares with.
        known: what heads and MLPs put out whatever they read, which sends no gradient on.
        first: the layer to begin with.
        dropped: a layer through whose heads and MLP no gradient flows; its readers have none.

    Raises:
        ValueError: the metric has no gradient.

    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> from compo_mech.interventions.graph import run_both
    >>> from compo_mech.interventions.metrics import cross_entropy
    >>> built = build(Parity(), max_length=2)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> runs = run_both(built.model, pairs)
    >>> inputs = {writer: out for writer, out in runs.clean.items() if writer.layer is None}
    >>> readers, *_ = reader_gradients(built.model, inputs, pairs, cross_entropy, runs.logits)
    >>> [str(reader) for reader in readers]
    ['logits']
    """
    stream, layers = total_of(inputs), list[_Layer]()
    n_readers = len(all_readers(model.config))
    is_kept = COPIES * n_readers * stream.nbytes <= MAX_KEPT
    for layer in range(first, model.config.n_layers):
        layers.append(_Layer(model, layer, stream, known or {}))
        stream = layers[-1].run(is_kept and layer != dropped).detach()
    with torch.enable_grad():
        stream = stream.requires_grad_()
        value = metric(blocks.logits(model, stream[pairs.row, pairs.position]), clean_logits, pairs)
        check_has_gradient(value)
        (gradient,) = torch.autograd.grad(value, [stream])
    yield {LOGITS: gradient}
    while layers:
        layer = layers.pop()
        if layer.layer != dropped:
            gradient, found = layer.backward(gradient)
            yield found


class _Layer:
    """One layer at one input, whose graph is kept until its gradients are asked for, or else made again."""

    def __init__(self, model: Model, layer: int, stream: Stream, known: Outputs) -> None:
        self.model, self.layer, self.known = model, layer, known
        self.stream = stream.detach().requires_grad_()
        self.nudges: dict[Reader, Tensor] = {}
        self.after: Stream | None = None

    def run(self, is_kept: bool) -> Stream:
        """The stream behind the layer."""
        with torch.set_grad_enabled(is_kept):
            after = total_of(run_layer(self.model, self.layer, {TOK: self.stream}, self.known, self._read))
        self.after = after if is_kept else None
        return after

    def backward(self, gradient: Stream) -> tuple[Stream, dict[Reader, Stream]]:
        """From the gradient behind the layer, that in front of it and that of each of its readers."""
        after = self.run(True) if self.after is None else self.after
        before, *found = torch.autograd.grad(
            after, [self.stream, *self.nudges.values()], gradient, materialize_grads=True
        )
        return before, dict(zip(self.nudges, found, strict=True))

    def _read(self, reader: Reader, outputs: Outputs) -> Stream:
        total = total_of(outputs)
        if not torch.is_grad_enabled():
            return total
        self.nudges[reader] = torch.zeros_like(total, requires_grad=True)
        return total + self.nudges[reader]
