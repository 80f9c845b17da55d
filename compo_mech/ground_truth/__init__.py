"""Networks whose circuit is known, built by hand, compiled or trained in, and the grades of methods on them."""

from compo_mech.ground_truth.options import BuildOptions
from compo_mech.ground_truth.builder import Sketch, Neuron
from compo_mech.ground_truth.steps import Steps
from compo_mech.ground_truth.iteration_head import IterationHead, missable_pairs
from compo_mech.ground_truth.shortcut import SHORTCUT_TASKS, Shortcut
from compo_mech.ground_truth.build import build, Constructed, constructed, solves
from compo_mech.ground_truth.hard_positions import Counted, HalfLookups, IdleLayer, Sinusoidal
from compo_mech.ground_truth.hard_carriers import Cancelling, InertDiagonal, SelfRepair, TwoOfThree
from compo_mech.ground_truth.hard_updates import PrefixCounts, PrefixSums, TableOfStrings, TakenBack
from compo_mech.ground_truth.hard_cases import BRINGS, HARD_CASES, build_hard_case
from compo_mech.ground_truth.directions import written, read_by, connected
from compo_mech.ground_truth.tracr import TracrProgram, read_tracr, tracr_programs, true_edges
from compo_mech.ground_truth.causal_graph import CausalGraph, Node
from compo_mech.ground_truth.given_circuits import CIRCUITS, moved_and_split, neighbour, prefix_sums, textbook
from compo_mech.ground_truth.interchange import Interchanged, draw_chosen, interchange_loss, interchanged
from compo_mech.ground_truth.verification import Verification, verify
from compo_mech.ground_truth.interchange_training import train_in
from compo_mech.ground_truth.trained_in import Recipe, TrainedIn, read_trained_in, recipes, trained_in_networks
from compo_mech.ground_truth.tracr_pairs import program_pairs
from compo_mech.ground_truth.families import RUNGS, Subject, subjects
from compo_mech.ground_truth.method_card import (
    COUNTERFACTUALS,
    counterfactual,
    method_card,
    method_card_table,
    by_family,
)

__all__ = [
    "BuildOptions",
    "Sketch",
    "Neuron",
    "Steps",
    "IterationHead",
    "missable_pairs",
    "SHORTCUT_TASKS",
    "Shortcut",
    "build",
    "Constructed",
    "constructed",
    "solves",
    "HalfLookups",
    "Counted",
    "Sinusoidal",
    "IdleLayer",
    "Cancelling",
    "TwoOfThree",
    "SelfRepair",
    "InertDiagonal",
    "TakenBack",
    "TableOfStrings",
    "PrefixCounts",
    "PrefixSums",
    "BRINGS",
    "HARD_CASES",
    "build_hard_case",
    "written",
    "read_by",
    "connected",
    "TracrProgram",
    "read_tracr",
    "read_trained_in",
    "tracr_programs",
    "true_edges",
    "CausalGraph",
    "Node",
    "CIRCUITS",
    "textbook",
    "moved_and_split",
    "neighbour",
    "prefix_sums",
    "Interchanged",
    "draw_chosen",
    "interchanged",
    "interchange_loss",
    "Verification",
    "verify",
    "train_in",
    "Recipe",
    "TrainedIn",
    "recipes",
    "trained_in_networks",
    "program_pairs",
    "RUNGS",
    "Subject",
    "subjects",
    "COUNTERFACTUALS",
    "counterfactual",
    "method_card",
    "method_card_table",
    "by_family",
]
