"""Scores of edges: how much a metric moves when an edge is patched.

Every scorer has the signature (model, pairs, edges, metric, corrupt) -> scores, so that they compare in a loop:
`exact`, `eap` (edge attribution patching, Syed et al. 2023, arXiv 2310.10348) and `eap_ig` (its integrated gradients
over inputs, Hanna et al. 2024, arXiv 2403.17806).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.circuits.attribution import attribution
from compo_mech.data.layout import Span
from compo_mech.interventions.edges import Edge, Writer, check_edges
from compo_mech.interventions.graph import Runs, run_both, run_patched
from compo_mech.interventions.metrics import Metric, cross_entropy
from compo_mech.interventions.pairs import Pairs
from compo_mech.interventions.streams import Outputs
from compo_mech.model.params import Model


@dataclass(frozen=True)
class EdgeScores:
    """One number an edge: how much the metric moves when the edge is patched.

    Attributes:
        edges: in the order of the scores.
        scores: change of the metric, patched minus clean.
        unidentifiable: the writer puts out the same on both inputs (to 1e-6 of its norm), so that no patch of the edge
            can show anything.
        no_effect: by exact patching alone: the writer varies, yet the metric moves by less than 1e-6.
        zero_gradient: by gradient methods alone: the writer varies, yet what is attributed to the edge is less than
            1e-6. That is no claim about patching: where attention is saturated, gradients of edges that matter vanish.
            Empty where patching was exact.

    >>> from compo_mech.interventions.notation import read_edge
    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> exact(built.model, pairs, [read_edge("pos → L0H0.k")]).unidentifiable  # positions do not differ
    (True,)
    """

    edges: tuple[Edge, ...]
    scores: Float[Tensor, "edge"]
    unidentifiable: tuple[bool, ...]
    no_effect: tuple[bool, ...]
    zero_gradient: tuple[bool, ...] = ()


Scorer = Callable[[Model, Pairs, Sequence[Edge], Metric, Outputs | None], EdgeScores]
TOLERANCE = 1e-6


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
    check_edges(model, edges)
    runs = run_both(model, pairs, corrupt)
    base = metric(runs.logits, runs.logits, pairs)
    moved = [metric(run_patched(model, pairs, runs, [edge]), runs.logits, pairs) - base for edge in edges]
    return flagged(edges, torch.stack(moved), pairs, runs)


def eap(
    model: Model, pairs: Pairs, edges: Sequence[Edge], metric: Metric = cross_entropy, corrupt: Outputs | None = None
) -> EdgeScores:
    """Edge attribution patching: the clean run's gradient times the writer's change. Arguments as `exact`.

    >>> from compo_mech.interventions.notation import read_edge
    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> found = eap(built.model, pairs, [read_edge("tok → L1H1.v")])  # into a spare head
    >>> found.scores.tolist(), found.zero_gradient, found.no_effect
    ([0.0], (True,), (False,))
    """
    return eap_ig(model, pairs, edges, metric, corrupt, n_steps=1)


def eap_ig(
    model: Model,
    pairs: Pairs,
    edges: Sequence[Edge],
    metric: Metric = cross_entropy,
    corrupt: Outputs | None = None,
    n_steps: int = 5,
) -> EdgeScores:
    """EAP with integrated gradients: the gradient is averaged over inputs interpolated from clean to corrupt.

    The points lie at fractions (k + 1/2) / n_steps of the distance; a single step takes the clean input itself.

    Raises:
        ValueError: as `exact`, or the metric has no gradient, or there is no step.

    >>> from compo_mech.interventions.notation import read_edge
    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built, edges = build(Parity(), max_length=3), [read_edge("tok → L1H0.v")]
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> torch.equal(eap_ig(built.model, pairs, edges, n_steps=1).scores, eap(built.model, pairs, edges).scores)
    True
    """
    if n_steps < 1:
        raise ValueError(f"n_steps = {n_steps}: must be at least 1")
    check_edges(model, edges)
    with torch.no_grad():
        runs = run_both(model, pairs, corrupt)
    return attributed(edges, attribution(model, pairs, runs, edges, metric, ig_fractions(n_steps)), pairs, runs)


def ig_fractions(n_steps: int) -> list[float]:
    """Return how far from the clean to the corrupt input `eap_ig` takes gradients.

    >>> ig_fractions(1), ig_fractions(2)
    ([0.0], [0.25, 0.75])
    """
    return [(k + 0.5) / n_steps for k in range(n_steps)] if n_steps > 1 else [0.0]


SCORERS: dict[str, Scorer] = {
    "exact": exact,
    "EAP": eap,
    "IG 5": partial(eap_ig, n_steps=5),
    "IG 20": partial(eap_ig, n_steps=20),
}
"""The scorers by their names on the method card."""


def check_scores(edges: Sequence[Edge], scores: Float[Tensor, "edge"]) -> None:
    """Refuse scores that cannot be ranked.

    Raises:
        ValueError: one is not finite; the message names its edge.

    >>> from compo_mech.interventions.notation import read_edge
    >>> check_scores([read_edge("tok → mlp0")], torch.tensor([float("nan")]))
    Traceback (most recent call last):
    ValueError: score of tok → mlp0 = nan: must be a finite number
    """
    bad = (~scores.isfinite()).nonzero()[:, 0].tolist()
    if bad:
        raise ValueError(f"score of {edges[bad[0]]} = {float(scores[bad[0]])}: must be a finite number")


def flagged(edges: Sequence[Edge], scores: Tensor, pairs: Pairs, runs: Runs) -> EdgeScores:
    """Scores of exact patching with their flags; an edge in a span is judged by what its writer does there.

    >>> from compo_mech.interventions.notation import read_edge
    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built, edge = build(Parity(), max_length=3), read_edge("tok → L1H1.v")
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> flagged([edge], torch.tensor([1e-9]), pairs, run_both(built.model, pairs)).no_effect
    (True,)
    """

    def still(writer: Writer, span: Span | None) -> bool:
        own, other = runs.clean[writer], runs.corrupt[writer]
        where = pairs.both_read if span is None else pairs.both_read & pairs.where(span)
        own, other = own[where], other.expand_as(own)[where]
        return bool((other - own).norm() <= TOLERANCE * own.norm().clamp(min=TOLERANCE))

    check_scores(edges, scores)
    hidden = {source: still(*source) for source in {(edge.writer, edge.span) for edge in edges}}
    unidentifiable = tuple(hidden[edge.writer, edge.span] for edge in edges)
    no_effect = tuple(
        not unseen and abs(score) < TOLERANCE for unseen, score in zip(unidentifiable, scores.tolist(), strict=True)
    )
    return EdgeScores(tuple(edges), scores, unidentifiable, no_effect)


def attributed(edges: Sequence[Edge], scores: Tensor, pairs: Pairs, runs: Runs) -> EdgeScores:
    """Scores of gradient methods with their flags, as `flagged` has those of exact patching.

    >>> from compo_mech.interventions.notation import read_edge
    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built, edge = build(Parity(), max_length=3), read_edge("tok → L1H1.v")
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> attributed([edge], torch.tensor([1e-9]), pairs, run_both(built.model, pairs)).zero_gradient
    (True,)
    """
    found = flagged(edges, scores, pairs, runs)
    return replace(found, no_effect=(False,) * len(edges), zero_gradient=found.no_effect)
