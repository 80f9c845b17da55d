"""Edge pruning: a mask over all edges is learnt, at a price on every open edge that rises until all are closed.

Source: Bhaskar et al. 2024 (arXiv 2406.16778), with the hard concrete gates of Louizos et al. 2018 (arXiv 1712.01312).

1. Every edge has a gate, drawn anew at each step, that is 0 or 1 most of the time: the reader sees the writer's output
   times the gate, and what it puts out on the corrupt input times the rest.
2. Adam lowers the size of the metric's change, as a fraction of what the whole corrupt input makes of it, plus the
   price times the expected number of open gates.
3. As a scorer: the price rises by a constant factor at each step. An edge's score is the mean probability that its gate
   was open, over the steps: those that are worth most stay open longest.

Where several components could each do a job the mask keeps one of them, and the others look as if they did nothing.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.circuits.attribution import check_has_gradient
from compo_mech.circuits.scores import SMALLEST_GAP, EdgeScores, checked_runs, flagged
from compo_mech.data.layout import Span
from compo_mech.interventions.edges import Edge, Reader, Writer
from compo_mech.interventions.graph import Runs, corrupt_logits, embeddings, run_graph
from compo_mech.interventions.metrics import Metric, cross_entropy
from compo_mech.interventions.pairs import Pairs
from compo_mech.interventions.streams import Outputs, Stream
from compo_mech.model.finite import check_finite
from compo_mech.model.params import Model

TEMPERATURE, LOW, HIGH = 2 / 3, -0.1, 1.1
"""Of hard concrete gates: a sigmoid at this temperature, stretched to these limits and cut at 0 and 1."""

PRICES = 1e-4, 1.0
"""Of an open edge, at the first step and at the last, in units of what the whole corrupt input does to the metric."""

START = 2.0
"""First log odds of the gates, which are then nearly always open."""

LEARNING_RATE = 0.3


def edge_pruning(
    model: Model,
    pairs: Pairs,
    edges: Sequence[Edge],
    metric: Metric = cross_entropy,
    corrupt: Outputs | None = None,
    n_steps: int = 100,
    seed: int = 0,
) -> EdgeScores:
    """Score each edge by how long its gate stays open while the price of open edges rises.

    Args:
        model, pairs, edges, metric, corrupt: as in `exact`; edges that are not to be scored stay open.
        n_steps: of Adam.
        seed: of the gates that are drawn.

    Raises:
        ValueError: as `exact`, the metric has no gradient or is not finite, or there is no step.

    >>> from compo_mech.interventions.notation import read_edge
    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> edges = [read_edge("tok → L1H0.v"), read_edge("tok → L1H1.v")]
    >>> used, spare = edge_pruning(built.model, pairs, edges, n_steps=20).scores.tolist()
    >>> used > spare
    True
    """
    if n_steps < 1:
        raise ValueError(f"n_steps = {n_steps}: must be at least 1")
    runs = checked_runs(model, pairs, edges, corrupt)
    with torch.no_grad():
        base = metric(runs.logits, runs.logits, pairs)
        gap = float((metric(corrupt_logits(model, pairs, runs), runs.logits, pairs) - base).abs())
    like, generator = runs.logits, torch.Generator().manual_seed(seed)
    log_odds = torch.full((len(edges),), START, dtype=like.dtype, device=like.device, requires_grad=True)
    adam = torch.optim.Adam([log_odds], lr=LEARNING_RATE)
    total = torch.zeros_like(log_odds)
    low, high = (math.log(price) for price in PRICES)
    for step in range(n_steps):
        price = math.exp(low + (high - low) * step / n_steps)
        uniform = torch.rand(len(edges), generator=generator, dtype=like.dtype).to(like.device)
        logits = gated_logits(model, pairs, runs, edges, hard_concrete(log_odds, uniform))
        value = metric(logits, runs.logits, pairs)
        check_has_gradient(value)
        check_finite("metric with gated edges", value)
        is_open = open_probability(log_odds)
        loss = (value - base).abs() / max(gap, SMALLEST_GAP) + price * is_open.sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            log_odds.clamp_(max=START)  # steps of Adam are as large for small slopes: a gate must not run away open
        total += is_open.detach()
    return flagged(edges, total / n_steps, pairs, runs, zero=None)


def hard_concrete(log_odds: Float[Tensor, "edge"], uniform: Float[Tensor, "edge"]) -> Float[Tensor, "edge"]:
    """Return gates from draws between 0 and 1; 0 and 1 themselves are drawn with a probability above 0.

    >>> hard_concrete(torch.tensor([-9.0, 0.0, 9.0]), torch.tensor([0.5, 0.5, 0.5])).tolist()
    [0.0, 0.5, 1.0]
    """
    uniform = uniform.clamp(1e-6, 1 - 1e-6)
    noise = uniform.log() - (-uniform).log1p()
    return (((log_odds + noise) / TEMPERATURE).sigmoid() * (HIGH - LOW) + LOW).clamp(0, 1)


def open_probability(log_odds: Float[Tensor, "edge"]) -> Float[Tensor, "edge"]:
    """Return the probability that a gate is not 0.

    >>> [round(float(p), 2) for p in open_probability(torch.tensor([-9.0, 0.0, 9.0]))]
    [0.0, 0.83, 1.0]
    """
    return (log_odds - TEMPERATURE * math.log(-LOW / HIGH)).sigmoid()


def gated_logits(
    model: Model, pairs: Pairs, runs: Runs, edges: Sequence[Edge], gates: Float[Tensor, "edge"]
) -> Float[Tensor, "scored d_vocab"]:
    """Return the scored logits when each edge carries a mixture of what it carries and the corrupt value.

    >>> from compo_mech import Parity, Switch, all_edges, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> edges = all_edges(built.model.config)
    >>> runs = checked_runs(built.model, pairs, edges, None)
    >>> closed = gated_logits(built.model, pairs, runs, edges, torch.zeros(len(edges)))
    >>> torch.equal(closed.argmax(-1), pairs.foil)
    True
    """
    placed: dict[Reader, dict[Writer, list[tuple[int, Span | None]]]] = {}
    for place, edge in enumerate(edges):
        placed.setdefault(edge.reader, {}).setdefault(edge.writer, []).append((place, edge.span))
    ones = torch.ones_like(pairs.clean_tokens, dtype=gates.dtype)

    def gate(spans: list[tuple[int, Span | None]]) -> Float[Tensor, "batch pos"]:
        """How much of what a writer puts out passes; spans do not overlap."""
        whole = [1 - gates[place] for place, span in spans if span is None]
        parts = [(1 - gates[place]) * pairs.where(span) for place, span in spans if span is not None]
        return ones - sum((*whole, *parts))

    changes: dict[int, tuple[Float[Tensor, "writer batch pos d_model"], Stream]] = {}  # of all readers of a layer

    def read(reader: Reader, outputs: Outputs) -> Stream:
        if len(outputs) not in changes:
            corrupt = [runs.corrupt[writer].expand_as(own) for writer, own in outputs.items()]
            own = torch.stack(list(outputs.values()))
            changes[len(outputs)] = own - torch.stack(corrupt), torch.stack(corrupt).sum(0)
        change, corrupt = changes[len(outputs)]
        into = placed.get(reader, {})
        if any(span is not None for spans in into.values() for _, span in spans):
            passing = torch.stack([gate(into.get(writer, [])) for writer in outputs])
            return corrupt + torch.einsum("wbp,wbpd->bpd", passing, change)
        # one gate a writer: far fewer steps to go back through
        passing = torch.stack([gates[into[w][0][0]] if w in into else ones[0, 0] for w in outputs])
        return corrupt + torch.einsum("w,wbpd->bpd", passing, change)

    inputs = embeddings(model, pairs.clean_tokens, pairs.clean_position_ids)
    return run_graph(model, inputs, read, (pairs.row, pairs.position))[1]
