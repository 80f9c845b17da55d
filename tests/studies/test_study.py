import math
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Copy, Parity, Polynomial
from compo_mech.evaluation.sets import eval_sets
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.launch.sweep import How
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model, init_params
from compo_mech.runs import recipes
from compo_mech.settings import changed
from compo_mech.stats.over_seeds import FRACTIONS, TIMES_TO_EVENT, over_seeds
from compo_mech.studies import exponents
from compo_mech.studies.measures import at_work, right_by_row, run_scores
from compo_mech.studies.run import main, run_study
from compo_mech.studies.study import Arm, Study
from compo_mech.studies.summary import summary

ROOT = Path(__file__).parents[2]
STUDIES = ("ablations", "baselines", "capacity", "curriculum", "grokking", "groups", "mix", "odd_spot", "positions",
           "scaling", "state_rule", "transfer")  # fmt: skip
QUIET = Console(quiet=True)
SMALL = changed(
    recipes.parity_alone(),
    {"train.n_steps": 4, "train.snapshot_every": 2, "data.max_length": 4, "model.d_model": 8, "n_test_strings": 8},
)
WILD = changed(SMALL, {"optim.optimizer": "sgd", "optim.lr": 1e12, "optim.n_warmup_steps": 0})


def study_of(name: str) -> Study:
    return runpy.run_path(str(ROOT / "experiments" / f"{name}.py"))["STUDY"]


def made(arms, primary="accuracy", reference=None) -> Study:
    return Study("made", "what?", "this", primary, arms, run_scores, 2, reference)


def test_a_study_trains_what_others_start_from_first_and_records_what_failed(tmp_path):
    arms = {
        "second": Arm(SMALL, start="first", factors={"start": "first"}),
        "first": Arm(SMALL, factors={"start": "fresh"}),
        "wild": Arm(WILD, factors={"start": "fresh"}),
        "after wild": Arm(SMALL, start="wild", factors={"start": "wild"}),
    }
    table = run_study(made(arms), [0, 1], How(runs_dir=tmp_path, on="here"), QUIET)
    assert list(dict.fromkeys(table["arm"])) == list(arms)
    assert set(table.columns) == {"study", "arm", "start", "seed", "task", "measure", "value"}
    failed = table[table["measure"] == "failed"]
    assert failed[["arm", "seed"]].values.tolist() == [["wild", 0], ["wild", 1], ["after wild", 0], ["after wild", 1]]
    assert failed["task"].iloc[0].startswith("Diverged")
    assert str(tmp_path) not in failed["task"].iloc[0]
    assert failed["task"].iloc[2] == "its start failed: wild, seed 0"
    per_run = table[table["measure"] == "accuracy"].groupby(["arm", "seed"]).size()
    assert per_run.to_dict() == {("first", 0): 1, ("first", 1): 1, ("second", 0): 1, ("second", 1): 1}


def test_arms_that_start_from_nothing_are_refused(tmp_path):
    with pytest.raises(ValueError, match="start from no other arm"):
        run_study(made({"one": Arm(SMALL, start="none")}), [0], How(runs_dir=tmp_path), QUIET)


def test_over_seeds_by_hand():
    assert over_seeds("accuracy", [0.5, 0.7, 0.9]) == pytest.approx((0.7, 0.7 - 0.49682, 0.7 + 0.49682), abs=1e-4)
    mean, low, high = over_seeds("solved", [1.0] * 5)
    assert mean == high == 1
    assert low == pytest.approx(0.5655, abs=1e-3)  # Wilson, 5 of 5
    assert over_seeds("first step at 99%", [300.0, math.inf, 100.0, 200.0, math.inf]) == (300, 100, math.inf)
    assert over_seeds("first step at 99%", [300.0, 100.0, 200.0, 500.0, 400.0]) == (300, 100, 500)
    assert over_seeds("first step at 99%", [float(n) for n in range(1, 11)]) == (5, 2, 9)  # Hollander & Wolfe: 97.9%
    assert over_seeds("first step at 99%", [math.inf] * 5)[0] == math.inf
    assert math.isnan(over_seeds("accuracy", [0.5])[1])


def test_a_summary_pairs_seeds():
    values = {"a": (0.1, 0.5, 0.9), "b": (0.2, 0.6, 1.0)}
    rows = [("made", a, seed, "parity", "accuracy", value) for a in values for seed, value in enumerate(values[a])]
    table = pd.DataFrame(rows, columns=["study", "arm", "seed", "task", "measure", "value"])
    found = summary(table, made({"a": Arm(SMALL), "b": Arm(SMALL)}, reference="a")).set_index("arm")
    assert found.loc["b", ["difference", "d_low", "d_high"]].tolist() == pytest.approx([0.1, 0.1, 0.1])
    assert found.loc["a", "high"] - found.loc["a", "low"] > 1  # which seeds as such would leave undecided
    assert math.isnan(found.loc["a", "difference"])


