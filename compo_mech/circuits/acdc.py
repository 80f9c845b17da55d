"""ACDC: edges are removed one after another, each for good if the metric hardly moves.

Source: Conmy et al. 2023 (arXiv 2304.14997).

1. From the logits back, reader by reader, and the latest writer first, an edge is patched on top of all that are gone.
2. If the metric moves by less than a threshold, the edge stays patched; else it is restored.
3. As a scorer: this is done at each of `THRESHOLDS`; an edge's score is the highest at which it is kept.

The change is taken by its size, so that an edge that speaks for the wrong answer counts as well: the paper's KL
divergence rises with either.
"""

from collections.abc import Sequence

import torch

from compo_mech.circuits.scores import EdgeScores, check_scores, checked_runs, flagged
from compo_mech.interventions.edges import LOGITS, Edge, Reader, Writer, all_edges, readers_of
from compo_mech.interventions.graph import Runs, run_patched
from compo_mech.interventions.metrics import Metric, cross_entropy
from compo_mech.interventions.pairs import Pairs
from compo_mech.interventions.streams import Outputs
from compo_mech.model.params import Model

THRESHOLDS = tuple(10 ** (k / 2) for k in range(-8, 3))
"""Changes of the metric from 0.0001 to 10, two to a factor of ten."""


@torch.no_grad()
def acdc(
    model: Model,
    pairs: Pairs,
    edges: Sequence[Edge],
    metric: Metric = cross_entropy,
    corrupt: Outputs | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> EdgeScores:
    """Score each edge by the highest threshold at which ACDC keeps it, 0 if there is none.

    Args:
        model, pairs, edges, metric, corrupt: as in `exact`; edges that are not to be scored are never removed.
        thresholds: of the metric's change.

    Raises:
        ValueError: as `exact`, or a threshold is not above 0.

    >>> from compo_mech.interventions.notation import read_edge
    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> edges = [read_edge("tok → L1H0.v"), read_edge("tok → L1H1.v")]
    >>> acdc(built.model, pairs, edges, thresholds=(0.1, 1.0)).scores.tolist()  # L1H1 is spare
    [1.0, 0.0]
    """
    for threshold in thresholds:
        if not threshold > 0:
            raise ValueError(f"threshold = {threshold}: must be above 0")
    runs = checked_runs(model, pairs, edges, corrupt)
    highest = dict.fromkeys(edges, 0.0)
    for threshold in sorted(thresholds):
        for edge in kept_edges(model, pairs, runs, edges, metric, threshold):
            highest[edge] = threshold
    scores = torch.tensor([highest[e] for e in edges], dtype=runs.logits.dtype, device=runs.logits.device)
    return flagged(edges, scores, pairs, runs, zero=None)


@torch.no_grad()
def kept_edges(
    model: Model, pairs: Pairs, runs: Runs, edges: Sequence[Edge], metric: Metric, threshold: float
) -> frozenset[Edge]:
    """Return the edges that ACDC keeps at one threshold.

    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> every = all_edges(built.model.config)
    >>> runs = checked_runs(built.model, pairs, every, None)
    >>> kept = kept_edges(built.model, pairs, runs, every, cross_entropy, threshold=0.01)
    >>> kept <= built.edges, len(kept), len(built.edges)  # strings of one length do not move all
    (True, 4, 10)
    """
    order = {edge: place for place, edge in enumerate(all_edges(model.config))}
    removed: set[Edge] = set()
    current = metric(runs.logits, runs.logits, pairs)
    readers = _Readers(model)
    for edge in sorted(edges, key=lambda e: order[e._replace(span=None)], reverse=True):
        if readers.is_idle(edge.reader, removed):  # no patch of it can show
            removed.add(edge)
            continue
        value = metric(run_patched(model, pairs, runs, removed | {edge}), runs.logits, pairs)
        check_scores([edge], value[None])
        if abs(float(value - current)) < threshold:
            removed.add(edge)
            current = value
    return frozenset(edges) - removed


class _Readers:
    """Which readers belong to heads and MLPs all of whose own edges have been removed."""

    def __init__(self, model: Model) -> None:
        self.out_of: dict[Writer, set[Edge]] = {}
        self.writers: dict[Reader, list[Writer]] = {}
        for edge in all_edges(model.config):
            self.out_of.setdefault(edge.writer, set()).add(edge)
        for writer in self.out_of:
            for reader in readers_of(writer, model.config):
                self.writers.setdefault(reader, []).append(writer)

    def is_idle(self, reader: Reader, removed: set[Edge]) -> bool:
        """Whether nobody reads what is made of what this reader sees."""
        return reader != LOGITS and all(self.out_of[writer] <= removed for writer in self.writers[reader])
