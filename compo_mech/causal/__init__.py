"""Where a network holds the algorithm's variables: interchange interventions and alignment."""

from compo_mech.causal.rows import Rows, Variable, rows_of, draw_inputs, draw_rows, cells, check_data
from compo_mech.causal.variables import Interchanges, Context, make_interchanges, expected, uses, cell_pairs, has_pairs
from compo_mech.causal.row_patching import continued, swapped, trace_rows, check_row_site
from compo_mech.causal.interchange import (
    InterchangeScore,
    interchange,
    interchange_map,
    interchange_row,
    interchange_table,
    interchange_traces,
    row_sites,
    balanced_accuracy,
)
from compo_mech.causal.das import Alignment, align, split, overlap, centred

__all__ = [
    "Rows",
    "Variable",
    "rows_of",
    "draw_inputs",
    "draw_rows",
    "cells",
    "check_data",
    "Interchanges",
    "Context",
    "make_interchanges",
    "expected",
    "uses",
    "cell_pairs",
    "has_pairs",
    "continued",
    "swapped",
    "trace_rows",
    "check_row_site",
    "InterchangeScore",
    "interchange",
    "interchange_map",
    "interchange_row",
    "interchange_table",
    "interchange_traces",
    "row_sites",
    "balanced_accuracy",
    "Alignment",
    "align",
    "split",
    "overlap",
    "centred",
]
