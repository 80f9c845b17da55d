"""Patches and ablations of edges, heads, attention patterns and the task token."""

from compo_mech.interventions.switches import Switch
from compo_mech.interventions.pairs import Pairs, make_pairs
from compo_mech.interventions import metrics
from compo_mech.interventions.metrics import Metric, METRICS
from compo_mech.interventions.edges import (
    Writer,
    Reader,
    Edge,
    TOK,
    POS,
    LOGITS,
    writers_before,
    embedding_writers,
    readers_of,
    heads_reading,
    all_readers,
    all_edges,
    check_edges,
)
from compo_mech.interventions.streams import Outputs, total_of, Totals
from compo_mech.interventions.graph import (
    Read,
    Runs,
    embeddings,
    run_graph,
    run_layer,
    run_both,
    run_patched,
)
from compo_mech.interventions.row_traces import RowTrace, row_trace
from compo_mech.interventions.traces import Trace, trace, both_traces
from compo_mech.interventions.patching import patched_logits, sweep
from compo_mech.interventions.token_reliance import Reliance, reliance
from compo_mech.interventions.notation import Component, SitePatch, read_edge, read_patches
from compo_mech.interventions.patch_by_text import Patched, patch
from compo_mech.interventions.ablation import Baseline, baseline_outputs, ablation_values, ablated_logits
from compo_mech.interventions.attention_patterns import (
    PatternAblation,
    ablate_patterns,
    PatternAblationCounts,
    PatternTest,
    pattern_ablation_table,
    trace_set,
    work_rows,
)
from compo_mech.interventions.head_ablation import Ablations, Cost, smallest_removal, best_guess
from compo_mech.interventions.head_swaps import Followed
from compo_mech.interventions.head_evidence import head_evidence
from compo_mech.interventions.head_sets import HeadSets, head_sets
from compo_mech.interventions.end_row import EndRow, end_row
from compo_mech.interventions.role_rules import HeadRole
from compo_mech.interventions.role_sentences import Heads
from compo_mech.interventions.head_roles import name_heads, carried_share
from compo_mech.interventions.task_pairs import task_pairs
from compo_mech.interventions.task_token import (
    TaskTokenPatching,
    patch_task_token,
    patch_task_token_both_ways,
    task_sites,
    carried_across,
)

__all__ = [
    "Switch",
    "Pairs",
    "make_pairs",
    "metrics",
    "Metric",
    "METRICS",
    "Writer",
    "Reader",
    "Edge",
    "TOK",
    "POS",
    "LOGITS",
    "writers_before",
    "embedding_writers",
    "readers_of",
    "heads_reading",
    "all_readers",
    "all_edges",
    "check_edges",
    "Outputs",
    "Read",
    "Runs",
    "embeddings",
    "run_graph",
    "run_layer",
    "run_both",
    "run_patched",
    "total_of",
    "Totals",
    "Trace",
    "trace",
    "RowTrace",
    "row_trace",
    "both_traces",
    "patched_logits",
    "sweep",
    "Reliance",
    "reliance",
    "Component",
    "SitePatch",
    "read_edge",
    "read_patches",
    "Patched",
    "patch",
    "Baseline",
    "baseline_outputs",
    "ablation_values",
    "ablated_logits",
    "PatternAblation",
    "ablate_patterns",
    "PatternAblationCounts",
    "PatternTest",
    "pattern_ablation_table",
    "trace_set",
    "work_rows",
    "Ablations",
    "Cost",
    "smallest_removal",
    "best_guess",
    "Followed",
    "head_evidence",
    "HeadSets",
    "EndRow",
    "end_row",
    "head_sets",
    "HeadRole",
    "Heads",
    "name_heads",
    "carried_share",
    "task_pairs",
    "TaskTokenPatching",
    "patch_task_token",
    "patch_task_token_both_ways",
    "task_sites",
    "carried_across",
]
