"""Every edge patched once: the logits are kept, and all scores are read off them.

Rows of pairs do not see each other, so that scores of a half of the prompts, of a bootstrap draw or of each row by
itself, by whatever metric, need no further run of the network.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.circuits.exact import exact
from compo_mech.circuits.prompts import scored_positions, take_rows
from compo_mech.circuits.scorers import Scorer
from compo_mech.circuits.scores import SMALLEST_GAP, EdgeScores, check_scores, flagged
from compo_mech.interventions.edges import Edge, all_edges, check_edges
from compo_mech.interventions.graph import Runs, corrupt_logits, run_both, run_patched
from compo_mech.interventions.metrics import Metric, cross_entropy
from compo_mech.interventions.pairs import Pairs
from compo_mech.interventions.streams import Outputs
from compo_mech.model.finite import check_finite
from compo_mech.model.params import Model


@dataclass(frozen=True)
class RowScores:
    """How much each edge matters on each row of pairs.

    Attributes:
        edges: all of the network's.
        rise: of the cross-entropy when an edge is patched, summed over a row's scored positions, in nats.
        gap: the same when the whole input is the corrupt one, with the clean answers.
        n_scored: positions of each row.

    Raises:
        ValueError: a rise or a gap is not finite.

    >>> from compo_mech import ModelConfig
    >>> one, other = (torch.tensor([[1.0, 3.0]], dtype=torch.float64), torch.tensor([2.0, 6.0], dtype=torch.float64))
    >>> scores = RowScores(tuple(all_edges(ModelConfig())[:1]), rise=one, gap=other, n_scored=torch.tensor([1, 1]))
    >>> scores.share.tolist()
    [0.5]
    """

    edges: tuple[Edge, ...]
    rise: Float[Tensor, "edge row"]
    gap: Float[Tensor, "row"]
    n_scored: Int[Tensor, "row"]

    def __post_init__(self) -> None:
        check_scores(self.edges, self.rise.sum(1))
        check_finite("gap", self.gap)

    def shares(self, groups: Float[Tensor, "group row"]) -> Float[Tensor, "group edge"]:
        """Each edge's rise as a fraction of the gap, over the rows that each group counts."""
        n = groups @ self.n_scored.double()
        gap = (groups @ self.gap / n).clamp(min=SMALLEST_GAP)
        return groups @ self.rise.T / n[:, None] / gap[:, None]

    @property
    def share(self) -> Float[Tensor, "edge"]:
        """The same over all rows."""
        return self.shares(torch.ones(1, len(self.gap), dtype=torch.float64))[0]


@dataclass(frozen=True)
class EdgePatches:
    """The logits of one pass over all edges, each patched by itself.

    They take 4 · n_edges · n_scored · d_vocab bytes: a megabyte for two layers of one head, some 50 MB for three layers
    of eight. For larger networks there is `exact`, which keeps nothing and gives the same scores.

    Attributes:
        pairs: clean and corrupt inputs, and what is scored.
        edges: that were patched.
        runs: of both inputs.
        logits: when one edge carries the corrupt value.
        corrupt_logits: when all that the logits read does, at the clean input's scored positions.

    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> patches = EdgePatches.run(built.model, pairs)
    >>> torch.equal(patches.scores().scores, exact(built.model, pairs, patches.edges).scores)
    True
    """

    pairs: Pairs
    edges: tuple[Edge, ...]
    runs: Runs
    logits: Float[Tensor, "edge scored d_vocab"]
    corrupt_logits: Float[Tensor, "scored d_vocab"]

    @classmethod
    @torch.no_grad()
    def run(
        cls, model: Model, pairs: Pairs, edges: Sequence[Edge] | None = None, corrupt: Outputs | None = None
    ) -> "EdgePatches":
        """Patch each edge in turn.

        Args:
            model: the network.
            pairs: clean and corrupt inputs, and what is scored.
            edges: to be patched; None: all.
            corrupt: what patched edges carry; None: what their writers put out on the corrupt input.

        Raises:
            ValueError: the model cannot read the pairs, or it has no such edge.
        """
        edges = tuple(all_edges(model.config) if edges is None else edges)
        check_edges(model, edges)
        runs = run_both(model, pairs, corrupt)
        logits = torch.stack([run_patched(model, pairs, runs, [edge]) for edge in edges])
        return cls(pairs, edges, runs, logits, corrupt_logits(model, pairs, runs))

    def take(self, rows: Int[Tensor, "taken"]) -> "EdgePatches":
        """The pass over some of the rows, in this order; a row may be taken more than once.

        Raises:
            ValueError: nothing is scored in them.
        """
        rows = rows.to(self.pairs.row.device)
        n_rows, kept = len(self.pairs.clean_tokens), scored_positions(self.pairs, rows)[1]
        clean, corrupt = (
            {writer: out.expand(n_rows, *out.shape[1:])[rows] for writer, out in outputs.items()}
            for outputs in (self.runs.clean, self.runs.corrupt)
        )
        runs = Runs(clean, corrupt, self.runs.logits[kept])
        logits, corrupt_logits = self.logits[:, kept], self.corrupt_logits[kept]
        return EdgePatches(take_rows(self.pairs, rows), self.edges, runs, logits, corrupt_logits)

    def values(self, metric: Metric = cross_entropy, rows: Int[Tensor, "taken"] | None = None) -> Float[Tensor, "edge"]:
        """How much the metric moves when each edge is patched, on all rows or on some."""
        pairs, clean, logits = self.pairs, self.runs.logits, self.logits
        if rows is not None:
            kept = scored_positions(pairs, rows)[1]
            pairs, clean, logits = take_rows(pairs, rows), clean[kept], logits[:, kept]
        base = metric(clean, clean, pairs)
        return torch.stack([metric(patched, clean, pairs) - base for patched in logits])

    def scores(self, metric: Metric = cross_entropy) -> EdgeScores:
        """`exact` on these pairs."""
        return flagged(self.edges, self.values(metric), self.pairs, self.runs)

    def by_row(self) -> RowScores:
        """The rise of the cross-entropy on each row by itself."""
        row, n_rows = self.pairs.row.cpu(), len(self.pairs.clean_tokens)
        base = F.cross_entropy(self.runs.logits, self.pairs.target, reduction="none")

        def summed(logits: Float[Tensor, "scored d_vocab"]) -> Float[Tensor, "row"]:
            rise = F.cross_entropy(logits, self.pairs.target, reduction="none") - base
            return torch.zeros(n_rows, dtype=torch.float64).index_add(0, row, rise.double().cpu())

        rise = torch.stack([summed(logits) for logits in self.logits])
        return RowScores(self.edges, rise, summed(self.corrupt_logits), torch.bincount(row, minlength=n_rows))


def scores_of_rows(
    model: Model, pairs: Pairs, scorer: Scorer, metric: Metric, patches: EdgePatches | None = None
) -> Callable[[Int[Tensor, "taken"] | None], EdgeScores]:
    """What scores all edges on some rows of the pairs, or on all (None).

    Where the scorer is `exact` the network is run once, or not at all if the pass is at hand.

    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> score = scores_of_rows(built.model, pairs, exact, cross_entropy)
    >>> torch.allclose(score(None).scores, score(torch.arange(4)).scores)
    True
    """
    if scorer is exact:
        kept = patches or EdgePatches.run(model, pairs)
        return lambda rows: (kept if rows is None else kept.take(rows)).scores(metric)
    edges = all_edges(model.config)
    return lambda rows: scorer(model, pairs if rows is None else take_rows(pairs, rows), edges, metric, None)
