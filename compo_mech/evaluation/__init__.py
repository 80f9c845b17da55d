"""What is measured of a network on test strings: accuracy, and attention head by head."""

from compo_mech.evaluation import accuracy, attention
from compo_mech.evaluation.attention import AttentionVerdict, attention_verdict
from compo_mech.evaluation.head_scores import head_measures, layer_measures
from compo_mech.evaluation.sets import EvalSet, eval_sets, train_sets
from compo_mech.evaluation.measure import measure, measure_train, measure_control, run_set, generated
from compo_mech.evaluation.table import Row, CONTROL, TRAIN, select, measured

__all__ = [
    "accuracy",
    "attention",
    "AttentionVerdict",
    "attention_verdict",
    "head_measures",
    "layer_measures",
    "EvalSet",
    "eval_sets",
    "train_sets",
    "measure",
    "measure_train",
    "measure_control",
    "run_set",
    "generated",
    "Row",
    "CONTROL",
    "TRAIN",
    "select",
    "measured",
]
