"""Many sets of edges of one network on the same pairs, each run once: how far the output is from the network's.

What is kept of a set is a row of numbers a pair, so that rows can be weighted afterwards: a half of the prompts, or a
bootstrap draw of them, needs no further run of a set that is known.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from compo_mech.circuits.accuracy import pair_accuracy
from compo_mech.circuits.circuit_runs import CircuitRuns
from compo_mech.circuits.edge_patches import EdgePatches
from compo_mech.circuits.scores import SMALLEST_GAP
from compo_mech.circuits.selection import connected
from compo_mech.interventions.edges import Edge, all_edges
from compo_mech.interventions.pairs import Pairs
from compo_mech.model.finite import check_finite, likeliest
from compo_mech.model.params import Model


class SetRows(NamedTuple):
    """What a set of edges does on each row, summed over the row's scored positions.

    Attributes:
        kl: KL divergence from the network's distribution, in nats.
        loss: cross-entropy of the clean answers, in nats.
        n_moved: answers that differ between the two inputs, where the clean input's is the likeliest.

    >>> SetRows(kl=torch.zeros(2), loss=torch.zeros(2), n_moved=torch.tensor([3.0, 1.0])).n_moved.sum()
    tensor(4.)
    """

    kl: Float[Tensor, "row"]
    loss: Float[Tensor, "row"]
    n_moved: Float[Tensor, "row"]


class EdgeSets:
    """A network in which only a set of edges carries the clean input; every set is run once.

    Attributes:
        model, pairs: the network, and what it is asked.
        edges: all of the network's.
        accuracy: of the network on both inputs.
        n_scored, n_differ: positions of each row, and how many of them have answers that differ.

    Raises:
        ValueError: the model cannot read the pairs.

    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> sets = EdgeSets(built.model, pairs)
    >>> circuit = sets.rows(built.edges)  # its output is the network's, up to what softmax leaves elsewhere
    >>> bool((circuit.kl < 1e-3).all()), torch.equal(circuit.n_moved, sets.n_differ), sets.n_run
    (True, True, 1)
    """

    def __init__(self, model: Model, pairs: Pairs) -> None:
        self.model, self.pairs, self.edges = model, pairs, tuple(all_edges(model.config))
        self._runs = CircuitRuns(model, pairs, self.edges)
        self.accuracy = pair_accuracy(model, pairs, self._runs.runs)
        clean = self._runs.runs.logits
        self._clean = clean.log_softmax(-1)
        self._differ = pairs.foil != pairs.target
        self.n_scored, self.n_differ = self._by_row(torch.ones_like(pairs.row)), self._by_row(self._differ)
        self._known: dict[frozenset[Edge], SetRows] = {}
        self._asked: dict[frozenset[Edge], SetRows] = {}

    @property
    def n_run(self) -> int:
        """How many sets were run so far."""
        return len(self._known)

    @property
    def n_asked(self) -> int:
        """How many sets were asked for so far; of those that differ in dead ends alone one was run."""
        return len(self._asked)

    def know(self, patches: EdgePatches) -> None:
        """Take over the pass in which each edge was patched by itself, as the sets that lack one edge.

        >>> from compo_mech import Parity, Switch, build, make_pairs
        >>> built = build(Parity(), max_length=3)
        >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
        >>> sets = EdgeSets(built.model, pairs)
        >>> sets.know(EdgePatches.run(built.model, pairs))
        >>> rows = sets.rows(set(sets.edges) - {sets.edges[0]})
        >>> sets.n_run
        0
        """
        every = frozenset(self.edges)
        for edge, logits in zip(patches.edges, patches.logits, strict=True):
            self._asked[every - {edge}] = self._measured(logits)

    @torch.no_grad()
    def rows(self, kept: Iterable[Edge]) -> SetRows:
        """What a set of edges does, all others carrying the corrupt input.

        Raises:
            ValueError: what it puts out is not finite.
        """
        asked = frozenset(kept)
        if asked not in self._asked:
            live = connected(asked, self.model.config)  # the others change nothing
            if live not in self._known:
                self._known[live] = self._measured(self._runs.logits(live))
            self._asked[asked] = self._known[live]
        return self._asked[asked]

    def _measured(self, logits: Float[Tensor, "scored d_vocab"]) -> SetRows:
        log_probs = logits.log_softmax(-1)
        kl = (self._clean.exp() * (self._clean - log_probs)).sum(-1)
        check_finite("KL divergence", kl)
        right = (likeliest(logits) == self.pairs.target) & self._differ
        loss = F.nll_loss(log_probs, self.pairs.target, reduction="none")
        return SetRows(self._by_row(kl), self._by_row(loss), self._by_row(right))

    def _by_row(self, values: Tensor) -> Float[Tensor, "row"]:
        total = torch.zeros(len(self.pairs.clean_tokens), dtype=torch.float64)
        return total.index_add(0, self.pairs.row.cpu(), values.double().cpu())


class OnRows:
    """The sets on weighted rows: all of them, a half, or a bootstrap draw.

    Args:
        sets: of edges.
        weights: how often each row counts; None: once.

    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> found = OnRows(EdgeSets(built.model, pairs))
    >>> [round(found.distance(kept), 2) for kept in (built.edges, ())], found.swap(built.edges)
    ([0.0, 1.0], 1.0)
    """

    def __init__(self, sets: EdgeSets, weights: Float[Tensor, "row"] | None = None) -> None:
        self.sets = sets
        self.weights = torch.ones_like(sets.n_scored) if weights is None else weights.double().cpu()
        self.n_scored = float(self.weights @ sets.n_scored)
        self._n_differ = max(1.0, float(self.weights @ sets.n_differ))
        none = sets.rows(())
        self._gap = max(self._mean(none.kl), SMALLEST_GAP)
        self._unmoved = float(self.weights @ none.n_moved) / self._n_differ

    def distance(self, kept: Iterable[Edge]) -> float:
        """KL divergence from the network's output, as a fraction of that of the corrupt input's."""
        return self._mean(self.sets.rows(kept).kl) / self._gap

    def swap(self, kept: Iterable[Edge]) -> float:
        """How many of the answers that the task asks to be moved are moved.

        In units of the ideal swap, in which every answer that differs is moved: (a(C) - a(none)) / (1 - a(none)), a
        being the fraction of answers that are the clean input's. The unit is the task's and not the network's own gap,
        which is noise in a network that does nothing.
        """
        moved = float(self.weights @ self.sets.rows(kept).n_moved) / self._n_differ
        return (moved - self._unmoved) / (1 - self._unmoved) if self._unmoved < 1 else 0.0

    def _mean(self, rows: Float[Tensor, "row"]) -> float:
        return float(self.weights @ rows) / self.n_scored
