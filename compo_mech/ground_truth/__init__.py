"""Networks built by hand, whose circuit is known, and the grades of methods on them."""

from compo_mech.ground_truth.options import BuildOptions
from compo_mech.ground_truth.builder import Sketch, Neuron
from compo_mech.ground_truth.iteration_head import IterationHead, missable_pairs
from compo_mech.ground_truth.shortcut import SHORTCUT_TASKS, Shortcut
from compo_mech.ground_truth.build import build, Constructed, solves
from compo_mech.ground_truth.method_card import (
    RUNGS,
    COUNTERFACTUALS,
    builds,
    counterfactual,
    method_card,
    method_card_table,
)

__all__ = [
    "BuildOptions",
    "Sketch",
    "Neuron",
    "IterationHead",
    "missable_pairs",
    "SHORTCUT_TASKS",
    "Shortcut",
    "build",
    "Constructed",
    "solves",
    "RUNGS",
    "COUNTERFACTUALS",
    "builds",
    "counterfactual",
    "method_card",
    "method_card_table",
]
