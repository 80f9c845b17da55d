"""Scores of edges, and what is said of those that show nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.data.layout import Span
from compo_mech.interventions.edges import Edge, Writer, check_edges
from compo_mech.interventions.graph import Runs, run_both
from compo_mech.interventions.pairs import Pairs
from compo_mech.interventions.streams import Outputs
from compo_mech.model.params import Model

TOLERANCE = 1e-6
"""Scores this near to each other are tied."""

SMALLEST_GAP = 0.05
"""Nats that a task is taken to have to explain at least, so that little is not divided by nothing."""


@dataclass(frozen=True)
class EdgeScores:
    """One number an edge: how much it matters to a metric.

    Attributes:
        edges: in the order of the scores.
        scores: change of the metric, patched minus clean, or an estimate of it. Those of ACDC and of edge pruning say
            how long the edge was kept instead.
        unidentifiable: the writer puts out the same on both inputs (to 1e-6 of its norm), so that no patch of the edge
            can show anything.
        no_effect: by exact patching alone: the writer varies, yet the metric moves by less than 1e-6.
        zero_gradient: by gradient methods alone: the writer varies, yet what is attributed to the edge is less than
            1e-6. That is no claim about patching: where attention is saturated, gradients of edges that matter vanish.
            Empty where patching was exact.

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

    >>> from compo_mech.interventions.notation import read_edge
    >>> check_scores([read_edge("tok → mlp0")], torch.tensor([float("nan")]))
    Traceback (most recent call last):
    ValueError: score of tok → mlp0 = nan: must be a finite number
    """
    bad = (~scores.isfinite()).nonzero()[:, 0].tolist()
    if bad:
        raise ValueError(f"score of {edges[bad[0]]} = {float(scores[bad[0]])}: must be a finite number")


@torch.no_grad()
def checked_runs(model: Model, pairs: Pairs, edges: Sequence[Edge], corrupt: Outputs | None) -> Runs:
    """Run both inputs, with which every scorer begins, once the edges are known to be the model's.

    Raises:
        ValueError: the model cannot read the pairs, or it has no such edge.

    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> checked_runs(built.model, pairs, [], None)
    Traceback (most recent call last):
    ValueError: edges = none: there must be at least one
    """
    check_edges(model, edges)
    return run_both(model, pairs, corrupt)


def flagged(
    edges: Sequence[Edge],
    scores: Float[Tensor, "edge"],
    pairs: Pairs,
    runs: Runs,
    zero: Literal["no_effect", "zero_gradient"] | None = "no_effect",
) -> EdgeScores:
    """Return scores with their flags; an edge in a span is judged by what its writer does there.

    Args:
        edges, scores: what was scored.
        pairs, runs: clean and corrupt inputs, and both runs.
        zero: which flag a score near 0 gets: `no_effect` where scores are changes by patching, `zero_gradient` where
            they are attributed; None where they are neither, so that 0 is no claim about the metric.

    Raises:
        ValueError: a score is not finite.

    >>> from compo_mech.interventions.notation import read_edge
    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built, edge = build(Parity(), max_length=3), read_edge("tok → L1H1.v")
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> found = flagged([edge], torch.tensor([1e-9]), pairs, run_both(built.model, pairs), "zero_gradient")
    >>> found.no_effect, found.zero_gradient
    ((False,), (True,))
    """

    def still(writer: Writer, span: Span | None) -> bool:
        own, other = runs.clean[writer], runs.corrupt[writer]
        where = pairs.both_read if span is None else pairs.both_read & pairs.where(span)
        own, other = own[where], other.expand_as(own)[where]
        return bool((other - own).norm() <= TOLERANCE * own.norm().clamp(min=TOLERANCE))

    check_scores(edges, scores)
    hidden = {source: still(*source) for source in {(edge.writer, edge.span) for edge in edges}}
    unidentifiable = tuple(hidden[edge.writer, edge.span] for edge in edges)
    near_zero = tuple(
        not unseen and abs(score) < TOLERANCE for unseen, score in zip(unidentifiable, scores.tolist(), strict=True)
    )
    return EdgeScores(
        tuple(edges),
        scores,
        unidentifiable,
        no_effect=near_zero if zero == "no_effect" else (False,) * len(edges),
        zero_gradient=near_zero if zero == "zero_gradient" else (),
    )
