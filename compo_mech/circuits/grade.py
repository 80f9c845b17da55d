"""How well edge scores tell the true edges from the others."""

from collections.abc import Iterable
from dataclasses import dataclass

from compo_mech.circuits.scores import EdgeScores
from compo_mech.circuits.selection import graph_order, ranked
from compo_mech.interventions.edges import Edge


@dataclass(frozen=True)
class Grade:
    """How well edge scores tell the true edges from the others.

    Attributes:
        auc: area under the ROC curve of |score| over the identifiable edges; None where they are all true or all false.
        coverage: fraction of the true edges that are identifiable.
        auc_all: the same area over all edges, with unidentifiable ones as 0, as is usual.
        top_is_truth: whether the n highest scores are exactly the n true edges, with no other edge tied with the lowest
            of them.
        auprc, auprc_all: average precision over the same two sets of edges.

    >>> perfect = Grade(auc=1.0, coverage=1.0, auc_all=1.0, top_is_truth=True, auprc=1.0, auprc_all=1.0)
    >>> perfect.top_is_truth
    True
    """

    auc: float | None
    coverage: float
    auc_all: float
    top_is_truth: bool
    auprc: float | None
    auprc_all: float


def grade(scores: EdgeScores, truth: Iterable[Edge]) -> Grade:
    """Grade scores against the true edges; scores within 1e-6 of each other are tied.

    Raises:
        ValueError: the truth has an edge that was not scored, or holds all edges or none.

    >>> import torch
    >>> from compo_mech import Parity, all_edges, build, exact
    >>> from compo_mech.circuits.prompts import circuit_pairs
    >>> built = build(Parity(), max_length=3)
    >>> pairs = circuit_pairs(built.model, built.data, 8, torch.Generator().manual_seed(0), Parity(), built.shifts)
    >>> found = grade(exact(built.model, pairs, all_edges(built.model.config)), built.edges)
    >>> found.auc, found.coverage, found.top_is_truth
    (1.0, 1.0, True)
    """
    from sklearn.metrics import average_precision_score, roc_auc_score  # a second, and grades alone need it

    true = set(truth)
    unscored = true - set(scores.edges)
    if unscored:
        raise ValueError(f"truth = {', '.join(map(str, sorted(unscored, key=graph_order)))}: has no score")
    if not 0 < len(true) < len(scores.edges):
        raise ValueError(f"truth = {len(true)} edges: must be some but not all of {len(scores.edges)}")
    values = ranked(scores).tolist()
    labels = [edge in true for edge in scores.edges]
    seen = [not hidden for hidden in scores.unidentifiable]
    seen_labels = [label for label, shown in zip(labels, seen, strict=True) if shown]
    seen_values = [value for value, shown in zip(values, seen, strict=True) if shown]
    mixed = len(set(seen_labels)) == 2
    lowest_true = min(value for value, label in zip(values, labels, strict=True) if label)
    highest_false = max(value for value, label in zip(values, labels, strict=True) if not label)
    return Grade(
        auc=float(roc_auc_score(seen_labels, seen_values)) if mixed else None,
        coverage=sum(seen_labels) / len(true),
        auc_all=float(roc_auc_score(labels, values)),
        top_is_truth=lowest_true > highest_false,
        auprc=float(average_precision_score(seen_labels, seen_values)) if mixed else None,
        auprc_all=float(average_precision_score(labels, values)),
    )
