"""The studies of emergence, on curves whose truth is planted and on a run of seconds."""

import math
import os
import shutil
import signal
from functools import cache

import pandas as pd
import pytest
import torch
from helpers import generator
from rich.console import Console

from compo_mech.analyses import emergence as of_a_run
from compo_mech.analyses.emergence_sentences import change_sentence, sentences
from compo_mech.analyses.watch import ACCURACY, Watched
from compo_mech.cli.commands import watch_command
from compo_mech.data.tasks import Parity
from compo_mech.launch.run import launch
from compo_mech.launch.settings import parse
from compo_mech.plots import trajectories
from compo_mech.report.emergence import shown_emergence
from compo_mech.runs import recipes
from compo_mech.runs.run import Run
from compo_mech.runs.trajectory import Measured, Quantity, as_table
from compo_mech.studies import emergence as over_seeds_study

STEPS = list(range(0, 2000, 25))


def ramp(start, end, low=0.0, high=1.0):
    return [low + (high - low) * min(1.0, max(0.0, (step - start) / (end - start))) for step in STEPS]


def planted(seed=0, noise=0.02, late=0.0, accuracy_end=700):
    """A run whose components come at known steps; `late`: how much the iteration score still rises after accuracy."""
    rng = generator(seed)
    iteration = ramp(200, 400, 0.1, 0.8)
    iteration = [
        value + late * max(0.0, (step - accuracy_end) / 1000) for value, step in zip(iteration, STEPS, strict=True)
    ]
    curves = {
        ACCURACY: ramp(400, accuracy_end),
        Quantity("iteration_together", layer=1): iteration,
        Quantity("lookup_together", layer=0): [0.08] * len(STEPS),
        Quantity("iteration pattern ablation", "cost", layer=1, head=0): ramp(300, 500, 0, 0.4),
        Quantity("IIA", "above placebo", "x", "independent", "attn_out", 1): ramp(500, 100),  # falls
    }
    return run_of(curves, STEPS, noise, rng)


def run_of(curves, steps, noise, rng):
    """A run of these curves, its control at 0.05; accuracy is without noise."""
    drawn = {q: torch.randn(len(steps), generator=rng) * (0 if q == ACCURACY else noise) for q in curves}
    found = [Measured(q, values[i] + float(drawn[q][i])) for i in range(len(steps)) for q, values in curves.items()]
    trained = as_table(0, found)  # one table for all steps takes a hundredth of the time
    trained["step"] = pd.array([step for step in steps for _ in curves], dtype="Int64")
    control = as_table(None, [Measured(quantity, 0.05) for quantity in curves])
    return Watched(Parity(), 1, pd.concat([control, trained], ignore_index=True))


def test_planted_moments_are_found_and_falls_do_not_count():
    table = of_a_run.component_emergence(planted(), generator()).set_index("component")
    assert table["course"].to_dict() == {
        "accuracy": "complete", "iteration": "complete", "lookup": "nothing", "ablation cost of iteration": "complete",
        "x in the attention output": "already high",
    }  # fmt: skip
    for component, (onset, saturation) in {
        "accuracy": (400, 700),
        "iteration": (200, 400),
        "ablation cost of iteration": (300, 500),
    }.items():
        row = table.loc[component]
        for name, truth in (("onset", onset), ("midpoint", (onset + saturation) / 2), ("saturation", saturation)):
            assert row[f"{name}_low"] - 1 <= truth <= row[f"{name}_high"] + 1
            assert row[name] == pytest.approx(truth, abs=40)
        assert row["control"] == 0.05
    assert table.loc["lookup", "midpoint"] == math.inf
    assert math.isnan(table.loc["x in the attention output", "midpoint"])  # it was high, and fell


def test_what_goes_on_after_accuracy_is_told_from_what_does_not():
    rows = of_a_run.after_accuracy(planted(late=0.1)).changes
    table = rows.set_index("measure")
    assert set(table["since"]) == {700}
    assert table.loc["iteration score", "low"] > 0
    assert table.loc["iteration score", "total"] == pytest.approx(0.1 * (STEPS[-1] - 700) / 1000, abs=0.03)
    assert table.loc["lookup score", "low"] < 0 < table.loc["lookup score", "high"]


