"""How far a circuit depends on its prompts."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.circuits.overlap import jaccard
from compo_mech.circuits.prompts import scored_places, take_rows
from compo_mech.circuits.scorers import EdgeScores, Scorer, exact
from compo_mech.interventions.edges import Edge, all_edges
from compo_mech.interventions.graph import run_both, run_patched
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
    edges: Sequence[Edge] | None = None,
    scorer: Scorer = exact,
    metric: Metric = cross_entropy,
) -> Interval:
    """How far a circuit depends on its prompts: Jaccard overlap of circuits from resampled rows with the one from all.

    Args:
        model: the network.
        pairs: clean and corrupt inputs; rows are drawn with replacement, as many as there are.
        select: from scores to a circuit.
        generator: draws the rows.
        n_resamples: how often.
        edges: to be scored; None: all.
        scorer: of edges.
        metric: what it scores by.
    """
    edges = all_edges(model.config) if edges is None else edges
    whole = scorer(model, pairs, edges, metric, None)
    n = len(pairs.clean_tokens)
    draws = [torch.randint(n, (n,), generator=generator) for _ in range(n_resamples)]
    circuit = select(whole)
    if scorer is exact:
        found = (replace(whole, scores=scores) for scores in exact_of_rows(model, pairs, edges, metric, draws))
    else:
        found = (scorer(model, take_rows(pairs, rows), edges, metric, None) for rows in draws)
    return Interval.of([jaccard(circuit, select(scores)) for scores in found])


@torch.no_grad()
def exact_of_rows(
    model: Model, pairs: Pairs, edges: Sequence[Edge], metric: Metric, draws: Sequence[Int[Tensor, "taken"]]
) -> Float[Tensor, "draw edge"]:
    """`edges.exact` on several draws of rows, with every edge patched once: rows do not see each other."""
    runs = run_both(model, pairs)
    samples = [(take_rows(pairs, rows), scored_places(pairs, rows)[1]) for rows in draws]
    base = [metric(runs.logits[places], runs.logits[places], taken) for taken, places in samples]
    scores = torch.empty(len(draws), len(edges))
    for j, edge in enumerate(edges):
        logits = run_patched(model, pairs, runs, [edge])
        for i, (taken, places) in enumerate(samples):
            scores[i, j] = metric(logits[places], runs.logits[places], taken) - base[i]
    return scores
