"""Scores of edges, the circuits that are chosen by them, and how well circuits do."""

from compo_mech.circuits.prompts import PAIRS, circuit_switch, circuit_pairs, take_rows
from compo_mech.circuits.scores import EdgeScores
from compo_mech.circuits.exact import exact, exact_by_span
from compo_mech.circuits.joint_patching import pair_patching, subset_patching
from compo_mech.circuits.acdc import acdc
from compo_mech.circuits.edge_pruning import edge_pruning
from compo_mech.circuits.gradient_scorers import eap, eap_ig, eap_ig_activations, relp
from compo_mech.circuits.atp_star import atp_star
from compo_mech.circuits.scorers import SCORERS, COSTS, Cost, Scorer
from compo_mech.circuits.selection import (
    score_order,
    graph_order,
    top,
    at_least,
    greedy,
    connected,
    node_name,
    random_edges,
    reading_nodes,
)
from compo_mech.circuits.circuit import Circuit, to_json, from_json
from compo_mech.circuits.circuit_runs import CircuitRuns
from compo_mech.circuits.edge_patches import EdgePatches, RowScores, scores_of_rows
from compo_mech.circuits.grade import Grade, grade
from compo_mech.circuits.faithfulness import Behaviour, Curve, curve, areas, RandomCurves, random_curves
from compo_mech.circuits.completeness import (
    completeness,
    Gap,
    minimality,
    Removal,
    removals,
    judge,
    CircuitMeasures,
    CircuitVerdict,
)
from compo_mech.circuits.edge_sets import EdgeSets, OnRows, SetRows
from compo_mech.circuits.edge_search import search, Found, Witness, faithful, minimal
from compo_mech.circuits.stability import stability, resampled, Resampled
from compo_mech.circuits.discovery import discover, Discovery
from compo_mech.circuits.alternatives import alternative, Alternative
from compo_mech.circuits.hypotheses import circuit_tests, CircuitTests, Tested
from compo_mech.circuits.overlap import jaccard, permutation_test, PermutationResult, permuted_overlap

__all__ = [
    "PAIRS",
    "circuit_switch",
    "circuit_pairs",
    "take_rows",
    "EdgeScores",
    "exact",
    "exact_by_span",
    "pair_patching",
    "subset_patching",
    "acdc",
    "edge_pruning",
    "eap",
    "eap_ig",
    "eap_ig_activations",
    "relp",
    "atp_star",
    "SCORERS",
    "COSTS",
    "Cost",
    "Scorer",
    "score_order",
    "graph_order",
    "top",
    "at_least",
    "greedy",
    "connected",
    "node_name",
    "random_edges",
    "reading_nodes",
    "Circuit",
    "to_json",
    "from_json",
    "CircuitRuns",
    "EdgePatches",
    "RowScores",
    "scores_of_rows",
    "Grade",
    "grade",
    "Behaviour",
    "Curve",
    "curve",
    "areas",
    "RandomCurves",
    "random_curves",
    "completeness",
    "Gap",
    "minimality",
    "Removal",
    "removals",
    "judge",
    "CircuitMeasures",
    "CircuitVerdict",
    "EdgeSets",
    "OnRows",
    "SetRows",
    "search",
    "Found",
    "Witness",
    "faithful",
    "minimal",
    "stability",
    "resampled",
    "Resampled",
    "discover",
    "Discovery",
    "alternative",
    "Alternative",
    "circuit_tests",
    "CircuitTests",
    "Tested",
    "jaccard",
    "permutation_test",
    "PermutationResult",
    "permuted_overlap",
]
