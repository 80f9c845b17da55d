"""AtP*: attribution patching that stands saturated attention and effects that cancel.

Source: Kramár et al. 2024 (arXiv 2403.00745), here for edges. It is EAP with two changes.

1. QK fix: for an edge into queries or keys, the attention of the heads that read it is computed anew with the edge
   patched, and what that changes in their output is multiplied by the gradient of their output. So a softmax whose
   derivative has vanished does not hide the edge; it still hides all that lies upstream of it.
2. GradDrop: gradients are taken again and again, each time with none flowing through one of the layers, and the sizes
   of what they give are averaged. So two paths that cancel do not hide an edge, unless both go through the same layers.
   The gradient with no layer dropped is one of them: in a network of few layers some paths need them all.

Sizes are taken on each row, and then summed.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.circuits.attribution import reader_gradients
from compo_mech.circuits.scores import EdgeScores, checked_runs, flagged
from compo_mech.interventions.edges import TOK, Edge, Reader, Writer, heads_reading, writers_before
from compo_mech.interventions.graph import Runs, run_layer
from compo_mech.interventions.metrics import Metric, cross_entropy
from compo_mech.interventions.pairs import Pairs
from compo_mech.interventions.streams import Outputs, Stream, total_of
from compo_mech.model.params import Model


def atp_star(
    model: Model, pairs: Pairs, edges: Sequence[Edge], metric: Metric = cross_entropy, corrupt: Outputs | None = None
) -> EdgeScores:
    """AtP* with QK fix and GradDrop. Arguments as `exact`; scores have no sign.

    Raises:
        ValueError: as `exact`, or the metric has no gradient.

    >>> from compo_mech.interventions.notation import read_edge
    >>> from compo_mech import BuildOptions, Parity, Switch, build, eap, make_pairs
    >>> built = build(Parity(), 3, BuildOptions(sharpness=150))  # attention that has no gradient
    >>> pairs = make_pairs(built.data, Switch.TOKEN | Switch.LENGTH, 4, torch.Generator().manual_seed(0))
    >>> edge = [read_edge("mlp0 → L1H0.q")]
    >>> [bool(scorer(built.model, pairs, edge).scores > 1e-4) for scorer in (eap, atp_star)]
    [False, True]
    """
    runs = checked_runs(model, pairs, edges, corrupt)
    sizes = dict.fromkeys(edges, runs.logits.new_zeros(()))
    n_times = dict.fromkeys(edges, 0)
    behind_heads: list[dict[int, Stream]] = []
    for dropped in (None, *range(model.config.n_layers)):
        into, behind = _gradients(model, pairs, runs, metric, dropped)
        behind_heads.append(behind)
        for edge in edges:
            if edge.reader in into:
                n_times[edge] += 1
                if edge.reader.kind not in ("q", "k"):
                    sizes[edge] = sizes[edge] + _size(_change(runs, pairs, edge), into[edge.reader])
    for edge in edges:
        if edge.reader.kind in ("q", "k"):
            change = _change_of_heads(model, pairs, runs, edge)
            layer = edge.reader.layer
            found = [_size(change, behind[layer]) for behind in behind_heads if layer in behind]
            sizes[edge] = torch.stack(found).sum()
    scores = torch.stack([sizes[edge] / n_times[edge] for edge in edges])
    return flagged(edges, scores, pairs, runs, "zero_gradient")


def _gradients(
    model: Model, pairs: Pairs, runs: Runs, metric: Metric, dropped: int | None
) -> tuple[dict[Reader, Stream], dict[int, Stream]]:
    """The gradient of what each reader sees, and, layer by layer, that of what its heads put out."""
    inputs = {writer: out for writer, out in runs.clean.items() if writer.layer is None}
    into: dict[Reader, Stream] = {}
    behind_heads: dict[int, Stream] = {}
    behind = torch.zeros_like(runs.clean[TOK])  # the gradient of the stream is the sum over those who read it later
    for found in reader_gradients(model, inputs, pairs, metric, runs.logits, dropped=dropped):
        into |= found
        layer = next(iter(found)).layer
        if layer is not None:
            mlp = Reader("mlp", layer)
            reads = mlp in found and not model.config.parallel_attn_mlp
            behind_heads[layer] = behind + found[mlp] if reads else behind
        behind = behind + torch.stack(list(found.values())).sum(0)
    return into, behind_heads


def _change(runs: Runs, pairs: Pairs, edge: Edge) -> Stream:
    """What a patched edge changes in what its reader sees."""
    change = (runs.corrupt[edge.writer] - runs.clean[edge.writer]).expand_as(runs.clean[edge.writer])
    return change if edge.span is None else change * pairs.where(edge.span)[..., None]


@torch.no_grad()
def _change_of_heads(model: Model, pairs: Pairs, runs: Runs, edge: Edge) -> Stream:
    """What an edge into queries or keys changes in the output of all heads that read it."""
    layer, reader = edge.reader.layer, edge.reader
    assert layer is not None
    heads = [Writer("head", layer, head) for head in heads_reading(reader, model.config)]
    of_layer = [w for w in runs.clean if w.layer == layer]
    known = {writer: runs.clean[writer] for writer in of_layer if writer not in heads}
    before = {writer: runs.clean[writer] for writer in writers_before(reader, model.config)}
    stream, change = total_of(before), _change(runs, pairs, edge)
    found = run_layer(model, layer, before, known, lambda one, _: stream + change if one == reader else stream)
    return torch.stack([found[head] - runs.clean[head] for head in heads]).sum(0)


def _size(change: Stream, gradient: Stream) -> Float[Tensor, ""]:
    """The size of what a change adds to a metric on each row, summed; a tensor, on its device."""
    by_row: Float[Tensor, "batch"] = (change * gradient).sum((1, 2))
    return by_row.abs().sum()
