import math
import runpy
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import control
from rich.console import Console

from compo_mech.analyses import state_update
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Copy, Parity, Polynomial
from compo_mech.evaluation.sets import eval_sets
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.launch import group_size
from compo_mech.launch.how import How
from compo_mech.launch.sweep import sweep
from compo_mech.model.config import ModelConfig
from compo_mech.probing import sites
from compo_mech.probing.probes import linear_probe
from compo_mech.runs import recipes
from compo_mech.runs.stacked_run import open_run
from compo_mech.settings import changed
from compo_mech.stats.over_seeds import SeedSummary, over_seeds
from compo_mech.studies import exponents, measures, self_training
from compo_mech.studies import run as study_runs
from compo_mech.studies.circuit_scores import head_role_scores
from compo_mech.studies.run import main, run_study
from compo_mech.studies.run_scores import cleanliness_scores, run_scores
from compo_mech.studies.scores import RunScore
from compo_mech.studies.special_rows import row_scores
from compo_mech.studies.study import Arm, Study
from compo_mech.studies.summary import summary
from compo_mech.studies.table import failed_runs, study_table

ROOT = Path(__file__).parents[2]
STUDIES = ("ablations", "assignment", "baselines", "capacity", "curriculum", "grokking", "groups", "last_row",
           "learning_order", "length_generalisation", "longer_training", "mix", "mixtures", "no_pointer", "odd_spot",
           "optimizers", "polynomial_grid", "position_dims", "positions", "reuse", "scaling",
           "state_rule", "symmetry", "transfer")  # fmt: skip
QUIET = Console(quiet=True)
SMALL = changed(
    recipes.parity_alone(),
    {"train.n_steps": 4, "train.snapshot_every": 2, "data.max_length": 4, "model.d_model": 8, "n_test_strings": 8},
)
WILD = changed(SMALL, {"optim.optimizer": "sgd", "optim.lr": 1e12, "optim.n_warmup_steps": 0})


