"""What signals that a string has ended, as scores of a study, and the count of verdicts."""

import pytest
from helpers import control

from compo_mech.data.tasks import Parity
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.hard_cases import build_hard_case
from compo_mech.runs.config import RunConfig
from compo_mech.stats.intervals import wilson
from compo_mech.studies import measures
from compo_mech.studies.last_row import end_scores, end_verdicts
from compo_mech.studies.scores import RunScore
from compo_mech.studies.study import Arm, Study
from compo_mech.studies.table import study_table


def scores_of(built):
    found = end_scores(built.model, built.data, Parity(), seed=0)
    return {(score.measure, score.statistic or score.position): score.value for score in found}


@pytest.mark.parametrize(
    ("built", "signal"),
    [(build(Parity(), max_length=6), "attention"), (build_hard_case("taken back", Parity()), "stream")],
    ids=["textbook", "taken back"],
)
def test_each_measure_says_what_signals_the_end(built, signal):
    found = scores_of(built)
    for measure in (measures.END_OF_LENGTHS, measures.END_VERDICT):
        of_each = {label: value for (own, label), value in found.items() if own is measure}
        assert of_each.pop(signal) == 1
        assert set(of_each.values()) == {0}
    assert found[measures.END_BY_ATTENTION, ""] == (signal == "attention")
    assert found[measures.END_BY_OTHER, "stream"] == (signal == "stream")


def test_a_control_has_no_scores():
    built = build(Parity(), max_length=6)
    assert not list(end_scores(control(built.model.config, built.data), built.data, Parity(), seed=0))


def table_of(*runs):
    """As a study writes it, of (arm, seed, task, verdict, weight on [EoI]); verdict None: it could not be asked."""
    arms = {arm: Arm(RunConfig()) for arm, *_ in runs}
    study = Study("one", "?", "!", measures.END_BY_ATTENTION, arms, scorer=lambda run: [])
    scores = {}
    for arm, seed, task, verdict, weight in runs:
        scores[arm, seed] = [
            RunScore(measures.END_ON_EOI, weight, task),
            RunScore(measures.END_ON_EOI, 0.0, task, "control"),
        ]
        if verdict is not None:
            scores[arm, seed] += [
                RunScore(measures.END_VERDICT, float(own == verdict), task, statistic=own)
                for own in ("attention", "stream", "mixed")
            ]
    return study_table(study, sorted({seed for _, seed, *_ in runs}), scores, {})


def test_verdicts_are_counted_by_task_beside_what_attention_is_like():
    table = table_of(
        ("one", 0, "parity", "stream", 0.1),
        ("one", 1, "parity", "attention", 0.8),
        ("one", 2, "parity", "attention", 1.0),
        ("one", 3, "parity", None, 0.3),
        ("two", 0, "copy", "mixed", 0.5),
    )
    found = end_verdicts(table).set_index(["task", "end signalled by"])
    assert found["n"].to_dict() == {("copy", "mixed"): 1, ("parity", "attention"): 2, ("parity", "stream"): 1}
    row = found.loc[("parity", "attention")]
    assert (row["of"], row["fraction"], row["low"], row["high"]) == (3, *wilson(2, 3))
    assert row["weight on EoI"] == pytest.approx(0.9)


def test_where_no_network_could_be_asked_there_are_no_verdicts():
    table = table_of(("one", 0, "parity", None, 0.1))
    assert "statistic" not in table
    assert end_verdicts(table).empty
