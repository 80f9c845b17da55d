"""Runs: their settings, and the folders that hold them.

What reads and writes tables is loaded when it is first asked for: pandas takes half a second.
"""

from typing import TYPE_CHECKING

from compo_mech import lazily
from compo_mech.runs.config import RunConfig
from compo_mech.runs import recipes
from compo_mech.runs.recipes import RECIPES, RecipeName
from compo_mech.runs.checkpoints import Checkpoints, RunError
from compo_mech.runs.start import starting_params
from compo_mech.runs.names import distinct, once, opened
from compo_mech.runs.locks import locked, record_failure, forget_failure, recorded_failure
from compo_mech.runs.environment import environment, git_state
from compo_mech.runs.source import source_checksum

if TYPE_CHECKING:
    from compo_mech.runs.run import Run
    from compo_mech.runs.stack import Stack, StackRow
    from compo_mech.runs.stacked_run import AnyRun, StackedRun, open_run, stack_table
    from compo_mech.runs.analysis_folder import analysis_name
    from compo_mech.runs.trajectory import Quantity, Measured, NetworkMeasure, as_table, follow
    from compo_mech.runs.outcome import run_sentence, length_table, run_summary

_LATER = {
    "run": ("Run",),
    "stack": ("Stack", "StackRow"),
    "stacked_run": ("AnyRun", "StackedRun", "open_run", "stack_table"),
    "analysis_folder": ("analysis_name",),
    "trajectory": ("Quantity", "Measured", "NetworkMeasure", "as_table", "follow"),
    "outcome": ("run_sentence", "length_table", "run_summary"),
}
__getattr__ = lazily(__name__, {name: module for module, names in _LATER.items() for name in names})

__all__ = [
    "RunConfig",
    "recipes",
    "RECIPES",
    "RecipeName",
    "Checkpoints",
    "RunError",
    "Run",
    "Stack",
    "StackRow",
    "StackedRun",
    "AnyRun",
    "open_run",
    "stack_table",
    "starting_params",
    "analysis_name",
    "distinct",
    "once",
    "opened",
    "locked",
    "record_failure",
    "forget_failure",
    "recorded_failure",
    "environment",
    "git_state",
    "source_checksum",
    "Quantity",
    "Measured",
    "NetworkMeasure",
    "as_table",
    "follow",
    "run_sentence",
    "length_table",
    "run_summary",
]
