"""The method card: every edge scorer and counterfactual graded on hand-built circuits.

Hypothesis: which true edges a method finds depends on the triple (circuit, counterfactual,
method). Primary measure: area under the ROC curve over all edges, unidentifiable ones as 0 (the
field's habit), beside the area over identifiable edges and their coverage.
"""

from collections.abc import Iterator
from functools import partial

import torch

from compo_mech import edges
from compo_mech.circuits import grade
from compo_mech.constructed import Rungs, build
from compo_mech.counterfactuals import Switch, make_pairs
from compo_mech.edges import Scorer
from compo_mech.tasks import Copy, Parity, Polynomial, Task

TASKS: tuple[Task, ...] = (Copy(), Parity(), Polynomial(modulus=5))
RUNGS = {
    "pristine": Rungs(),
    "soft": Rungs(sharpness=8),
    "saturated": Rungs(sharpness=150),
    "rotated": Rungs(rotated=True),
    "distractors": Rungs(distractors=True),
    "noise": Rungs(noise=0.01),
    "backup": Rungs(backup=True),
    "split": Rungs(split=True),
    "rotated, distractors": Rungs(rotated=True, distractors=True),
    "rotated, noise": Rungs(rotated=True, noise=0.01),
    "soft, distractors": Rungs(sharpness=8, distractors=True),
    "soft, noise": Rungs(sharpness=8, noise=0.01),
    "saturated, distractors": Rungs(sharpness=150, distractors=True),
    "saturated, rotated, noise": Rungs(sharpness=150, rotated=True, noise=0.01),
    "split, distractors": Rungs(split=True, distractors=True),
    "backup, saturated, rotated": Rungs(backup=True, sharpness=150, rotated=True),
}
COUNTERFACTUALS = {
    "token, same length": Switch.TOKEN,
    "varied length": Switch.TOKEN | Switch.LENGTH,
    "shifted positions": Switch.SHIFT,
    "varied length, shifted": Switch.TOKEN | Switch.LENGTH | Switch.SHIFT,
    "flipped state": Switch.STATE,
    "moved end": Switch.END,
}
SCORERS: dict[str, Scorer] = {
    "exact": edges.exact,
    "EAP": edges.eap,
    "IG 5": partial(edges.eap_ig, n_steps=5),
    "IG 20": partial(edges.eap_ig, n_steps=20),
}


def method_card(n_pairs: int, seed: int) -> Iterator[dict[str, object]]:
    """One row a task, rung, counterfactual and scorer, on cross-entropy."""
    for task in TASKS:
        for rung, rungs in RUNGS.items():
            built = build(task, rungs=rungs)
            every = edges.all_edges(built.model.config)
            for name, switch in COUNTERFACTUALS.items():
                pairs = make_pairs(built.data, switch, n_pairs, torch.Generator().manual_seed(seed))
                for method, scorer in SCORERS.items():
                    found = grade(scorer(built.model, pairs, every, edges.cross_entropy), built.edges)
                    yield {
                        "task": str(task),
                        "rung": rung,
                        "counterfactual": name,
                        "method": method,
                        "auc_all": round(found.auc_all, 4),
                        "auc_identifiable": None if found.auc is None else round(found.auc, 4),
                        "coverage": round(found.coverage, 4),
                        "top_is_truth": found.top_is_truth,
                    }
