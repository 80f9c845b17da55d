import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from compo_mech.data.tasks import Parity
from compo_mech.launch.run import launch
from compo_mech.launch.settings import Launch
from compo_mech.settings import changed
from compo_mech.studies import measures
from compo_mech.studies.mixtures import (
    JUDGED_BY,
    LENGTH_WEIGHTS,
    OF_BOTH,
    OTHERS,
    POWERS,
    SHARES,
    all_shares,
    beside_none,
    best_power,
    best_shares,
    mixture_arms,
    mixture_scores,
)
from compo_mech.studies.scores import RunScore
from compo_mech.studies.study import Study
from compo_mech.studies.table import study_table

SEEDS = range(6)


def made(peak: float, errors=None) -> pd.DataFrame:
    """A study's table in which parity is learnt best with this share of another task."""
    arms, scores = mixture_arms(), {}
    for name, arm in arms.items():
        for seed in SEEDS:
            good = 1 - abs(float(arm.factors["share"]) - peak)
            good = 2.0 if name.startswith("lengths") else good  # which are no shares
            own = [
                RunScore(measures.TEXTBOOK, float(good > 0.95), "parity"),
                RunScore(measures.ITERATION, good, "parity"),
                RunScore(measures.FIRST_STEP_AT_99, 1000 - 100 * good + seed, "parity"),
                RunScore(measures.ITERATION, 1 - good, "copy"),  # of the other task
                RunScore(measures.ITERATION, 1 - good, "parity", "control"),
            ]
            scores[name, seed] = own
    study = Study("made", "?", "-", measures.TEXTBOOK, arms, lambda run: [], len(SEEDS))
    return study_table(study, SEEDS, {k: v for k, v in scores.items() if k not in (errors or {})}, errors or {})


@pytest.mark.parametrize("peak", [0.0, 0.5, 0.9])
def test_the_best_share_is_found_by_paritys_own_measures(peak):
    found = best_shares(made(peak))
    assert len(found) == len(JUDGED_BY) * len(OTHERS)
    of_all = found[found["mixed in"] != "copy of other values"]
    assert np.allclose(of_all[["best", "low", "high"]], peak)
    assert set(found["n_seeds"]) == {len(SEEDS)}


@pytest.mark.parametrize("best", ["parity alone", "lengths in inverse proportion", "lengths in proportion to length"])
def test_the_best_power_of_the_length_is_found(best):
    table = made(0.9)
    later = table["measure"] == measures.FIRST_STEP_AT_99.name
    table["value"] = np.where(table["arm"] == best, np.where(later, 1.0, 9.0), np.where(later, 9.0, 1.0))
    table.loc[table["measure"] == measures.TEXTBOOK.name, "value"] = (table["arm"] == best).astype(float)
    found = best_power(table)
    power = {"parity alone": 0, "lengths in inverse proportion": -1, "lengths in proportion to length": 1}[best]
    assert found["measure"].tolist() == [measure.name for measure in JUDGED_BY]
    assert (found[["best", "low", "high"]] == power).all(axis=None)
    for name, exponent in POWERS.items():
        if exponent:
            weights = np.array(LENGTH_WEIGHTS[name])
            assert np.allclose(weights / weights[0], np.arange(1, 9) ** exponent)


def test_shares_are_judged_beside_the_same_vocabulary_without_rows():
    table = made(0.9)
    table.loc[(table["arm"] == "parity alone") & (table["measure"] == "textbook"), "value"] = 1.0  # which counts not
    found = beside_none(table)
    assert set(found["task"]) == {"parity"}
    by_arm = found.set_index("arm")
    assert by_arm["difference"]["90% copy"] == 1.0
    assert by_arm["difference"]["75% copy"] == 0.0
    references = by_arm.index[by_arm["verdict"].isna()]
    assert list(references) == [f"0% {name}" for name in OTHERS]