@pytest.fixture(autouse=True, scope="module")
def quicker():
    """What others test: which group of seeds is fastest is not timed, and permutations are a tenth as many,
    and a round of self-training is short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group_size, "best_group", lambda config, n, device: 2)
        log_rank = import_module("compo_mech.stats.log_rank")  # the package has its function under this name
        patch.setattr(log_rank, "N_PERMUTATIONS", 9_999)
        patch.setattr(self_training, "N_STEPS", 2)
        patch.setattr(self_training, "N_STRINGS", 8)
        yield


@cache
def study_of(name: str) -> Study:
    return runpy.run_path(str(ROOT / "experiments" / f"{name}.py"))["STUDY"]


def made(arms, primary=measures.ACCURACY, reference=None) -> Study:
    return Study("made", "what?", "this", primary, arms, run_scores, 2, reference)


def test_a_study_trains_what_others_start_from_first_and_records_what_failed(tmp_path):
    arms = {
        "second": Arm(SMALL, start="first", factors={"start": "first"}),
        "first": Arm(SMALL, factors={"start": "random"}),
        "wild": Arm(WILD, factors={"start": "random"}),
        "after wild": Arm(SMALL, start="wild", factors={"start": "wild"}),
    }
    table = run_study(made(arms), [0, 1], How(runs_dir=tmp_path, on="here"), QUIET)
    assert list(dict.fromkeys(table["arm"])) == list(arms)
    columns = ["study", "arm", "start", "seed", "task", "measure", "network", "value", "error"]
    assert table.columns.tolist() == columns
    failed = failed_runs(table)
    assert failed[["task", "measure", "network", "value"]].isna().all(axis=None)
    assert failed[["arm", "seed"]].values.tolist() == [["wild", 0], ["wild", 1], ["after wild", 0], ["after wild", 1]]
    assert failed["error"].iloc[0].startswith("Diverged")
    assert str(tmp_path) not in failed["error"].iloc[0]
    assert failed["error"].iloc[2] == "its start failed: wild, seed 0"
    per_run = table[table["measure"] == "accuracy"].groupby(["arm", "seed"]).size()
    assert per_run.to_dict() == {("first", 0): 1, ("first", 1): 1, ("second", 0): 1, ("second", 1): 1}


def test_arms_that_start_from_nothing_are_refused(tmp_path):
    with pytest.raises(ValueError, match="start from no other arm"):
        run_study(made({"one": Arm(SMALL, start="none")}), [0], How(runs_dir=tmp_path), QUIET)


MEAN, FRACTION, TIME = SeedSummary.MEAN, SeedSummary.FRACTION, SeedSummary.TIME_TO_EVENT


def test_over_seeds_by_hand():
    assert over_seeds(MEAN, [0.5, 0.7, 0.9]) == pytest.approx((0.7, 0.7 - 0.49682, 0.7 + 0.49682), abs=1e-4)
    mean, low, high = over_seeds(FRACTION, [1.0] * 5)
    assert mean == high == 1
    assert low == pytest.approx(0.5655, abs=1e-3)  # Wilson, 5 of 5
    assert over_seeds(TIME, [300.0, math.inf, 100.0, 200.0, math.inf]) == (300, 100, math.inf)
    assert over_seeds(TIME, [300.0, 100.0, 200.0, 500.0, 400.0]) == (300, 100, 500)
    assert over_seeds(TIME, [float(n) for n in range(1, 11)]) == (5, 2, 9)  # Hollander & Wolfe: 97.9%
    assert over_seeds(TIME, [math.inf] * 5).mean == math.inf
    assert math.isnan(over_seeds(MEAN, [0.5]).low)
    assert over_seeds(MEAN, [1.0, math.inf, 1.0]).mean == 1  # an infinite count of heads makes it a median
    assert over_seeds(MEAN, [1.0, -math.inf, 2.0]).mean == 1


@pytest.mark.parametrize("kind", SeedSummary)
def test_what_cannot_be_ranked_is_refused(kind):
    for values, message in (([], "values = none: must be at least one"), ([math.nan, 1.0], "values = nan: must be nu")):
        with pytest.raises(ValueError, match=message):
            over_seeds(kind, values)
    if kind is FRACTION:
        with pytest.raises(ValueError, match=r"values = 0\.9: must be 0 or 1"):
            over_seeds(kind, [1.0, 0.9])


def table_of(arms, scores, errors=()) -> pd.DataFrame:
    """A study's table, of values by measure, arm and seed and of errors by arm and seed."""
    given: dict[tuple[str, int], list[RunScore]] = {}
    for measure, by_arm in scores.items():
        for arm, values in by_arm.items():
            for seed, value in enumerate(values):
                given.setdefault((arm, seed), []).append(RunScore(measure, value, "parity"))
    return study_table(made(arms), range(max([4, *(seed + 1 for _, seed in given)])), given, dict(errors))


def test_a_summary_pairs_seeds():
    arms = {"a": Arm(SMALL), "b": Arm(SMALL)}
    table = table_of(arms, {measures.ACCURACY: {"a": (0.1, 0.5, 0.9), "b": (0.2, 0.6, 1.0)}})
    found = summary(table, made(arms, reference="a")).set_index("arm")
    assert found.loc["b", ["difference", "d_low", "d_high"]].tolist() == pytest.approx([0.1, 0.1, 0.1])
    assert 0 < found.loc["a", "low"] < 0.1 < 0.9 < found.loc["a", "high"] < 1  # seeds as such leave it undecided
    assert math.isnan(found.loc["a", "difference"])


def test_a_summary_compares_pairs_of_different_tasks():
    arms = {name: Arm(SMALL) for name in "abcd"}
    study = replace(made(arms), pairs={"b": "a", "d": "c", "a": "absent"})
    tasks, scores = {"a": "parity", "b": "copy", "c": "parity", "d": "copy"}, {}
    for arm, level in (("a", 0.2), ("b", 0.8), ("c", 0.5), ("d", 0.5)):
        for seed in range(6):
            scores[arm, seed] = [RunScore(measures.ACCURACY, level + 0.01 * (seed % 3), tasks[arm])]
    found = summary(study_table(study, range(6), scores, {}), study).set_index("arm")
    assert found["difference"].dropna().to_dict() == pytest.approx({"b": 0.6, "d": 0.0})
    assert found["verdict"].dropna().to_dict() == {"b": "better", "d": "equal"}