FEW = STEPS[::2]


def saturating(start, end, scale):
    """The upper half of a logistic, half way before the first step."""
    return [start + (end - start) * (2 / (1 + math.exp(-step / scale)) - 1) for step in FEW]


def of_lookup(values):
    """The row of a lookup with these values, and what is said of it and of an accuracy that is plain to see."""
    found = run_of(
        {Quantity("lookup_together", layer=0): values, ACCURACY: ramp(400, 700)[::2]}, FEW, 0.01, generator()
    )
    components = of_a_run.component_emergence(found, generator())
    row = components.set_index("component").loc["lookup"]
    return components, row, sentences(components, of_a_run.AfterAccuracy(None, 0, 0.5, pd.DataFrame()))


@pytest.mark.parametrize(
    ("lookup", "fate"),
    [
        (saturating(0.09, 0.47, 500), "rises throughout"),
        ([0.09 + 0.38 * (step / FEW[-1]) ** 0.5 for step in FEW], "rises throughout"),
        ([0.09 + 0.38 * step / FEW[-1] for step in FEW], "rises throughout"),
        ([0.9] * len(FEW), "already high"),
        (ramp(500, 900, 0.6, 0.9)[::2], "already high"),
        (ramp(900, 500, 0.4, 0.9)[::2], "already high"),  # it falls
    ],
)
def test_what_is_not_seen_to_rise_is_not_dated_nor_ranked(lookup, fate):
    components, row, (order, *rest) = of_lookup(lookup)
    assert row["course"] == fate
    assert row[["onset", "midpoint", "saturation"]].isna().all()
    assert "accuracy" in order
    assert "lookup" not in order
    assert any(said.startswith(f"Not dated, {fate}: ") and "lookup (from" in said for said in rest)
    assert "start" not in order
    figure = trajectories.timeline(components.assign(run="one"), "")
    assert f"not dated, {fate}" in [note.text for note in figure.layout.annotations]
    assert not [trace for trace in figure.data if trace.hovertemplate and "lookup" in trace.hovertemplate]


@pytest.mark.parametrize("first", [0.05, 0.4])
def test_what_rises_soon_from_near_the_controls_level_is_dated(first):
    _, row, _ = of_lookup(ramp(50, 600, first, 0.9)[::2])
    assert row["course"] == "complete"
    assert FEW[0] <= row["midpoint_low"] <= 325 <= row["midpoint_high"] < 400


def test_what_rises_from_below_the_control_is_dated_and_not_called_high():
    _, row, _ = of_lookup(ramp(500, 900, 0.0, 0.04)[::2])
    assert row["course"] == "complete"
    assert row["midpoint_low"] <= 700 <= row["midpoint_high"]


def test_a_plateau_is_not_called_complete_on_the_page():
    rows = of_a_run.component_emergence(planted(), generator())
    assert set(shown_emergence(rows)["course"]) == {"reaches a plateau", "nothing", "already high"}
    assert shown_emergence(rows)["final"].str.endswith(" [0.05]").all()
    assert shown_emergence(rows.assign(control=math.nan))["final"].str.endswith(" [–]").all()


def test_a_rise_that_is_not_half_way_is_said_so_and_not_ranked():
    components, row, _ = of_lookup(ramp(1000, 4000, 0.05, 0.95)[::2])
    assert row["course"] == "unfinished"
    late = components["component"] == "lookup"
    components.loc[late, ["midpoint", "midpoint_low"]] = math.inf
    half_way, others, _ = sentences(components, of_a_run.AfterAccuracy(None, 0, 0.5, pd.DataFrame()))
    assert "lookup" not in half_way
    assert others.startswith("Not half way at the last checkpoint: lookup (from 0.0")
    figure = trajectories.timeline(components.assign(run="one"), "")
    assert [note.text for note in figure.layout.annotations] == ["not half way at the last checkpoint"]


