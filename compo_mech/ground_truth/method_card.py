"""The method card: every edge scorer and counterfactual graded on hand-built circuits.

Hypothesis: which true edges a method finds depends on the triple (circuit, counterfactual,
method). Primary measure: area under the ROC curve over all edges, unidentifiable ones as 0 (the
field's habit), beside the area over identifiable edges and their coverage.

Where clean and corrupt rows differ in length, only positions that both read are scored. No scored row sees a later
position, so that padding enters no score, and a patch there does nothing. Position ids are shifted as far as a build
has room, though it does not answer shifted strings: the pairs are there to move its edges.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch

from compo_mech.circuits.grade import grade
from compo_mech.circuits.scorers import SCORERS
from compo_mech.data.tasks import Copy, Parity, Polynomial, Task
from compo_mech.ground_truth.build import Constructed, build, solves
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.interventions import metrics
from compo_mech.interventions.ablation import Baseline, baseline_outputs
from compo_mech.interventions.edges import all_edges
from compo_mech.interventions.graph import embeddings
from compo_mech.interventions.pairs import Pairs, Switch, make_pairs
from compo_mech.interventions.streams import Outputs

TASKS: tuple[Task, ...] = (Copy(), Parity(), Polynomial(modulus=5))

RUNGS = {
    "pristine": BuildOptions(),
    "soft": BuildOptions(sharpness=8),
    "saturated": BuildOptions(sharpness=150),
    "rotated": BuildOptions(rotated=True),
    "distractors": BuildOptions(distractors=True),
    "noise": BuildOptions(noise=0.01),
    "LayerNorm": BuildOptions(layer_norm=True),
    "three layers": BuildOptions(three_layers=True),
    "neighbour": BuildOptions(route="neighbour"),
    "state": BuildOptions(route="state"),
    "shortcut": BuildOptions(chain_of_thought=False),
    "split": BuildOptions(split=True),
    "backup": BuildOptions(backup=True),
    "rotated, distractors": BuildOptions(rotated=True, distractors=True),
    "saturated, rotated, noise": BuildOptions(sharpness=150, rotated=True, noise=0.005),
    "soft, distractors": BuildOptions(sharpness=8, distractors=True),
    "LayerNorm, rotated, distractors": BuildOptions(layer_norm=True, rotated=True, distractors=True),
    "three layers, saturated, distractors": BuildOptions(three_layers=True, sharpness=150, distractors=True),
    "neighbour, LayerNorm, rotated": BuildOptions(route="neighbour", layer_norm=True, rotated=True),
    "split, three layers, distractors": BuildOptions(split=True, three_layers=True, distractors=True),
    "backup, saturated, rotated": BuildOptions(backup=True, sharpness=150, rotated=True),
}
"""Each rung by itself, then eight that combine them."""

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

IDENTIFYING = "varied length, shifted"
"""The pairs that move every true edge."""


CARD = Path(__file__).with_suffix(".csv")
"""The card as it was graded last, which comes with the package."""


def method_card_table() -> pd.DataFrame:
    """Read the card that comes with the package: a row a task, rung, counterfactual and scorer.

    Example:
        >>> from compo_mech.ground_truth import method_card_table
        >>> sorted(method_card_table()["task"].unique())
        ['copy', 'parity', 'polynomial(modulus=5)']
    """
    return pd.read_csv(CARD, encoding="utf-8")


def builds() -> Iterator[tuple[str, Constructed]]:
    """Yield every rung on every task that it is for.

    Example:
        >>> from compo_mech.ground_truth import builds
        >>> rung, built = next(builds())
        >>> rung, str(built.data.tasks[0])
        ('pristine', 'copy')
    """
    for task in TASKS:
        for name, rungs in RUNGS.items():
            if solves(task, rungs):
                yield name, build(task, rungs=rungs)


def counterfactual(built: Constructed, name: str, n_pairs: int, seed: int) -> tuple[Pairs, Outputs | None]:
    """Draw pairs of a build, and what patched edges carry where that is a baseline.

    Example:
        >>> from compo_mech.data import Copy
        >>> from compo_mech.ground_truth import build, counterfactual
        >>> pairs, _ = counterfactual(build(Copy(), max_length=3), "shifted positions", n_pairs=2, seed=0)
        >>> torch.equal(pairs.clean_tokens, pairs.corrupt_tokens)
        True
        >>> torch.equal(pairs.clean_position_ids, pairs.corrupt_position_ids)
        False
    """
    switch, baseline = COUNTERFACTUALS[name]
    generator = torch.Generator().manual_seed(seed)
    pairs = make_pairs(built.data, switch, n_pairs, generator, built.shifts.largest)
    if baseline is None:
        return pairs, None
    inputs = embeddings(built.model, pairs.clean_tokens, pairs.clean_position_ids)
    return pairs, baseline_outputs(built.model, inputs, baseline, generator, pairs.read)


def method_card(n_pairs: int, seed: int) -> Iterator[dict[str, object]]:
    """Yield one row a task, rung, counterfactual and scorer, on cross-entropy."""
    for rung, built in builds():
        every = all_edges(built.model.config)
        for name in COUNTERFACTUALS:
            pairs, corrupt = counterfactual(built, name, n_pairs, seed)
            for method, scorer in SCORERS.items():
                found = grade(scorer(built.model, pairs, every, metrics.cross_entropy, corrupt), built.edges)
                yield {
                    "task": str(built.data.tasks[0]),
                    "rung": rung,
                    "counterfactual": name,
                    "method": method,
                    "auc_all": round(found.auc_all, 4),
                    "auc_identifiable": None if found.auc is None else round(found.auc, 4),
                    "coverage": round(found.coverage, 4),
                    "top_is_truth": found.top_is_truth,
                }
