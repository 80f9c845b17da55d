"""What tells that a string has ended, as scores of a study, and the count of verdicts."""

import pandas as pd
import pytest
from helpers import control

from compo_mech.data.tasks import Parity
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.hard_cases import build_hard_case
from compo_mech.stats.intervals import wilson
from compo_mech.studies import measures
from compo_mech.studies.last_row import end_scores, end_verdicts
from compo_mech.studies.scores import RunScore


def scores_of(built):
    found = end_scores(built.model, built.data, Parity(), seed=0)
    return {(score.measure, score.statistic or score.position): score.value for score in found}


@pytest.mark.parametrize(
    ("built", "teller"),
    [(build(Parity(), max_length=6), "attention"), (build_hard_case("taken back", Parity()), "stream")],
    ids=["textbook", "taken back"],
)
def test_each_measure_says_what_tells(built, teller):
    found = scores_of(built)
    for measure in (measures.END_TOLD_BY, measures.END_OF_LENGTHS, measures.END_VERDICT):
        of_each = {label: value for (own, label), value in found.items() if own is measure}
        assert of_each.pop(teller) == 1
        assert set(of_each.values()) == {0}
    assert found[measures.END_BY_ATTENTION, ""] == (teller == "attention")


def test_a_control_has_no_scores():
    built = build(Parity(), max_length=6)
    assert not list(end_scores(control(built.model.config, built.data), built.data, Parity(), seed=0))


def test_verdicts_are_counted_by_task_beside_what_attention_is_like():
    rows = []
    for task, seed, verdict, weight in (
        ("parity", 0, "stream", 0.1),
        ("parity", 1, "attention", 0.8),
        ("parity", 2, "attention", 1.0),
        ("copy", 0, "mixed", 0.5),
    ):
        scores = [RunScore(measures.END_VERDICT, float(own == verdict), task, statistic=own)
                  for own in ("attention", "stream", "mixed")]  # fmt: skip
        scores += [RunScore(measures.END_ON_EOI, weight, task), RunScore(measures.END_ON_EOI, 0.0, task, "control")]
        rows += [{"study": "one", "arm": task, "seed": seed} | score.columns() for score in scores]
    table = end_verdicts(pd.DataFrame(rows)).set_index(["task", "end told by"])
    assert table["n"].to_dict() == {("copy", "mixed"): 1, ("parity", "attention"): 2, ("parity", "stream"): 1}
    row = table.loc[("parity", "attention")]
    assert (row["of"], row["fraction"], row["low"], row["high"]) == (3, *wilson(2, 3))
    assert row["weight on EoI"] == pytest.approx(0.9)
