"""Interchanges of edges in a network, beside what a causal graph says that they do: the loss that trains circuits in.

In each row of a batch of pairs some edges carry what their writers put out on the row's other input:

    edges of the graph         none; all that one component writes; one of them; or each with probability 0.3
    edges outside the graph    none; one of them; each with probability 0.5; or all

What follows has to be what the graph gives when its own edges carry the other input's values. So variables are forced
into their components (interchange intervention training: Geiger et al. 2022, arXiv 2112.00826), and everything else is
forced to be irrelevant (strict training: Gupta et al. 2024, arXiv 2407.14494), here edge by edge, the grain at which
circuits are graded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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

FRACTION = 0.3
"""Of the graph's edges that are chosen at random."""

Chosen = Bool[Tensor, "row edge"]
"""Which edges carry the other input's values, in the order of `all_edges`."""


def draw_chosen(model: Model, graph: CausalGraph, n_rows: int, generator: torch.Generator) -> Chosen:
    """Draw the edges that are interchanged in each row.

    Example:
        >>> import torch
        >>> from compo_mech import Parity, build
        >>> from compo_mech.ground_truth import draw_chosen, textbook
        >>> built = build(Parity(), max_length=3)
        >>> draw_chosen(built.model, textbook(built.data), 8, torch.Generator().manual_seed(0)).shape[0]
        8
    """
    edges = all_edges(model.config)
    true = torch.tensor([edge in graph.edges for edge in edges])
    writers = list(graph.writers.values())
    of_writer = torch.tensor([[edge.writer == writer for edge in edges] for writer in writers])
    single = torch.eye(len(edges), dtype=torch.bool)

    def draw(high: int) -> Int[Tensor, "row"]:
        return torch.randint(high, (n_rows,), generator=generator)

    rows, no_edge = torch.arange(n_rows), torch.zeros(n_rows, len(edges), dtype=torch.bool)
    chance = torch.rand(n_rows, len(edges), generator=generator)
    inside = (no_edge, of_writer[draw(len(of_writer))], single[true][draw(int(true.sum()))], (chance < FRACTION) & true)
    outside = (no_edge, single[~true][draw(int((~true).sum()))], (chance > 0.5) & ~true, (~true).expand(n_rows, -1))
    return torch.stack(inside)[draw(4), rows] | torch.stack(outside)[draw(4), rows]


@dataclass(frozen=True)
class Interchanged:
    """What a network answers at the scored positions when edges are interchanged, and what it should.

    Attributes:
        logits: at each scored position.
        answers: the graph's; negative where it is undefined.

    Example:
        >>> import torch
        >>> from compo_mech.ground_truth import Interchanged
        >>> Interchanged(torch.zeros(2, 3), torch.tensor([1, -1])).defined.tolist()
        [True, False]
    """

    logits: Float[Tensor, "scored d_vocab"]
    answers: Int[Tensor, "scored"]

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
        noise: standard deviation of what is added to the embeddings of the clean input.
        generator: of the noise.

    Example:
        >>> import torch
        >>> from compo_mech import Parity, Switch, build, make_pairs
        >>> from compo_mech.ground_truth import draw_chosen, interchanged, textbook
        >>> built, generator = build(Parity(), max_length=3), torch.Generator().manual_seed(0)
        >>> pairs, graph = make_pairs(built.data, Switch.TOKEN, 8, generator), textbook(built.data)
        >>> found = interchanged(built.model, graph, pairs, draw_chosen(built.model, graph, 8, generator))
        >>> torch.equal(found.logits.argmax(-1)[found.defined], found.answers[found.defined])
        True
    """
    edges, other = all_edges(model.config), (pairs.corrupt_tokens, pairs.corrupt_position_ids)
    carried, _ = run_graph(model, embeddings(model, *other))
    known = embeddings(model, pairs.clean_tokens, pairs.clean_position_ids)
    if noise:
        known = {w: x + noise * torch.randn(x.shape, generator=generator) for w, x in known.items()}
    _, logits = run_graph(model, known, reading(edges, carried, chosen), (pairs.row, pairs.position))
    where = {edge: chosen[:, i] for i, edge in enumerate(edges) if edge in graph.edges}
    variables = graph.run(pairs.clean_tokens, pairs.clean_position_ids, graph.run(*other), where)
    return Interchanged(logits, variables["logits"][pairs.row, pairs.position])


def reading(edges: Sequence[Edge], carried: Outputs, chosen: Chosen) -> Read:
    """Return what readers see where chosen edges carry other values in some of the rows."""
    totals, columns = Totals(), dict[Reader, list[int]]()
    for i, edge in enumerate(edges):
        columns.setdefault(edge.reader, []).append(i)
    changes: dict[int, Float[Tensor, "row writer flat"]] = {}  # by how many writers there are before a reader

    def read(reader: Reader, outputs: Outputs) -> Stream:
        stream, n = totals.of(outputs), len(outputs)
        if n not in changes:
            changes[n] = torch.stack([(carried[writer] - out).flatten(1) for writer, out in outputs.items()], 1)
        weights = chosen[:, None, columns[reader]].to(stream)
        return stream + (weights @ changes[n]).view(stream.shape)

    return read


def interchange_loss(found: Interchanged) -> Float[Tensor, ""]:
    """Return the mean cross-entropy (nats) of the graph's answers, where it has one.

    Example:
        >>> import torch
        >>> from compo_mech.ground_truth import Interchanged, interchange_loss
        >>> found = Interchanged(torch.zeros(2, 2), torch.tensor([1, -1]))
        >>> round(float(interchange_loss(found)), 4)  # ln 2
        0.6931
    """
    return F.cross_entropy(found.logits[found.defined], found.answers[found.defined])
