"""Scores of edges, and what is said of those that show nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from compo_mech.data.layout import Span
from compo_mech.interventions.edges import Edge, Writer
from compo_mech.interventions.graph import Runs
from compo_mech.interventions.pairs import Pairs

TOLERANCE = 1e-6
"""Scores this near to each other are tied."""


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

    >>> import torch
    >>> from compo_mech.interventions.notation import read_edge
    >>> from compo_mech import Parity, Switch, build, exact, make_pairs
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


def check_scores(edges: Sequence[Edge], scores: Float[Tensor, "edge"]) -> None:
    """Refuse scores that cannot be ranked.

    Raises:
        ValueError: one is not finite; the message names its edge.

    >>> import torch
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

    >>> import torch
    >>> from compo_mech.interventions.graph import run_both
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

    >>> import torch
    >>> from compo_mech.interventions.graph import run_both
    >>> from compo_mech.interventions.notation import read_edge
    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built, edge = build(Parity(), max_length=3), read_edge("tok → L1H1.v")
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> attributed([edge], torch.tensor([1e-9]), pairs, run_both(built.model, pairs)).zero_gradient
    (True,)
    """
    found = flagged(edges, scores, pairs, runs)
    return replace(found, no_effect=(False,) * len(edges), zero_gradient=found.no_effect)