def test_a_summary_counts_censored_and_failed_runs():
    arms = {name: Arm(changed(SMALL, {"train.n_steps": 200})) for name in "abc"}
    times = {"a": (100.0, 100.0, 100.0), "b": (90.0, math.inf, math.inf)}
    table = table_of(arms, {measures.FIRST_STEP_AT_99: times}, {(arm, 3): "why" for arm in ("a", "c")})
    found = summary(table, made(arms, measures.FIRST_STEP_AT_99, "a")).set_index("arm")
    assert found["n"].tolist() == [4, 3, 1]
    assert found["n_failed"].tolist() == [1, 0, 1]
    assert found["first step at 99%"].tolist() == [100, math.inf, math.inf]
    assert found.loc["b", ["difference", "d_low", "d_high"]].tolist() == [math.inf, -10, math.inf]
    assert math.isnan(found.loc["c", "difference"])  # both of seed 3 failed
    solved = summary(table, made(arms, measures.SOLVED)).set_index("arm")
    assert solved.loc["c", ["n", "solved"]].tolist() == [1, 0]


def test_a_summary_says_which_arms_are_better():
    """Times, of which less is better; six of six within the margin have p = 1 / 64, and 3 / 64 as the best of three."""
    arms = {name: Arm(changed(SMALL, {"train.n_steps": 2000})) for name in "abcd"}
    times = {"a": (900.0, 910.0, 930.0), "b": (100.0, 110.0, 120.0), "c": (math.inf,) * 3, "d": (900.0, 920.0, 940.0)}
    times = {arm: own + tuple(value + 5 for value in own) for arm, own in times.items()}
    scores = {(arm, seed): [RunScore(measures.FIRST_STEP_AT_99, value, "parity")]
              for arm, own in times.items() for seed, value in enumerate(own)}  # fmt: skip
    study = made(arms, measures.FIRST_STEP_AT_99, "a")
    found = summary(study_table(study, range(6), scores, {}), study).set_index("arm")
    assert found["verdict"].iloc[1:].tolist() == ["better", "worse", "equal"]
    assert pd.isna(found.loc["a", "verdict"])
    assert found["n_to_decide"].isna().all()
    fewer = summary(study_table(study, range(2), {key: scores[key] for key in scores if key[1] < 2}, {}), study)
    assert fewer["verdict"].iloc[1:].tolist() == ["undecided"] * 3
    assert fewer["why"].iloc[1:].tolist() == ["too few runs"] * 3
    assert (fewer["n_to_decide"].iloc[1:] >= 4).all()


@pytest.mark.parametrize("measure", [measures.ACCURACY, measures.FIRST_STEP_AT_99, measures.SOLVED])
def test_arms_of_which_all_runs_failed_are_not_equal(measure):
    arms = {name: Arm(SMALL) for name in "ab"}
    study = made(arms, measure, "a")
    table = study_table(study, range(15), {}, {(arm, seed): "why" for arm in arms for seed in range(15)})
    row = summary(table, study).set_index("arm").loc["b"]
    assert row["n_failed"] == 15
    assert math.isnan(row["difference"])
    assert row["verdict"] == "undecided"
    assert row["why"].startswith("too few ")
    assert row["n_to_decide"] == math.inf


def test_a_difference_of_times_is_over_seeds_of_which_either_saw_the_event():
    arms = {name: Arm(changed(SMALL, {"train.n_steps": 2000})) for name in "abcd"}
    never = math.inf
    times = {
        "a": (100.0, 200.0, never, never),
        "b": (150.0, 230.0, never, never),  # 50 and 30 later, and twice neither
        "c": (never, never, 100.0, 200.0),  # twice the one alone, twice the other
        "d": (never, 200.0, 300.0, never),
    }
    study = made(arms, measures.FIRST_STEP_AT_99, "a")
    found = summary(table_of(arms, {measures.FIRST_STEP_AT_99: times}), study).set_index("arm")
    assert found.loc["b", ["difference", "d_low", "d_high"]].tolist() == [40, 30, 50]
    assert math.isnan(found.loc["c", "difference"])
    assert math.isnan(found.loc["c", "d_low"])
    assert found.loc["d", ["difference", "d_low", "d_high"]].tolist() == [0, -never, never]


