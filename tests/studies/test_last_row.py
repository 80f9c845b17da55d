"""What signals that a string has ended, as scores of a study, and the count of verdicts."""

import pytest
from helpers import control

from compo_mech.data.tasks import Parity
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.hard_cases import build_hard_case
from compo_mech.runs.config import RunConfig
from compo_mech.stats.intervals import wilson
from compo_mech.studies import measures
from compo_mech.studies.last_row import OF_LENGTHS, SIGNALS, end_scores, end_verdicts
from compo_mech.studies.scores import RunScore
from compo_mech.studies.study import Arm, Study
from compo_mech.studies.table import study_table


def scores_of(built):
    found = end_scores(built.model, built.data, Parity(), seed=0)
    return {(score.measure, score.position): score.value for score in found}


@pytest.mark.parametrize(
    ("built", "signal"),
    [(build(Parity(), max_length=6), "attention"), (build_hard_case("taken back", Parity()), "stream")],
    ids=["textbook", "taken back"],
)
def test_each_measure_says_what_signals_the_end(built, signal):
    found = scores_of(built)
    for measures_of in (SIGNALS, OF_LENGTHS):
        assert {own: found[measure, ""] for own, measure in measures_of.items()} == {
            own: float(own == signal) for own in measures_of
        }
    assert found[measures.END_FOUND, "a state's row"] == (signal == "attention")
    assert found[measures.END_FOUND, "the last row"] == 1


def test_a_control_has_no_scores():
    built = build(Parity(), max_length=6)
    assert not list(end_scores(control(built.model.config, built.data), built.data, Parity(), seed=0))


def table_of(*runs):
    """As a study writes it, of (arm, seed, task, fractions by signal, weight on [EoI]); none: it could not be asked."""
    arms = {arm: Arm(RunConfig()) for arm, *_ in runs}
    study = Study("one", "?", "!", measures.END_BY_ATTENTION, arms, scorer=lambda run: [])
    scores = {}
    for arm, seed, task, fractions, weight in runs:
        own = [RunScore(measures.END_ON_EOI, weight, task), RunScore(measures.END_ON_EOI, 0.0, task, "control")]
        own += [RunScore(SIGNALS[signal], fractions.get(signal, 0.0), task) for signal in SIGNALS if fractions]
        scores[arm, seed] = own
    return study_table(study, sorted({seed for _, seed, *_ in runs}), scores, {})


def test_networks_are_counted_by_what_signals_the_end_in_nine_strings_of_ten():
    table = table_of(
        ("one", 0, "parity", {"stream": 0.95, "attention": 0.05}, 0.1),
        ("one", 1, "parity", {"attention": 0.9, "stream": 0.1}, 0.8),
        ("one", 2, "parity", {"attention": 1.0}, 1.0),
        ("one", 3, "parity", {}, 0.3),
        ("two", 0, "copy", {"attention": 0.89, "either enough": 0.11}, 0.5),
        ("three", 0, "parity", {"stream": 1.0}, 0.0),
    )
    found = end_verdicts(table).set_index(["arm", "task", "end signalled by"])
    assert found["n"].to_dict() == {
        ("one", "parity", "attention"): 2, ("one", "parity", "stream"): 1, ("two", "copy", "mixed"): 1,
        ("three", "parity", "stream"): 1,
    }  # fmt: skip
    row = found.loc[("one", "parity", "attention")]
    assert (row["of"], row["fraction"], row["low"], row["high"]) == (3, *wilson(2, 3))
    assert row["weight on EoI"] == pytest.approx(0.9)


def test_where_no_network_could_be_asked_none_is_counted():
    assert end_verdicts(table_of(("one", 0, "parity", {}, 0.1))).empty
