"""How far a circuit depends on its prompts."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from compo_mech.circuits.edge_patches import EdgePatches, scores_of_rows
from compo_mech.circuits.edge_search import Found
from compo_mech.circuits.edge_sets import OnRows
from compo_mech.circuits.exact import exact
from compo_mech.circuits.overlap import jaccard
from compo_mech.circuits.scorers import Scorer
from compo_mech.circuits.scores import EdgeScores
from compo_mech.circuits.selection import random_edges
from compo_mech.interventions.edges import Edge
from compo_mech.interventions.metrics import Metric, cross_entropy
from compo_mech.interventions.pairs import Pairs
from compo_mech.model.params import Model
from compo_mech.stats.intervals import Interval, on_its_side, two_decimals

STABLE = 0.8
"""The bar that has been proposed for the overlap of circuits of resampled prompts, over 100 resamples.

Source: arXiv 2510.00845, with the two published figures.
"""

PUBLISHED = "0.67 for GPT-2 small, 0.39 for Llama 1B"
N_DRAWS = 100

Select = Callable[[EdgeScores], frozenset[Edge]]


def stability(
    model: Model,
    pairs: Pairs,
    select: Select,
    generator: torch.Generator,
    n_resamples: int = N_DRAWS,
    scorer: Scorer = exact,
    metric: Metric = cross_entropy,
    patches: EdgePatches | None = None,
) -> Interval:
    """How far a circuit depends on its prompts: Jaccard overlap of circuits from resampled rows with the one from all.

    Args:
        model: the network.
        pairs: clean and corrupt inputs; rows are drawn with replacement, as many as there are.
        select: from scores to a circuit.
        generator: draws the rows.
        n_resamples: how often.
        scorer: of edges.
        metric: what it scores by.
        patches: the pass of `exact` over these pairs, if it is at hand.

    >>> from compo_mech import Parity, build
    >>> from compo_mech.circuits.prompts import circuit_pairs
    >>> from compo_mech.circuits.selection import top
    >>> built, generator = build(Parity(), max_length=3), torch.Generator().manual_seed(0)
    >>> pairs = circuit_pairs(built.model, built.data, 8, generator, Parity(), built.shifts)
    >>> print(stability(built.model, pairs, lambda scores: top(scores, 10), generator, n_resamples=4))
    1.00 (1.00 .. 1.00)
    """
    n = len(pairs.clean_tokens)
    draws = [torch.randint(n, (n,), generator=generator).to(pairs.row.device) for _ in range(n_resamples)]
    if scorer is exact:
        kept = patches or EdgePatches.run(model, pairs)
        whole = kept.scores(metric)
        found = (replace(whole, scores=kept.values(metric, rows)) for rows in draws)
    else:
        score = scores_of_rows(model, pairs, scorer, metric)
        whole = score(None)
        found = map(score, draws)
    circuit = select(whole)
    return Interval.of([jaccard(circuit, select(scores)) for scores in found])


@dataclass(frozen=True)
class Resampled:
    """Circuits of resampled prompts beside the one of all of them.

    Attributes:
        overlap: Jaccard overlap with it, over the draws.
        random: the same for random circuits of its size.
        n_draws: of the prompts.

    >>> found = Resampled(Interval(0.796, 0.7, 1.0), Interval(0.4, 0.3, 0.5), n_draws=100)
    >>> found.stable, str(found).startswith("not stable: circuits of 100 bootstrap resamples ")
    (False, True)
    """

    overlap: Interval
    random: Interval
    n_draws: int

    @property
    def stable(self) -> bool:
        """Whether the mean overlap comes up to the bar, beyond that of random circuits."""
        return self.overlap.mean >= STABLE and not self.is_chance

    @property
    def is_chance(self) -> bool:
        """Whether random circuits overlap up to as much, as those of nearly the whole network do."""
        return not self.random.high < self.overlap.mean

    def __str__(self) -> str:
        mean, (_, low, high) = on_its_side(self.overlap.mean, STABLE), map(two_decimals, self.overlap)
        return (
            f"{'' if self.stable else 'not '}stable: circuits of {self.n_draws} bootstrap resamples of the prompts "
            f"overlap with it by {mean} ({low} .. {high}) ({STABLE} needed; random circuits {self.random}"
            f"{', up to as much' if self.is_chance else ''}; published: {PUBLISHED})"
        )


def resampled(on: OnRows, found: Found, generator: torch.Generator, n_draws: int = N_DRAWS) -> Resampled:
    """How far a circuit that was searched for depends on its prompts: each draw decides anew what is in it.

    An edge is in a draw's circuit if the two sets that show what it does say so on those rows; nothing is run again.

    Args:
        on: values of sets of edges.
        found: the circuit, and what shows what each edge does.
        generator: draws the rows, as many as there are, with replacement, and random circuits.
        n_draws: how often.

    >>> from compo_mech import Parity, build
    >>> from compo_mech.circuits import EdgeSets, circuit_pairs, search
    >>> built, generator = build(Parity(), max_length=2), torch.Generator().manual_seed(0)
    >>> pairs = circuit_pairs(built.model, built.data, 8, generator, Parity(), built.shifts)
    >>> on = OnRows(EdgeSets(built.model, pairs))
    >>> print(resampled(on, search(on, on.sets.edges), generator, n_draws=10).overlap)
    1.00 (1.00 .. 1.00)
    """
    n, edges, size = len(on.weights), on.sets.edges, len(found.circuit)
    drawn = torch.randint(n, (n_draws, n), generator=generator)
    weights = torch.zeros(n_draws, n, dtype=torch.float64).scatter_add(1, drawn, torch.ones(n_draws, n).double())
    random = [jaccard(found.circuit, random_edges(edges, size, generator)) for _ in range(n_draws)]
    overlap = Interval.of([jaccard(found.circuit, circuit) for circuit in found.on_draws(on, weights)])
    return Resampled(overlap, Interval.of(random), n_draws)
