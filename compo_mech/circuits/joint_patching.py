"""Patching under redundancy: edges are asked again once all that the network can spare is gone.

Where several components could each do a job, no single edge of theirs matters, and `exact` gives them nothing. Two
scorers look further:

- `pair_patching` patches every two edges together: an edge matters if another that does nothing alone makes it matter.
- `subset_patching` takes one head or MLP at a time and patches the outputs of as many others as leave the metric
  about as it was; then the edges of the one are patched. So of k components that each suffice, or of n of which k must
  agree, each is left to do the work once.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch

from compo_mech.circuits.scores import EdgeScores, checked_runs, flagged
from compo_mech.interventions.edges import LOGITS, Edge, Writer, all_edges, readers_of, writers_before
from compo_mech.interventions.graph import Runs, corrupt_logits, run_patched
from compo_mech.interventions.metrics import Metric, cross_entropy
from compo_mech.interventions.pairs import Pairs
from compo_mech.interventions.streams import Outputs
from compo_mech.model.params import Model

HARMLESS = 0.1
"""A patch is harmless if it moves the metric by less than this fraction of what the whole corrupt input does."""


class _Patches:
    """By how much the metric moves when sets of edges are patched, with `alone` each by itself."""

    def __init__(
        self, model: Model, pairs: Pairs, edges: Sequence[Edge], metric: Metric, corrupt: Outputs | None
    ) -> None:
        self.model, self.pairs, self.metric = model, pairs, metric
        self.runs: Runs = checked_runs(model, pairs, edges, corrupt)
        self.base = metric(self.runs.logits, self.runs.logits, pairs)
        whole = metric(corrupt_logits(model, pairs, self.runs), self.runs.logits, pairs)
        self.tolerance = HARMLESS * abs(float(whole - self.base))
        self.alone = {edge: self.change([edge]) for edge in edges}

    def change(self, patched: Iterable[Edge]) -> float:
        """Of the metric, patched minus clean."""
        logits = run_patched(self.model, self.pairs, self.runs, patched)
        return float(self.metric(logits, self.runs.logits, self.pairs) - self.base)

    def scores(self, edges: Sequence[Edge], changes: Mapping[Edge, float]) -> EdgeScores:
        """The changes that edges make, in their order and with their flags."""
        like, found = self.runs.logits, [changes[edge] for edge in edges]
        return flagged(edges, torch.tensor(found, dtype=like.dtype, device=like.device), self.pairs, self.runs)


@torch.no_grad()
def pair_patching(
    model: Model, pairs: Pairs, edges: Sequence[Edge], metric: Metric = cross_entropy, corrupt: Outputs | None = None
) -> EdgeScores:
    """Patch each edge alone, and together with each other edge that is harmless alone. Arguments as `exact`.

    The score is the largest change that the edge makes, on the clean run or on one where another edge is patched.

    Raises:
        ValueError: as `exact`.

    >>> from compo_mech.interventions.notation import read_edge
    >>> from compo_mech import BuildOptions, Parity, Switch, build, exact, make_pairs
    >>> built = build(Parity(), 3, BuildOptions(backup=True))  # L1H1 does what L1H0 does
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> edges = [read_edge("tok → L1H0.v"), read_edge("tok → L1H1.v")]
    >>> alone, paired = (scorer(built.model, pairs, edges).scores for scorer in (exact, pair_patching))
    >>> bool((paired > alone + 1).all())
    True
    """
    patches = _Patches(model, pairs, edges, metric, corrupt)
    alone, largest = patches.alone, dict(patches.alone)
    for i, one in enumerate(edges):
        for other in edges[:i]:
            harmless = [edge for edge in (one, other) if abs(alone[edge]) < patches.tolerance]
            if not harmless:
                continue
            both = patches.change([one, other])
            for edge, partner in ((one, other), (other, one)):
                if partner in harmless and abs(both - alone[partner]) > abs(largest[edge]):
                    largest[edge] = both - alone[partner]
    return patches.scores(edges, largest)


@torch.no_grad()
def subset_patching(
    model: Model, pairs: Pairs, edges: Sequence[Edge], metric: Metric = cross_entropy, corrupt: Outputs | None = None
) -> EdgeScores:
    """Patch each edge alone, and where its writer or its reader does the work without spares. Arguments as `exact`.

    The score is the largest of these changes.

    Raises:
        ValueError: as `exact`.

    >>> from compo_mech.ground_truth import build_hard_case
    >>> from compo_mech import Parity, Switch, exact, make_pairs
    >>> built = build_hard_case("two of three", Parity(), max_length=2)  # heads of which any two decide
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> heads = [edge for edge in built.edges if edge.writer.layer == 1 and edge.reader.kind == "mlp"]
    >>> bool((exact(built.model, pairs, heads).scores == 0).all())
    True
    >>> bool((subset_patching(built.model, pairs, heads).scores > 1).all())
    True
    """
    patches = _Patches(model, pairs, edges, metric, corrupt)
    largest = dict(patches.alone)
    components = [writer for writer in writers_before(LOGITS, model.config) if writer.layer is not None]
    for worker in components:
        spared, moved = _spared(model, patches, worker, components)
        if not spared:
            continue
        own = set(readers_of(worker, model.config))
        for edge in edges:
            if (edge.writer == worker or edge.reader in own) and edge not in spared:
                change = patches.change(spared | {edge}) - moved
                if abs(change) > abs(largest[edge]):
                    largest[edge] = change
    return patches.scores(edges, largest)


def _spared(
    model: Model, patches: _Patches, worker: Writer, components: Sequence[Writer]
) -> tuple[frozenset[Edge], float]:
    """The edges out of as many components but one as are harmless together, and by how much they move the metric."""
    spared, moved = frozenset[Edge](), 0.0
    every = all_edges(model.config)
    for component in components:
        if component != worker:
            more = spared | {edge for edge in every if edge.writer == component}
            change = patches.change(more)
            if abs(change) < patches.tolerance:
                spared, moved = more, change
    return spared, moved