def test_shares_together_are_a_mean_over_shares_and_tasks_within_a_seed():
    found = all_shares(made(0.9)).set_index(["mixed in", "measure"])
    by_hand = sum(1 - abs(share - 0.9) for share in SHARES[1:]) / len(SHARES[1:]) - 0.1
    assert found["difference"]["copy", "iteration"] == pytest.approx(by_hand)
    assert found["difference"]["copy of other values", "iteration"] == pytest.approx(0.6 - 0.1)
    assert found["difference"]["all of these", "iteration"] == pytest.approx((2 * by_hand + 0.5) / 3)
    assert found["difference"]["polynomial", "textbook"] == pytest.approx(1 / len(SHARES[1:]))
    one_failed = all_shares(made(0.9, {("75% copy", 0): "diverged"})).set_index(["mixed in", "measure"])["n_seeds"]
    assert one_failed["copy", "iteration"] == one_failed["all of these", "iteration"] == len(SEEDS) - 1
    assert one_failed["polynomial", "iteration"] == len(SEEDS)


def test_runs_that_failed_count_as_never_learnt():
    errors = {("75% copy", seed): "diverged" for seed in SEEDS}
    found = best_shares(made(0.75, errors)).set_index(["mixed in", "measure"])["best"]
    for measure in (measures.FIRST_STEP_AT_99, measures.ITERATION):
        assert found["polynomial", measure.name] == 0.75
        assert found["copy", measure.name] == 0.9
    once = {("75% copy", 0): "diverged"}
    found = best_shares(made(0.75, once)).set_index(["mixed in", "measure"])
    assert found["best"]["copy", measures.FIRST_STEP_AT_99.name] == 0.75
    assert found["n_seeds"]["copy", measures.FIRST_STEP_AT_99.name] == len(SEEDS)
    assert found["n_seeds"]["copy", measures.ITERATION.name] == len(SEEDS) - 1  # of a mean it is left out


def test_where_no_seed_has_all_shares_no_best_one_is_told():
    errors = {
        (f"{share} copy", seed): "diverged"
        for share, seeds in (("10%", (0, 1, 2)), ("90%", (3, 4, 5)))
        for seed in seeds
    }
    found = best_shares(made(0.5, errors)).set_index(["mixed in", "measure"])
    assert ("copy", measures.ITERATION.name) not in found.index
    assert found["best"]["copy", measures.FIRST_STEP_AT_99.name] == 0.5


def test_shares_are_of_rows_and_every_other_length_weight_is_of_parity_alone():
    for name, arm in mixture_arms().items():
        weights = dict(zip(map(str, arm.config.data.tasks), arm.config.data.task_weights or (1.0,), strict=True))
        assert weights[str(Parity())] == pytest.approx(1 - float(arm.factors["share"]))
        assert arm.config.data.measured_tasks[0] == Parity()
        assert (len(arm.config.data.measured_tasks) == 1) == (arm.factors["share"] == 0)
        assert (len(weights) == 1) == (arm.factors["mixed in"] == "nothing")
        if name.startswith("lengths"):
            assert len(arm.config.data.length_weights or ()) == 8


def test_what_two_tasks_share_is_asked_where_both_have_as_many_rows(tmp_path):
    def scores_of(share: float, other: str) -> list[RunScore]:
        small = {"train.n_steps": 2, "train.snapshot_every": 2, "n_test_strings": 8}
        small |= {"model.d_model": 8, "data.max_length": 4}
        config = changed(mixture_arms()[f"{share:.0%} {other}"].config, small)
        settings = {name: getattr(config, name) for name in type(config).model_fields}
        name = f"{share:.0%}-{other.replace(' ', '-')}"
        return mixture_scores(launch(Launch(**settings, name=name, runs_dir=tmp_path), Console(quiet=True)))

    always = OF_BOTH - {measures.X_ACROSS_TASKS}  # which takes rows that are answered right
    assert not {score.measure for score in scores_of(0.25, "copy")} & OF_BOTH
    assert {score.measure for score in scores_of(0.5, "copy")} >= always
    of_other_values = {score.measure for score in scores_of(0.5, "copy of other values")}
    assert of_other_values & always == always - {measures.TASK_TOKEN_PATCHING}  # no row is valid in both