def test_of_twenty_differences_of_times_the_sixth_from_either_end_bound_the_median():
    arms = {name: Arm(changed(SMALL, {"train.n_steps": 2000})) for name in "ab"}
    later = [*range(1, 19), math.inf, math.inf]
    times = {"a": (100.0,) * 20, "b": tuple(100.0 + steps for steps in later)}
    study = made(arms, measures.FIRST_STEP_AT_99, "a")
    found = summary(table_of(arms, {measures.FIRST_STEP_AT_99: times}), study).set_index("arm")
    assert found.loc["b", ["difference", "d_low", "d_high"]].tolist() == [10.5, 6, 15]


def test_a_mean_of_survivors_is_not_judged():
    arms = {name: Arm(SMALL) for name in "ab"}
    scores = {"a": (0.9, 0.91, 0.9, 0.92, 0.9), "b": (0.99, 0.99)}
    study = made(arms, reference="a")
    table = pd.concat(
        [
            table_of(arms, {measures.ACCURACY: scores}),
            study_table(study, range(5), {}, {("b", seed): "why" for seed in (2, 3, 4)}),
        ]
    )
    row = summary(table, study).set_index("arm").loc["b"]
    assert (row["n"], row["n_failed"], row["verdict"], row["why"]) == (2, 3, "undecided", "too few runs")
    assert row["n_to_decide"] == 15  # of which two in five survive


def test_a_run_that_a_table_has_twice_is_refused():
    arms = {name: Arm(SMALL) for name in "ab"}
    table = table_of(arms, {measures.ACCURACY: {"a": (0.1, 0.5), "b": (0.2, 0.6)}})
    with pytest.raises(ValueError, match=r"^seed = 0 twice in arm a, task parity: must be one run each$"):
        summary(pd.concat([table, table]), made(arms))
    failed = table_of(arms, {}, {("b", 1): "why"})
    with pytest.raises(ValueError, match=r"^seed = 1 twice in arm b, task parity: must be one run each$"):
        summary(pd.concat([table, failed]), made(arms))
    with pytest.raises(ValueError, match=r"^arm = b: must be of the study, one of a$"):
        summary(table, made({"a": Arm(SMALL)}))


def test_a_summary_is_of_the_trained_network_and_of_no_placebo():
    arms = {"a": Arm(SMALL)}
    scores = [RunScore(measures.ACCURACY, value, "parity") for value in (0.5,)]
    scores += [scores[0]._replace(value=0.0, network="control"), scores[0]._replace(value=0.0, statistic="placebo")]
    table = study_table(made(arms), [0, 1], {("a", 0): scores, ("a", 1): scores}, {})
    assert summary(table, made(arms))["accuracy"].tolist() == [0.5]


def test_a_factor_named_as_a_column_is_refused():
    with pytest.raises(ValueError, match="factors = network: must not be named as another column"):
        study_table(made({"a": Arm(SMALL, factors={"network": "deep"})}), [0], {}, {})


