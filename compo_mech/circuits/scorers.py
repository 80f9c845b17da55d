"""The scorers of edges by name, and what each costs.

A scorer says how much a metric moves when an edge is patched, or estimates it. All have the signature (model, pairs,
edges, metric, corrupt) -> scores, so that they compare in a loop; add one to `SCORERS`, with its cost, and the method
card grades it.
"""

from collections.abc import Callable, Sequence
from functools import partial

from compo_mech.circuits.acdc import THRESHOLDS, acdc
from compo_mech.circuits.atp_star import atp_star
from compo_mech.circuits.edge_pruning import edge_pruning
from compo_mech.circuits.exact import exact, exact_by_span
from compo_mech.circuits.gradient_scorers import eap, eap_ig, eap_ig_activations, relp, writer_groups
from compo_mech.circuits.joint_patching import pair_patching, subset_patching
from compo_mech.circuits.scores import EdgeScores
from compo_mech.data.layout import WHOLE_SPANS
from compo_mech.interventions.edges import Edge
from compo_mech.interventions.metrics import Metric
from compo_mech.interventions.pairs import Pairs
from compo_mech.interventions.streams import Outputs
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model

Scorer = Callable[[Model, Pairs, Sequence[Edge], Metric, Outputs | None], EdgeScores]

SCORERS: dict[str, Scorer] = {
    "exact": exact,
    "exact by span": exact_by_span,
    "pair patching": pair_patching,
    "subset patching": subset_patching,
    "ACDC": acdc,
    "edge pruning": partial(edge_pruning, n_steps=100),
    "EAP": eap,
    "IG 5": partial(eap_ig, n_steps=5),
    "IG 20": partial(eap_ig, n_steps=20),
    "IG 5, activations": partial(eap_ig_activations, n_steps=5),
    "AtP*": atp_star,
    "RelP": relp,
    "RelP, attention held": partial(relp, attention_is_held=True),
}
"""The scorers by their names on the method card."""

Cost = Callable[[ModelConfig, int], int]
"""From a network and the number of its edges to passes over all pairs."""

BOTH = 2
"""Runs of the clean and of the corrupt input, with which every scorer begins."""

WITH_BACKWARD = 3
"""A forward pass and a backward one, which costs two of it."""


def _n_components(config: ModelConfig) -> int:
    return config.n_layers * (config.n_heads + (not config.attn_only))


COSTS: dict[str, Cost] = {
    "exact": lambda config, n_edges: BOTH + n_edges,
    "exact by span": lambda config, n_edges: BOTH + len(WHOLE_SPANS) * n_edges,
    "pair patching": lambda config, n_edges: BOTH + 1 + n_edges * (n_edges + 1) // 2,
    "subset patching": lambda config, n_edges: BOTH + 1 + (2 + config.n_sharing) * n_edges + _n_components(config) ** 2,
    "ACDC": lambda config, n_edges: BOTH + len(THRESHOLDS) * n_edges,
    "edge pruning": lambda config, n_edges: BOTH + 1 + 100 * WITH_BACKWARD,
    "EAP": lambda config, n_edges: BOTH + WITH_BACKWARD,
    "IG 5": lambda config, n_edges: BOTH + 5 * WITH_BACKWARD,
    "IG 20": lambda config, n_edges: BOTH + 20 * WITH_BACKWARD,
    "IG 5, activations": lambda config, n_edges: BOTH + 5 * WITH_BACKWARD * len(writer_groups(config)),
    "AtP*": lambda config, n_edges: BOTH + WITH_BACKWARD * (config.n_layers + 1),
    "RelP": lambda config, n_edges: BOTH + WITH_BACKWARD,
    "RelP, attention held": lambda config, n_edges: BOTH + WITH_BACKWARD,
}
"""What each scorer costs at most, all edges scored, in forward passes over the pairs: a backward pass counts as two,
one that begins at a later layer as a whole one. AtP* computes one head's attention for each edge into a query or a key
besides, and patches of late edges run only what lies behind them."""