def ended(n_at_level, final=1.0):
    """A run whose accuracy is at 99% for so many checkpoints, the last ones."""
    values = [0.5] * (len(FEW) - n_at_level) + [final] * n_at_level
    curves = {ACCURACY: values, Quantity("iteration_together", layer=1): ramp(200, 400)[::2]}
    return of_a_run.after_accuracy(run_of(curves, FEW, 0.01, generator()))


def test_too_few_checkpoints_are_told_from_an_accuracy_that_does_not_stay():
    none = pd.DataFrame()
    assert sentences(none, ended(0)) == ["Accuracy is not at 99% at the last checkpoint, but at 50.0%."]
    assert sentences(none, ended(3, 0.98)) == ["Accuracy is not at 99% at the last checkpoint, but at 98.0%."]
    for n, few in ((1, "1 checkpoint"), (7, "7 checkpoints")):
        (said,) = sentences(none, ended(n))
        assert said.startswith("Too few checkpoints to tell")
        assert f"from step {FEW[-n]} on, in {few}, and 8 are needed" in said
    enough = sentences(none, ended(8))
    assert enough
    assert not any("few" in said for said in enough)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.001, 0.1, "rose"), (0.0, 0.1, "neither rose nor fell for certain"),
        (-0.1, 0.0, "neither rose nor fell for certain"), (-0.1, -0.001, "fell"),
    ],
)  # fmt: skip
def test_a_change_is_certain_where_its_interval_is_on_one_side_of_zero(low, high, verdict):
    row = {"measure": "lookup score", "layer": 0, "head": None, "since": 700, "at_since": 0.5, "final": 0.6}
    changes = pd.DataFrame([row | {"total": (low + high) / 2, "low": low, "high": high}])
    (said,) = sentences(pd.DataFrame(), of_a_run.AfterAccuracy(700, 9, 1.0, changes))
    assert said.startswith(f"The lookup score of L0 {verdict} once accuracy is at 99% or more from step 700 on: ")
    bounds = " .. ".join("0.000" if bound == 0 else f"{bound:+.3f}" for bound in (low, high))
    assert f"({bounds}) along the straight line through what follows, " in said
    assert f"{'though ' * (verdict == 'fell')}from 0.500 at its first checkpoint to 0.600 at its last." in said


@pytest.mark.parametrize(
    ("total", "low", "high", "said"),
    [
        (0.0006, 0.0002, 0.001, "rose once it: +0.001 (+0.0002 .. +0.001)"),
        (-0.0004, -0.0009, 0.0001, "neither rose nor fell for certain once it: -0.0004 (-0.001 .. +0.0001)"),
        (0.0, 0.0, 0.0, "neither rose nor fell for certain once it: 0.000 (0.000 .. 0.000)"),
    ],
)
def test_a_small_change_is_not_written_as_none(total, low, high, said):
    row = {"measure": "score", "layer": None, "head": None, "at_since": 0.98, "final": 0.9806}
    assert said in change_sentence(row | {"total": total, "low": low, "high": high}, "it")


@pytest.mark.parametrize(("final", "said"), [(0.9896, "98.96%"), (0.98, "98.0%")])
def test_an_accuracy_below_its_level_is_written_below_it(final, said):
    none = of_a_run.AfterAccuracy(None, 0, final, pd.DataFrame())
    assert sentences(pd.DataFrame(), none) == [f"Accuracy is not at 99% at the last checkpoint, but at {said}."]
    unknown = of_a_run.AfterAccuracy(None, 0, math.nan, pd.DataFrame())
    assert sentences(pd.DataFrame(), unknown) == ["Accuracy was not measured at the last checkpoint."]


