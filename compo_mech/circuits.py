"""From edge scores to a circuit, and what it is worth against a known truth."""

from collections.abc import Iterable
from dataclasses import dataclass

from jaxtyping import Float
from sklearn.metrics import roc_auc_score
from torch import Tensor

from compo_mech.edges import TOLERANCE, Edge, EdgeScores


@dataclass(frozen=True)
class Grade:
    """How well edge scores tell the true edges from the others.

    Attributes:
        auc: area under the ROC curve of |score| over the identifiable edges; None where they are
            all true or all false.
        coverage: share of the true edges that are identifiable.
        auc_all: the same area over all edges, with unidentifiable ones as 0, the field's habit.
        top_is_truth: whether the n highest scores are exactly the n true edges, with none of the
            others level with the lowest of them.
    """

    auc: float | None
    coverage: float
    auc_all: float
    top_is_truth: bool


def grade(scores: EdgeScores, truth: Iterable[Edge]) -> Grade:
    """Grade scores against the true edges; scores within 1e-6 of each other are tied.

    Raises:
        ValueError: the truth has an edge that was not scored, or holds all edges or none.
    """
    true = set(truth)
    unscored = true - set(scores.edges)
    if unscored:
        raise ValueError(f"truth = {', '.join(map(str, sorted(unscored, key=str)))}: has no score")
    if not 0 < len(true) < len(scores.edges):
        raise ValueError(f"truth = {len(true)} edges: must be some but not all of {len(scores.edges)}")
    values = ranked(scores)
    labels = [edge in true for edge in scores.edges]
    seen = [not hidden for hidden in scores.unidentifiable]
    seen_labels = [label for label, shown in zip(labels, seen, strict=True) if shown]
    seen_values = [value for value, shown in zip(values.tolist(), seen, strict=True) if shown]
    lowest_true = min(value for value, label in zip(values.tolist(), labels, strict=True) if label)
    highest_false = max(value for value, label in zip(values.tolist(), labels, strict=True) if not label)
    return Grade(
        auc=float(roc_auc_score(seen_labels, seen_values)) if len(set(seen_labels)) == 2 else None,
        coverage=sum(seen_labels) / len(true),
        auc_all=float(roc_auc_score(labels, values.tolist())),
        top_is_truth=lowest_true > highest_false,
    )


def ranked(scores: EdgeScores) -> Float[Tensor, "edge"]:
    """|score| rounded to the tolerance, so that ties are ties; 0 for unidentifiable edges."""
    sizes = (scores.scores.detach().double().abs() / TOLERANCE).round() * TOLERANCE
    for i, hidden in enumerate(scores.unidentifiable):
        if hidden:
            sizes[i] = 0.0
    return sizes