def test_how_sharp_the_lookup_is_is_told_of_the_head_that_looks_most(tmp_path):
    config = changed(SMALL, {"model.n_heads": 4})
    sweep({"run": config}, How(runs_dir=tmp_path, on="here"), QUIET)
    run = open_run(tmp_path / "run")
    scores = cleanliness_scores(run)
    found = {s.network: s.value for s in scores if s.measure is measures.ENTROPY and s.component == "lookup head"}
    rows = run.metrics.dropna(subset="head")
    ends = {"trained": rows[(rows["split"] == "mean") & (rows["step"] == 4)],
            "control": rows[(rows["split"] == "control") & rows["length"].isna()]}  # fmt: skip
    for network, own in ends.items():
        by_metric = own.pivot(index=["layer", "head"], columns="metric", values="value")
        best = by_metric.sort_values("lookup").iloc[-1]
        assert found[network] == best["entropy"]
        assert len(by_metric) == 8
        assert [s.value for s in scores if (s.measure, s.network) == (measures.LOOKUP, network)] == [best["lookup"]]


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
    assert {*study.pairs, *study.pairs.values()} <= set(study.arms)
    settings = [(arm.start, arm.config.model_dump_json()) for arm in study.arms.values()]
    assert len(set(settings)) == len(settings)
    assert len({tuple(arm.factors) for arm in study.arms.values()}) == 1
    starts = {arm.start for arm in study.arms.values()} - {None}
    assert starts <= set(study.arms)
    quick = study.quick()
    assert all(arm.config.train.n_steps == 4 for arm in quick.arms.values())
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


def test_what_was_found_is_told_on_a_full_disk_too(tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "made.csv")

    monkeypatch.setattr(study_runs, "write_table", full)
    with pytest.raises(SystemExit) as stop:
        main(made({"one": Arm(SMALL)}), argv=["--runs-dir", str(tmp_path), "--n-seeds", "1", "--on", "here"])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert "\naccuracy\n" in out
    assert err == "error: made.csv: cannot be read or written (No space left on device)\n"


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


def by_name(scores) -> dict[str, float]:
    return {score.measure.name: score.value for score in scores}


@pytest.mark.parametrize("task", [Parity(), Polynomial(modulus=5)])
def test_hand_built_heads_are_needed(task):
    built = build(task, max_length=6)
    found = by_name(head_role_scores(built.model, built.data, task, seed=0))
    carried = ("fraction of x_t carried", "fraction of x_t carried by layer", "fraction of EoI carried")
    assert [found[name] for name in carried] == [1, 1, 1]
    assert found["heads that carry x_t"] == found["heads to remove"] == found["iteration head found"] == 1
    other = by_name(head_role_scores(control(built.model.config, built.data), built.data, task, seed=0))
    assert other["fraction of x_t carried"] < 0.3
    assert other["iteration head found"] == 0


def test_two_heads_that_share_the_work_are_two():
    built = build(Parity(), max_length=6, rungs=BuildOptions(split=True))
    found = by_name(head_role_scores(built.model, built.data, Parity(), seed=0))
    assert found["heads that carry x_t"] == 2
    assert found["fraction of x_t carried by layer"] == 1
    assert found["fraction of x_t carried"] < 1


def test_rows_of_a_hand_built_circuit_need_what_they_need():
    built = build(Parity())
    scores = row_scores(built.model, eval_sets(built.data, 64))
    assert {score.value for score in scores if score.measure is measures.ROW_ACCURACY} == {1.0}
    ablated = {(score.position, score.component): score.value for score in scores}
    for row in ("first", "middle", "last"):
        for component in ("L1H0", "mlp1", *(("L0H0", "mlp0") if row != "first" else ())):
            assert ablated[row, component] < 0.8, (row, component)  # one bit, unknown


def test_rows_of_strings_of_one_have_no_middle():
    data = DataConfig(tasks=(Copy(),), min_length=1, max_length=1)
    scores = row_scores(control(ModelConfig(d_model=8), data), eval_sets(data, 8))
    assert {score.position for score in scores} == {"first", "last", "end"}


# ----------------------------------------------------------------------------------- scaling


def planted(noise: float, seed: int, last_step: float = math.inf) -> pd.DataFrame:
    """Steps = 50 length^1.5 d_model^-0.5, censored at the last step; 1 - iteration score = length^0.5 / d_model / 2."""
    generator, rows = np.random.default_rng(seed), []
    for length in (4, 8, 12, 16):
        for d_model in (8, 32, 128):
            for n in range(5):
                wobble = np.exp(noise * generator.standard_normal(2))
                steps = 50 * length**1.5 * d_model**-0.5 * wobble[0]
                unclean = 0.5 * length**0.5 / d_model * wobble[1]
                scores = {measures.SOLVED: 1.0, measures.ITERATION: 1 - unclean}
                scores |= dict.fromkeys(exponents.TIMES, steps if steps <= last_step else math.inf)
                run = {"length": length, "d_model": d_model, "seed": n}
                rows += [run | RunScore(measure, value, "parity").columns() for measure, value in scores.items()]
    return pd.DataFrame(rows)


