"""Interchanges of edges in a network, beside what a causal graph says that they do: the loss that trains circuits in.

In each row of a batch of pairs some edges carry what their writers put out on the row's other input:

    edges of the graph         none; all that one component writes; one of them; or each with probability 0.3
    edges outside the graph    none; half of them; or all

What follows has to be what the graph gives when its own edges carry the other input's values. So variables are forced
into their components (interchange intervention training: Geiger et al. 2022, arXiv 2112.00826), and everything else is
forced to be irrelevant (strict training: Gupta et al. 2024, arXiv 2407.14494), here edge by edge, the grain at which
circuits are graded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from compo_mech.ground_truth.causal_graph import CausalGraph
from compo_mech.interventions.edges import Edge, Reader, all_edges
from compo_mech.interventions.graph import Read, embeddings, run_graph
from compo_mech.interventions.pairs import Pairs
from compo_mech.interventions.streams import Outputs, Stream, Totals
from compo_mech.model.params import Model

SHARE = 0.3
"""Of the graph's edges that are chosen at random."""

Chosen = Bool[Tensor, "row edge"]
"""Which edges carry the other input's values, in the order of `all_edges`."""


def draw_chosen(model: Model, graph: CausalGraph, n_rows: int, generator: torch.Generator) -> Chosen:
    """Draw the edges that are interchanged in each row."""
    edges = all_edges(model.config)
    true = torch.tensor([edge in graph.edges for edge in edges])
    writers = list(graph.writers.values())
    of_writer = torch.tensor([[edge.writer == writer for edge in edges] for writer in writers])
    of_edge = torch.eye(len(edges), dtype=torch.bool)[true]

    def draw(high: int) -> Int[Tensor, "row"]:
        return torch.randint(high, (n_rows,), generator=generator)

    some = (torch.rand(n_rows, len(edges), generator=generator) < SHARE) & true
    kinds = torch.stack([torch.zeros_like(some), of_writer[draw(len(writers))], of_edge[draw(len(of_edge))], some])
    inside = kinds[draw(4), torch.arange(n_rows)]
    outside = (torch.rand(n_rows, len(edges), generator=generator) < draw(3)[:, None] / 2) & ~true
    return inside | outside


@dataclass(frozen=True)
class Interchanged:
    """What a network answers at the scored positions when edges are interchanged, and what it should.

    Attributes:
        logits: at each scored position.
        answers: the graph's; negative where it is undefined.
        clean: logits on the clean input as it is.
    """

    logits: Float[Tensor, "scored d_vocab"]
    answers: Int[Tensor, "scored"]
    clean: Float[Tensor, "scored d_vocab"]

    @property
    def defined(self) -> Bool[Tensor, "scored"]:
        """Where the graph has an answer."""
        return self.answers >= 0


def interchanged(
    model: Model,
    graph: CausalGraph,
    pairs: Pairs,
    chosen: Chosen,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> Interchanged:
    """Interchange the chosen edges of each row, in the network and in the graph.

    Args:
        model: the network.
        graph: whose answers are the right ones.
        pairs: clean and corrupt inputs.
        chosen: the edges that carry what their writers put out on the corrupt input.
        noise: standard deviation of what is added to every stream that is read.
        generator: of the noise.
    """
    at, edges = (pairs.row, pairs.position), all_edges(model.config)
    inputs = (pairs.clean_tokens, pairs.clean_position_ids), (pairs.corrupt_tokens, pairs.corrupt_position_ids)
    n = len(pairs.clean_tokens)
    both = embeddings(model, *(torch.cat(ids) for ids in zip(*inputs, strict=True)))
    disturbed = partial(with_noise, noise=noise, generator=generator)
    outputs, logits = run_graph(model, both, reading(edges, disturbed))
    carried = {writer: out[n:] for writer, out in outputs.items()}
    known = {writer: out[:n] for writer, out in both.items()}
    _, after = run_graph(model, known, reading(edges, disturbed, carried, chosen), at)
    variables = graph.run(*inputs[1])
    where = {edge: chosen[:, i] for i, edge in enumerate(edges) if edge in graph.edges}
    return Interchanged(after, graph.run(*inputs[0], variables, where)["logits"][at], logits[:n][at])


def reading(
    edges: Sequence[Edge],
    disturbed: Callable[[Stream], Stream],
    carried: Outputs | None = None,
    chosen: Chosen | None = None,
) -> Read:
    """Return what readers see where chosen edges carry other values in some of the rows."""
    totals, columns = Totals(), dict[Reader, list[int]]()
    for i, edge in enumerate(edges):
        columns.setdefault(edge.reader, []).append(i)
    changes: list[Stream] = []

    def read(reader: Reader, outputs: Outputs) -> Stream:
        stream = totals.of(outputs)
        if carried is None or chosen is None:
            return disturbed(stream)
        writers = list(outputs)
        changes.extend(carried[writer] - outputs[writer] for writer in writers[len(changes) :])
        weights = chosen[:, columns[reader]].to(stream)
        change = torch.einsum("rw,wrpd->rpd", weights, torch.stack(changes[: len(writers)]))
        return disturbed(stream + change)

    return read


def with_noise(stream: Stream, noise: float, generator: torch.Generator | None) -> Stream:
    """Return the stream with noise of this standard deviation."""
    return stream + noise * torch.randn(stream.shape, generator=generator) if noise else stream


def interchange_loss(found: Interchanged) -> Float[Tensor, ""]:
    """Return the mean cross-entropy (nats) of the graph's answers, where it has one."""
    return F.cross_entropy(found.logits[found.defined], found.answers[found.defined])