@pytest.mark.parametrize(
    ("p_flat", "course", "control", "said"),
    [
        (0.055, "nothing", 0.0, "No rise can be told (p ≤ 0.05 needed): accuracy (from 0.00 to 1.00, control 0.00, "
                                "p = 0.055)."),
        (0.0504, "nothing", math.nan, "No rise can be told (p ≤ 0.05 needed): accuracy (from 0.00 to 1.00, no control, "
                                      "p = 0.0504)."),
        (0.05, "nothing", 0.0, "Did not rise: accuracy (from 0.00 to 1.00, control 0.00)."),  # its line falls
        (0.0025, "unfinished", 0.0, "Not half way at the last checkpoint: accuracy (from 0.00 to 1.00, control 0.00)."),
    ],
)  # fmt: skip
def test_a_jump_that_may_be_chance_is_not_said_to_be_no_rise(p_flat, course, control, said):
    row = {
        "component": "accuracy",
        "course": course,
        "midpoint": math.inf,
        "p_flat": p_flat,
        "first": 0.0,
        "final": 1.0,
    }
    components = pd.DataFrame([row | {"control": control}])
    assert said in sentences(components, of_a_run.AfterAccuracy(900, 1, 1.0, pd.DataFrame()))


def of_run(seed):
    return {"task": "parity", "seed": seed, "run": f"parity-seed{seed}"}


@cache
def components_over_seeds(n=6):
    rng = generator()
    found = [of_a_run.component_emergence(planted(seed, late=0.1), rng).assign(**of_run(seed)) for seed in range(n)]
    return pd.concat(found, ignore_index=True)


def changes_over_seeds(late, n=6):
    found = [of_a_run.after_accuracy(planted(seed, late=late)).changes.assign(**of_run(seed)) for seed in range(n)]
    return pd.concat(found, ignore_index=True)


def test_order_and_verdict_over_seeds():
    table = over_seeds_study.order(components_over_seeds(), 0).set_index("component")
    assert table.loc["iteration", "low"] - 10 <= 300 <= table.loc["iteration", "high"] + 10
    assert table.loc["iteration", "lag_low"] - 10 <= 550 - 300 <= table.loc["iteration", "lag_high"] + 10
    assert table.loc["iteration", "before"] == 1
    assert table.loc["lookup", "n_censored"] == 6
    assert table.loc["lookup", "median_step"] == math.inf
    assert table.loc["lookup", "before"] == 0  # accuracy came, the lookup never did
    assert math.isnan(table.loc["accuracy", "lag"])
    assert next(iter(table.index)) == "iteration"
    verdicts = over_seeds_study.verdicts(changes_over_seeds(late=0.1)).set_index("measure")
    assert verdicts.loc["iteration score", "verdict"] == "yes"
    assert verdicts.loc["iteration score", "n_up"] >= 5
    assert verdicts.loc["lookup score", "verdict"] != "yes"
    flat = over_seeds_study.verdicts(changes_over_seeds(late=0.0)).set_index("measure")
    assert flat.loc["iteration score", "verdict"] != "yes"
    assert flat.loc["iteration score", "low"] < 0 < flat.loc["iteration score", "high"]


def mixed_runs(n_undated, n=10):
    """Runs of which the first few have a lookup that is not dated."""
    rows = [
        {"task": "parity", "seed": seed, "run": f"run{seed}", "component": name, "midpoint": step, "last_step": 2000}
        for seed in range(n)
        for name, step in (("accuracy", 500.0 + seed), ("lookup", math.nan if seed < n_undated else 900.0 + seed))
    ]
    return pd.DataFrame(rows)


def test_runs_without_a_date_are_left_out_of_the_order_and_counted():
    some = over_seeds_study.order(mixed_runs(4), 0).set_index("component").loc["lookup"]
    assert (some["n_runs"], some["n_undated"], some["n_censored"]) == (10, 4, 0)
    assert some["median_step"] == 906
    assert some["lag"] == -400
    assert some["before_high"] < 0.5
    for n_undated in (5, 8, 10):
        most = over_seeds_study.order(mixed_runs(n_undated), 0).set_index("component").loc["lookup"]
        assert most["n_undated"] == n_undated
        assert most.reindex(["median_step", "low", "lag", "before"]).isna().all()


