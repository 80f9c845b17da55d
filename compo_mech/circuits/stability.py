"""How far a circuit depends on its prompts."""

from collections.abc import Callable
from dataclasses import replace

import torch

from compo_mech.circuits.edge_patches import EdgePatches, scores_of_rows
from compo_mech.circuits.exact import exact
from compo_mech.circuits.overlap import jaccard
from compo_mech.circuits.scorers import Scorer
from compo_mech.circuits.scores import EdgeScores
from compo_mech.interventions.edges import Edge
from compo_mech.interventions.metrics import Metric, cross_entropy
from compo_mech.interventions.pairs import Pairs
from compo_mech.model.params import Model
from compo_mech.stats.intervals import Interval

Select = Callable[[EdgeScores], frozenset[Edge]]


def stability(
    model: Model,
    pairs: Pairs,
    select: Select,
    generator: torch.Generator,
    n_resamples: int = 100,
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
