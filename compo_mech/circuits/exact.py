"""Exact patching: every edge patched by itself, everywhere or in one span of the row after another."""

from collections.abc import Sequence
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.circuits.scores import EdgeScores, checked_runs, flagged
from compo_mech.data.layout import WHOLE_SPANS, Layout, Span
from compo_mech.interventions.edges import Edge
from compo_mech.interventions.graph import Runs, run_patched
from compo_mech.interventions.metrics import Metric, cross_entropy
from compo_mech.interventions.pairs import Pairs
from compo_mech.interventions.streams import Outputs
from compo_mech.model.params import Model


@torch.no_grad()
def exact(
    model: Model, pairs: Pairs, edges: Sequence[Edge], metric: Metric = cross_entropy, corrupt: Outputs | None = None
) -> EdgeScores:
    """Patch each edge in turn.

    Args:
        model: the network.
        pairs: clean and corrupt inputs, and what is scored.
        edges: to be scored.
        metric: what the score is a change of.
        corrupt: what patched edges carry; None: what their writers put out on the corrupt input.

    Raises:
        ValueError: the model cannot read the pairs, or it has no such edge.

    >>> from compo_mech.interventions.notation import read_edge
    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> found = exact(built.model, pairs, [read_edge("tok → L1H0.v"), read_edge("tok → L1H1.v")])
    >>> bool(found.scores[0] > 1), float(found.scores[1])  # L1H0 carries x_t, L1H1 is spare
    (True, 0.0)
    """
    runs = checked_runs(model, pairs, edges, corrupt)
    return flagged(edges, _changes(model, pairs, runs, edges, metric), pairs, runs)


def _changes(model: Model, pairs: Pairs, runs: Runs, edges: Sequence[Edge], metric: Metric) -> Float[Tensor, "edge"]:
    base = metric(runs.logits, runs.logits, pairs)
    return torch.stack([metric(run_patched(model, pairs, runs, [edge]), runs.logits, pairs) - base for edge in edges])


@torch.no_grad()
def exact_by_span(
    model: Model, pairs: Pairs, edges: Sequence[Edge], metric: Metric = cross_entropy, corrupt: Outputs | None = None
) -> EdgeScores:
    """Patch each edge in one span of the row after another; its score is the largest of these changes. Arguments as
    `exact`.

    What an edge does in one span is not averaged with what it does elsewhere. Source of edges that have a position:
    Haklay et al. 2025 (arXiv 2502.04577). Rows of tasks have four spans; those of other prompts are the ones they name.

    Raises:
        ValueError: as `exact`, or the pairs name no span.

    >>> from compo_mech.interventions.notation import read_edge
    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> edges = [read_edge("tok → L1H0.v"), read_edge("tok → L1H0.v @ inputs")]
    >>> whole = exact_by_span(built.model, pairs, edges[:1]).scores
    >>> torch.equal(whole, exact(built.model, pairs, edges[1:]).scores)  # it brings inputs
    True
    """
    spans = spans_of(pairs)
    runs = checked_runs(model, pairs, edges, corrupt)
    parts = [edge._replace(span=span) for edge, span in product(edges, spans)]
    by_span = _changes(model, pairs, runs, parts, metric).view(len(edges), len(spans))
    largest = by_span.gather(1, by_span.abs().argmax(1, keepdim=True))[:, 0]
    return flagged(edges, largest, pairs, runs)


def spans_of(pairs: Pairs) -> tuple[Span, ...]:
    """Return the spans of the pairs' rows: those that they name, or those of every task's rows.

    Raises:
        ValueError: there is none.

    >>> from compo_mech import DataConfig, Switch, make_pairs
    >>> pairs = make_pairs(DataConfig(max_length=3), Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> [span.kind for span in spans_of(pairs)]
    ['first', 'inputs', 'end', 'states']
    """
    spans = tuple(map(Span, pairs.spans)) or (WHOLE_SPANS if isinstance(pairs.layout, Layout) else ())
    if not spans:
        raise ValueError("pairs = without spans: must name some, as in Pairs.of(..., spans={...})")
    return spans