def test_a_summary_counts_what_never_came_and_what_failed():
    waits = {"a": (100.0, 100.0, 100.0), "b": (90.0, math.inf, math.inf)}
    rows = [
        ("made", a, seed, "parity", "first step at 99%", value) for a in waits for seed, value in enumerate(waits[a])
    ]
    rows += [("made", arm, 3, "why", "failed", 1.0) for arm in ("a", "c")]
    table = pd.DataFrame(rows, columns=["study", "arm", "seed", "task", "measure", "value"])
    study = made({"a": Arm(SMALL), "b": Arm(SMALL), "c": Arm(SMALL)}, "first step at 99%", "a")
    found = summary(table, study).set_index("arm")
    assert found["n"].tolist() == [4, 3, 1]
    assert found["n_failed"].tolist() == [1, 0, 1]
    assert found["first step at 99%"].tolist() == [100, math.inf, math.inf]
    assert found.loc["b", ["difference", "d_low", "d_high"]].tolist() == [math.inf, -10, math.inf]
    assert found.loc["c", "difference"] == 0  # both of seed 3 failed
    solved = summary(table, made({"a": Arm(SMALL), "b": Arm(SMALL), "c": Arm(SMALL)}, "solved")).set_index("arm")
    assert solved.loc["c", ["n", "solved"]].tolist() == [1, 0]


def test_an_infinite_count_of_heads_is_a_median():
    assert over_seeds("heads to remove", [1.0, math.inf, 1.0])[0] == 1
    assert over_seeds("an iteration head", [1.0] * 5)[1] == pytest.approx(0.5655, abs=1e-3)


def test_arms_of_one_folder_are_refused(tmp_path):
    study = made({"a b": Arm(SMALL), "a-b": Arm(changed(SMALL, {"model.d_model": 16}))})
    with pytest.raises(ValueError, match="goes into the folder of another arm, a-b-seed0"):
        run_study(study, [0], How(runs_dir=tmp_path), QUIET)


def test_quick_and_whole_do_not_meet(tmp_path, capsys):
    study = made({"one": Arm(SMALL)})
    for argv in (["--quick"], []):
        main(study, argv=["--runs-dir", str(tmp_path), "--n-seeds", "1", "--on", "here", *argv])
    assert {path.parent.name for path in tmp_path.rglob("made.csv")} == {"quick", tmp_path.name}


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_says_what_it_expects_and_has_arms_of_their_own(name):
    study = study_of(name)
    assert study.name == name
    assert study.n_seeds >= 5
    assert all((study.question, study.hypothesis))
    assert study.reference is None or study.reference in study.arms
    settings = [(arm.start, arm.config.model_dump_json()) for arm in study.arms.values()]
    assert len(set(settings)) == len(settings)
    assert len({tuple(arm.factors) for arm in study.arms.values()}) == 1
    starts = {arm.start for arm in study.arms.values()} - {None}
    assert starts <= set(study.arms)
    quick = study.quick()
    assert all(arm.config.train.n_steps == 20 for arm in quick.arms.values())
    text = (ROOT / "experiments" / f"{name}.py").read_text()
    assert f"python experiments/{name}.py" in text
    assert len(text.splitlines()) <= 80


def test_there_is_no_study_besides():
    named = {path.stem for path in (ROOT / "experiments").glob("*.py") if "STUDY = " in path.read_text()}
    assert named == set(STUDIES)