def test_the_timeline_shows_every_run_and_counts_those_without():
    components = components_over_seeds()
    figure = trajectories.timeline(components, "")
    dots = [trace for trace in figure.data if trace.mode == "markers" and trace.marker.symbol != "diamond"]
    assert len(dots) == (components["midpoint"] < math.inf).sum()
    assert {note.text for note in figure.layout.annotations} == {
        "6 of 6 no rise can be told (p ≤ 0.05 needed)", "6 of 6 not dated, already high"
    }  # fmt: skip
    first = next(trace for trace in figure.data if trace.mode == "lines")
    row = components[components["component"] == "iteration"].sort_values("midpoint").iloc[0]
    assert list(first.x) == [row["onset"], row["saturation"]]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    argv = ["--runs-dir", str(tmp_path_factory.mktemp("runs")), "--name", "one", "--data.max-length", "4",
            "--model.d-model", "16", "--train.n-steps", "20", "--train.snapshot-every", "4", "--n-test-strings", "8",
            "--data.curriculum", "--data.task-weights", "1", "--data.tasks", "parity"]  # fmt: skip
    settings = parse(recipes.polynomial(), argv)
    return launch(settings, Console(quiet=True))


def test_a_run_is_watched_and_its_page_shows_it(run, tmp_path, capsys):
    shutil.copytree(run.path, tmp_path / "one")
    watch_command(tmp_path / "one", None, 0, 1, 2)
    copy = Run.open(tmp_path / "one")
    table = pd.read_csv(copy.path / "analysis" / "watch-000020-parity" / "by-step.csv")
    assert set(copy.steps) == set(table["step"].dropna())
    assert "When each component came: parity" in (copy.path / "report.html").read_text()
    assert "Tables:" in capsys.readouterr().out
    shutil.copytree(run.path, tmp_path / "empty")  # one that fails does not stop the others
    shutil.rmtree(tmp_path / "empty" / "checkpoints")
    runs = [Run.open(tmp_path / "empty"), copy, Run.open(tmp_path / "one")]
    components, _, failed = over_seeds_study.watched(runs, 1, 0, Console(quiet=True))
    assert len(failed) == 1
    assert str(tmp_path / "empty") in failed[0]
    assert len(components) == 2 * len(pd.read_csv(copy.path / "analysis" / "watch-000020-parity" / "emergence.csv"))


def test_a_run_that_is_given_by_two_paths_is_watched_once(run, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        over_seeds_study, "watched", lambda runs, *_: seen.extend(runs) or (pd.DataFrame(), pd.DataFrame(), [])
    )
    with pytest.raises(SystemExit):  # nothing was found
        over_seeds_study.main([run.path, run.path / ".." / run.path.name], tmp_path / "tables", 1, 0)
    assert len(seen) == 1


def die(run, seed, more):
    """Stands for a run that takes its process with it."""
    if run.path.name == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    return pd.DataFrame({"n": [seed]}), pd.DataFrame()


@pytest.mark.slow
def test_a_process_that_dies_costs_its_own_run_only(run, tmp_path, monkeypatch):
    shutil.copytree(run.path, tmp_path / "deadly")
    monkeypatch.setattr(over_seeds_study, "_watch", die)
    shutil.copytree(run.path, tmp_path / "other" / "one")
    runs = [Run.open(tmp_path / "deadly"), run, Run.open(tmp_path / "other" / "one")]
    components, _, failed = over_seeds_study.watched(runs, 2, 0, Console(quiet=True))
    assert failed == [f"{tmp_path / 'deadly'}: ProcessDied: its process died"]
    assert len(set(components["run"])) == 2


def test_bad_input_gets_one_line(run, tmp_path, capsys):
    for arguments, told in (
        ((tmp_path / "none", None, 0, 1, 2), "must be a folder that holds a config.json"),
        ((run.path, "copy", 0, 1, 2), "task = copy: must be one of parity"),
        ((run.path, None, 0, 0, 2), "n_workers = 0, every = 2: must be at least 1"),
    ):
        with pytest.raises(SystemExit) as stop:
            watch_command(*arguments)
        assert stop.value.code == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert told in line
    for arguments, told in (
        (([tmp_path / "none"], tmp_path / "out", 1, 0), "must be a folder that holds a config.json"),
        (([run.path], tmp_path / "no" / "out", 1, 0), "must be in a folder that exists"),
    ):
        with pytest.raises(SystemExit) as stop:
            over_seeds_study.main(*arguments)
        assert stop.value.code == 2
        assert told in capsys.readouterr().err