def test_exponents_that_were_planted_are_found():
    found = exponents.exponents(planted(1e-3, 0)).set_index("measure")
    for time in exponents.TIMES:
        assert found.loc[time.name, ["length", "d_model"]].tolist() == pytest.approx([1.5, -0.5], abs=0.01)
    assert found.loc[exponents.UNCLEAN, ["length", "d_model"]].tolist() == pytest.approx([0.5, -1.0], abs=0.01)
    assert found["n_runs"].tolist() == [60, 60, 60]
    assert found["n_censored"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("last_step", [math.inf, 600.0])
def test_intervals_of_exponents_hold_the_truth_though_times_are_censored(monkeypatch, last_step):
    monkeypatch.setattr(exponents, "LAST_STEP", last_step)
    held, means = [], []
    for seed in range(40):
        table = planted(0.4, seed, last_step)
        row = exponents.exponents(table[table["measure"] == exponents.TIMES[0].name]).iloc[0]
        held += [row["length_low"] <= 1.5 <= row["length_high"], row["d_model_low"] <= -0.5 <= row["d_model_high"]]
        means.append(row["length"])
        assert (row["n_censored"] > 5) == (last_step < math.inf)
    assert np.mean(held) >= 0.91  # of 80, at 0.95 each
    assert np.mean(means) == pytest.approx(1.5, abs=0.05)


def test_there_are_no_exponents_where_all_is_censored():
    found = exponents.exponents(planted(0.1, 0, last_step=0.0))
    assert found["n_censored"].tolist() == [60, 60, 0]
    assert math.isnan(found["length"].iloc[0])
    empty = planted(0.1, 0).assign(measure=None, network=None)
    assert exponents.exponents(empty)["n_runs"].tolist() == [0, 0, 0]


def test_every_measure_has_a_name_of_its_own():
    declared = [value for value in vars(measures).values() if isinstance(value, measures.Measure)]
    declared += measures.HEAD_METRICS
    assert set(measures.MEASURES.values()) == set(declared)
    assert not any(", " in name for name in measures.MEASURES)


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_measures_its_primary_measure(name, tmp_path, monkeypatch):
    monkeypatch.setattr(sites, "mlp_probe", lambda values, split, generator: linear_probe(values, split))
    monkeypatch.setattr(state_update, "separable", lambda features, labels: math.nan)  # no score reads it
    study = study_of(name)
    arm, config = next((name, arm.config) for name, arm in study.arms.items() if arm.start is None)
    small = {"train.n_steps": 2, "train.snapshot_every": 2, "n_test_strings": 8}
    study = replace(study, arms={arm: Arm(changed(config, small))})
    table = run_study(study, [0], How(runs_dir=tmp_path, on="here"), QUIET)
    assert not len(failed_runs(table)), failed_runs(table)["error"].iloc[0]
    n_asked = [] if name == "last_row" else [1]  # it asks only networks that are right
    assert summary(table, study)["n"].tolist() == n_asked
    assert set(table["measure"]) <= set(measures.MEASURES)


# -------------------------------------------------------------------------------------- slow


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_every_study_runs_quickly(name, tmp_path):
    """With four of its arms at most, its reference, and what they start from."""
    study = study_of(name).quick()
    chosen = {*list(study.arms)[:: math.ceil(len(study.arms) / 4)], study.reference} - {None}
    while starts := {study.arms[arm].start for arm in chosen} - {None} - chosen:
        chosen |= starts
    study = replace(study, arms={arm: config for arm, config in study.arms.items() if arm in chosen})
    table = run_study(study, [0], How(runs_dir=tmp_path, on="here"), QUIET)
    assert not len(failed_runs(table)), failed_runs(table)["error"].iloc[0]
    if name != "last_row":  # it asks only networks that are right, and is tested on such
        assert len(summary(table, study)) >= len(study.arms)