def test_a_script_writes_its_table_and_tells(tmp_path, capsys):
    arms = {"one": Arm(SMALL), "two": Arm(changed(SMALL, {"model.d_model": 16}))}
    study = made(arms, reference="one")
    argv = ["--runs-dir", str(tmp_path), "--n-seeds", "2", "--on", "here"]
    main(study, argv=argv)
    told = capsys.readouterr().out
    assert "Hypothesis: this" in told
    assert told.index("Primary measure: accuracy, over 2 seeds of 2 arms") < told.index("difference")
    table = pd.read_csv(tmp_path / "made.csv")
    assert set(table["arm"]) == {"one", "two"}
    main(study, argv=argv)  # trains nothing
    assert pd.read_csv(tmp_path / "made.csv").equals(table)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--out", "table.txt"], "out = table.txt: must end in .csv"),
        (["--out", "/nowhere/table.csv"], "must be in a folder that exists"),
        (["--n-seeds", "0"], "n_seeds = 0"),
        (["--on", "moon"], "on = moon: must be one of"),
        (["--wings", "2"], "--wings, 2: there is no such setting"),
    ],
)
def test_bad_input_is_one_line(tmp_path, argv, words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(made({"one": Arm(SMALL)}), argv=["--runs-dir", str(tmp_path / "runs"), *argv])
    assert stop.value.code == 2
    complaint = capsys.readouterr().err
    assert words in complaint.replace("'", "")
    assert complaint.count("\n") == 1
    assert not (tmp_path / "runs").exists()


# ---------------------------------------------------------------------------------- measures


@pytest.mark.parametrize("task", [Parity(), Polynomial(modulus=5)])
def test_hand_built_heads_are_at_work(task):
    built = build(task)
    found = at_work(built.model, built.data, task, seed=0)
    assert found["largest share of x"] == found["x together"] == found["share of the end"] == 1
    assert found["heads that carry x"] == found["heads to remove"] == found["an iteration head"] == 1
    config = built.model.config
    params = init_params(config, len(built.data.vocabulary), 20, torch.Generator().manual_seed(0))
    other = at_work(Model(params, config), built.data, task, seed=0)
    assert other["largest share of x"] < 0.3
    assert other["an iteration head"] == 0


def test_two_heads_that_share_the_work_are_two():
    built = build(Parity(), rungs=BuildOptions(split=True))
    found = at_work(built.model, built.data, Parity(), seed=0)
    assert found["heads that carry x"] == 2
    assert found["x together"] == 1
    assert found["largest share of x"] < 1


def test_rows_of_a_hand_built_circuit_need_what_they_need():
    built = build(Parity())
    found = right_by_row(built.model, eval_sets(built.data, 64))
    assert {value for name, value in found.items() if "without" not in name} == {1.0}
    for row in ("first", "middle", "last"):
        for part in ("L1H0", "mlp1", *(("L0H0", "mlp0") if row != "first" else ())):
            assert found[f"right at {row} without {part}"] < 0.8, (row, part)  # one bit, unknown


def test_rows_of_strings_of_one_have_no_middle():
    data = DataConfig(tasks=(Copy(),), min_length=1, max_length=1)
    config = ModelConfig(d_model=8)
    params = init_params(config, len(data.vocabulary), 5, torch.Generator().manual_seed(0))
    found = right_by_row(Model(params, config), eval_sets(data, 8))
    assert not any("middle" in name for name in found)
    assert {"right at first", "right at last without L0H0", "right at end"} <= set(found)


# ----------------------------------------------------------------------------------- scaling


def planted(noise: float, seed: int, last_step: float = math.inf) -> pd.DataFrame:
    """Steps = 50 length^1.5 d_model^-0.5, unclean = length^0.5 / d_model / 2; waits beyond the last step do not end."""
    generator, rows = np.random.default_rng(seed), []
    for length in (4, 8, 12, 16):
        for d_model in (8, 32, 128):
            for n in range(5):
                wobble = np.exp(noise * generator.standard_normal(2))
                steps = 50 * length**1.5 * d_model**-0.5 * wobble[0]
                scores = {"solved": 1.0, "iteration": 1 - 0.5 * length**0.5 / d_model * wobble[1]}
                scores |= dict.fromkeys(exponents.LEVELS, steps if steps <= last_step else math.inf)
                rows += [("scaling", length, d_model, n, "parity", name, value) for name, value in scores.items()]
    return pd.DataFrame(rows, columns=["study", "length", "d_model", "seed", "task", "measure", "value"])


def test_exponents_that_were_planted_are_found():
    found = exponents.exponents(planted(1e-3, 0)).set_index("measure")
    for level in exponents.LEVELS:
        assert found.loc[level, ["length", "d_model"]].tolist() == pytest.approx([1.5, -0.5], abs=0.01)
    assert found.loc["unclean", ["length", "d_model"]].tolist() == pytest.approx([0.5, -1.0], abs=0.01)
    assert found["n_runs"].tolist() == [60, 60, 60]
    assert found["n_censored"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("last_step", [math.inf, 600.0])
def test_intervals_of_exponents_hold_the_truth_though_waits_are_cut(monkeypatch, last_step):
    monkeypatch.setattr(exponents, "LAST_STEP", last_step)
    held, means = [], []
    for seed in range(80):
        row = exponents.exponents(planted(0.4, seed, last_step)).iloc[0]
        held += [row["length_low"] <= 1.5 <= row["length_high"], row["d_model_low"] <= -0.5 <= row["d_model_high"]]
        means.append(row["length"])
        assert (row["n_censored"] > 5) == (last_step < math.inf)
    assert np.mean(held) >= 0.91  # of 160, at 0.95 each
    assert np.mean(means) == pytest.approx(1.5, abs=0.05)


def test_where_nothing_came_there_are_no_exponents():
    found = exponents.exponents(planted(0.1, 0, last_step=0.0))
    assert found["n_censored"].tolist() == [60, 60, 0]
    assert math.isnan(found["length"].iloc[0])
    failed = pd.DataFrame(
        {"length": [4], "d_model": [8], "seed": [0], "task": ["why"], "measure": ["failed"], "value": [1.0]}
    )
    assert exponents.exponents(failed)["n_runs"].tolist() == [0, 0, 0]


def test_kinds_of_measures_are_apart():
    assert not set(FRACTIONS) & set(TIMES_TO_EVENT)


# -------------------------------------------------------------------------------------- slow


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_every_study_runs_quickly(name, tmp_path):
    study = study_of(name).quick()
    table = run_study(study, [0], How(runs_dir=tmp_path, on="here"), QUIET)
    assert not (table["measure"] == "failed").any(), table[table["measure"] == "failed"]["task"].iloc[0]
    assert study.primary in set(table["measure"])
    assert len(summary(table, study)) >= len(study.arms)
