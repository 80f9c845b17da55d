"""The method card: every edge scorer graded on every family of networks whose circuit is known.

Hypothesis: which true edges a method finds depends on the triple (circuit, counterfactual, method). Primary measure:
area under the ROC curve over all edges, unidentifiable ones as 0 (the field's habit), beside the area over identifiable
edges and their coverage. Scores are changes of the cross-entropy.

Every method is graded with the field's usual pairs, another string of the same length, and with those that move every
writer: strings of another length with shifted position ids, or, for compiled programs, rows drawn anew. On hand-built
networks the quick ones are graded with all counterfactuals. Those in `COSTLY` are given the second kind alone, and not
every network; pairs of edges are patched only where redundancy is at issue.

Where clean and corrupt rows differ in length, only positions that both read are scored. No scored row sees a later
position, so that padding enters no score, and a patch there does nothing. Position ids are shifted as far as a build
has room, though it does not answer shifted strings: the pairs are there to move its edges.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from compo_mech.circuits.grade import grade
from compo_mech.circuits.prompts import take_rows
from compo_mech.circuits.scorers import COSTS, SCORERS
from compo_mech.ground_truth.families import SINGLE, Subject, TaskNetwork
from compo_mech.ground_truth.tracr import TracrProgram
from compo_mech.ground_truth.tracr_pairs import program_pairs
from compo_mech.interventions import metrics
from compo_mech.interventions.ablation import Baseline, baseline_outputs
from compo_mech.interventions.edges import all_edges
from compo_mech.interventions.graph import embeddings
from compo_mech.interventions.pairs import Pairs, Switch, make_pairs
from compo_mech.interventions.streams import Outputs

if TYPE_CHECKING:
    import pandas as pd

COUNTERFACTUALS: dict[str, tuple[Switch, Baseline | None]] = {
    "token, same length": (Switch.TOKEN, None),
    "varied length": (Switch.TOKEN | Switch.LENGTH, None),
    "shifted positions": (Switch.SHIFT, None),
    "varied length, shifted": (Switch.TOKEN | Switch.LENGTH | Switch.SHIFT, None),
    "flipped state": (Switch.STATE, None),
    "moved end": (Switch.END, None),
    "zero": (Switch.TOKEN, "zero"),
    "mean per position": (Switch.TOKEN, "mean"),
    "mean over positions": (Switch.TOKEN, "mean_over_positions"),
    "resample over positions": (Switch.TOKEN, "resample_over_positions"),
}
"""What differs between clean and corrupt input, and, if any, the baseline that patched edges carry instead."""

USUAL = "token, same length"
"""The pairs that are usual in the field."""

IDENTIFYING = "varied length, shifted"
"""The pairs that move every true edge of a network that reads strings of several lengths."""

RESAMPLED = "rows drawn anew"
"""The pairs that move every true edge of a compiled program (see `tracr_pairs`)."""

QUICK = ("exact", "EAP", "IG 5", "IG 20")
"""Methods that are graded with every counterfactual."""

COSTLY = ("exact by span", "pair patching", "subset patching", "ACDC", "edge pruning")
"""Methods of hundreds or thousands of passes, which are graded with half of the identifying pairs alone: not on
hand-built networks of tasks other than parity, nor on those that combine options of difficulty."""

MAX_PAIRED = 100
"""Edges of a misleading network, beyond which pairs of them are not patched; in other families they never are."""

CARD = Path(__file__).with_suffix(".csv")
"""The card as it was graded last, which comes with the package."""


def method_card_table() -> "pd.DataFrame":
    """Read the card that comes with the package: a row a network, counterfactual and scorer.

    Example:
        >>> from compo_mech.ground_truth import method_card_table
        >>> sorted(method_card_table()["task"].unique())[:3]
        ['automaton', 'copy', 'count']
    """
    import pandas as pd

    return pd.read_csv(CARD, encoding="utf-8")


def counterfactual(
    known: TaskNetwork | TracrProgram, name: str, n_pairs: int, seed: int
) -> tuple[Pairs, Outputs | None]:
    """Draw pairs for a network, and what patched edges carry where that is a baseline.

    Example:
        >>> from compo_mech.data import Copy
        >>> from compo_mech.ground_truth import build, counterfactual
        >>> pairs, _ = counterfactual(build(Copy(), max_length=3), "shifted positions", n_pairs=2, seed=0)
        >>> torch.equal(pairs.clean_tokens, pairs.corrupt_tokens)
        True
        >>> torch.equal(pairs.clean_position_ids, pairs.corrupt_position_ids)
        False
    """
    generator = torch.Generator().manual_seed(seed)
    if isinstance(known, TracrProgram):
        return program_pairs(known, n_pairs, generator, name == RESAMPLED), None
    switch, baseline = COUNTERFACTUALS[name]
    pairs = make_pairs(known.data, switch, n_pairs, generator, known.shifts.largest)
    if baseline is None:
        return pairs, None
    inputs = embeddings(known.model, pairs.clean_tokens, pairs.clean_position_ids)
    return pairs, baseline_outputs(known.model, inputs, baseline, generator, pairs.read)


def identifying(family: str) -> str:
    """Return the name of the pairs that move every true edge of a family's networks.

    Example:
        >>> from compo_mech.ground_truth.method_card import identifying
        >>> identifying("hand-built"), identifying("Tracr")
        ('varied length, shifted', 'rows drawn anew')
    """
    return RESAMPLED if family == "Tracr" else IDENTIFYING


def is_graded(subject: Subject, name: str, method: str, n_edges: int) -> bool:
    """Whether a method is graded with these pairs on a network, which has so many edges.

    Example:
        >>> from compo_mech.ground_truth import subjects
        >>> from compo_mech.ground_truth.method_card import is_graded
        >>> parity = [subject for subject in subjects() if subject.task == "parity" and subject.family == "misleading"]
        >>> [is_graded(parity[0], "varied length, shifted", "pair patching", n_edges) for n_edges in (96, 137)]
        [True, False]
    """
    if method in COSTLY:
        if name != identifying(subject.family):
            return False
        if subject.family == "hand-built" and not (subject.task == "parity" and subject.build in SINGLE):
            return False
        if method == "pair patching":
            return subject.family == "misleading" and n_edges <= MAX_PAIRED
    return name in (USUAL, identifying(subject.family)) or (subject.family == "hand-built" and method in QUICK)


def grades(subject: Subject, n_pairs: int, seed: int) -> list[dict[str, object]]:
    """Grade every scorer on one network: a row a counterfactual and scorer, on cross-entropy.

    Example:
        >>> from compo_mech.ground_truth import subjects
        >>> from compo_mech.ground_truth.method_card import grades
        >>> row = grades(subjects()[0], n_pairs=4, seed=0)[0]  # doctest: +SKIP
        >>> row["build"], row["method"]  # doctest: +SKIP
        ('pristine', 'exact')
    """
    known, rows = subject.load(), []
    edges = all_edges(known.model.config)
    names = (USUAL, RESAMPLED) if isinstance(known, TracrProgram) else COUNTERFACTUALS
    for name in names:
        methods = [method for method in SCORERS if is_graded(subject, name, method, len(edges))]
        if not methods:
            continue
        pairs, corrupt = counterfactual(known, name, n_pairs, seed)
        half = take_rows(pairs, torch.arange((n_pairs + 1) // 2))
        for method in methods:
            asked = half if method in COSTLY else pairs
            found = grade(SCORERS[method](known.model, asked, edges, metrics.cross_entropy, corrupt), known.edges)
            rows.append(
                {
                    "family": subject.family,
                    "task": subject.task,
                    "build": subject.build,
                    "counterfactual": name,
                    "method": method,
                    "auc_all": round(found.auc_all, 4),
                    "auc_identifiable": None if found.auc is None else round(found.auc, 4),
                    "coverage": round(found.coverage, 4),
                    "top_is_truth": found.top_is_truth,
                    "n_pairs": len(asked.clean_tokens),
                    "n_forwards": COSTS[method](known.model.config, len(edges)),
                }
            )
    return rows


def by_family(card: "pd.DataFrame") -> "pd.DataFrame":
    """Summarise a card: a row a method, family and one of its two kinds of pairs, methods in the order of `SCORERS`.

    Columns are the networks graded, the median area under the ROC curve over all edges and the lowest, how often the
    highest scores are exactly the true edges, and the median cost in forward passes over the pairs.

    Example:
        >>> from compo_mech.ground_truth import by_family, method_card_table
        >>> table = by_family(method_card_table())
        >>> exact = table[(table["method"] == "exact") & (table["counterfactual"] == "varied length, shifted")]
        >>> float(exact.set_index("family")["auc"]["hand-built"])
        1.0
    """
    shown = [
        counterfactual in (USUAL, identifying(family))
        for family, counterfactual in zip(card["family"], card["counterfactual"], strict=True)
    ]
    groups = card[shown].groupby(["method", "family", "counterfactual"], sort=False)
    summary = groups.agg(
        n_networks=("auc_all", "size"),
        auc=("auc_all", "median"),
        lowest_auc=("auc_all", "min"),
        n_top_is_truth=("top_is_truth", "sum"),
        n_forwards=("n_forwards", "median"),
    ).reset_index()
    order = list(SCORERS)
    return summary.sort_values("method", key=lambda names: names.map(order.index), kind="stable", ignore_index=True)


def method_card(every: Iterable[Subject], n_pairs: int, seed: int) -> "pd.DataFrame":
    """Grade every scorer on these networks, one after another.

    Example:
        >>> from compo_mech.ground_truth import method_card, subjects
        >>> card = method_card(subjects()[:1], n_pairs=4, seed=0)  # doctest: +SKIP
        >>> len(card.columns)  # doctest: +SKIP
        11
    """
    import pandas as pd

    return pd.DataFrame([row for subject in every for row in grades(subject, n_pairs, seed)])
