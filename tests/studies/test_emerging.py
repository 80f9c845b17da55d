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
from compo_mech.analyses.watch import ACCURACY, Watched
from compo_mech.cli.watch import watch_command
from compo_mech.data.tasks import Parity
from compo_mech.launch.run import launch
from compo_mech.launch.settings import parse
from compo_mech.plots import trajectories
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
        Quantity("lookup_together", layer=0): [0.3] * len(STEPS),
        Quantity("iteration pattern ablation", "cost", layer=1, head=0): ramp(300, 500, 0, 0.4),
        Quantity("IIA", "above placebo", "x", "independent", "attn_out", 1): ramp(500, 100),  # falls
    }
    drawn = {q: torch.randn(len(STEPS), generator=rng) * (0 if q == ACCURACY else noise) for q in curves}
    tables = [as_table(None, [Measured(quantity, 0.05) for quantity in curves])]
    for i, step in enumerate(STEPS):
        found = [Measured(quantity, values[i] + float(drawn[quantity][i])) for quantity, values in curves.items()]
        tables.append(as_table(step, found))
    return Watched(Parity(), 1, pd.concat(tables, ignore_index=True))


def test_planted_moments_are_found_and_falls_do_not_count():
    table = of_a_run.component_emergence(planted(), generator()).set_index("component")
    assert table["course"].to_dict() == {
        "accuracy": "complete", "iteration": "complete", "lookup": "nothing", "ablation cost of iteration": "complete",
        "x in the attention output": "nothing",
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
    assert table.loc["x in the attention output", "midpoint"] == math.inf


def test_what_goes_on_after_accuracy_is_told_from_what_does_not():
    rows = of_a_run.changes_after_accuracy(planted(late=0.1))
    table = rows.set_index("measure")
    assert set(table["since"]) == {700}
    assert table.loc["iteration score", "low"] > 0
    assert table.loc["iteration score", "total"] == pytest.approx(0.1 * (STEPS[-1] - 700) / 1000, abs=0.03)
    assert table.loc["lookup score", "low"] < 0 < table.loc["lookup score", "high"]
    never = planted()
    low = never.rows["measure"] == "strings right"
    never.rows.loc[low, "value"] *= 0.9
    assert of_a_run.changes_after_accuracy(never).empty
    components = of_a_run.component_emergence(never, torch.Generator())
    said = of_a_run.sentences(components, of_a_run.changes_after_accuracy(never))
    assert said[-1] == "Accuracy did not stay at 99% for 8 checkpoints."


def of_run(seed):
    return {"task": "parity", "seed": seed, "run": f"parity-seed{seed}"}


@cache
def components_over_seeds(n=6):
    rng = generator()
    found = [of_a_run.component_emergence(planted(seed, late=0.1), rng).assign(**of_run(seed)) for seed in range(n)]
    return pd.concat(found, ignore_index=True)


def changes_over_seeds(late, n=6):
    found = [of_a_run.changes_after_accuracy(planted(seed, late=late)).assign(**of_run(seed)) for seed in range(n)]
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


def test_the_timeline_shows_every_run_and_counts_those_without():
    components = components_over_seeds()
    figure = trajectories.timeline(components, "")
    dots = [trace for trace in figure.data if trace.mode == "markers" and trace.marker.symbol != "diamond"]
    assert len(dots) == (components["midpoint"] < math.inf).sum()
    assert {note.text for note in figure.layout.annotations} == {"6 of 6 did not rise"}
    first = next(trace for trace in figure.data if trace.mode == "lines")
    row = components[components["component"] == "iteration"].sort_values("midpoint").iloc[0]
    assert list(first.x) == [row["onset"], row["saturation"]]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    argv = ["--runs-dir", str(tmp_path_factory.mktemp("runs")), "--name", "one", "--data.max-length", "5",
            "--model.d-model", "16", "--train.n-steps", "40", "--train.snapshot-every", "4", "--n-test-strings", "8",
            "--data.curriculum", "--data.task-weights", "1", "--data.tasks", "parity"]  # fmt: skip
    settings = parse(recipes.polynomial(), argv)
    return launch(settings, Console(quiet=True))


def test_a_run_is_watched_and_its_page_shows_it(run, tmp_path, capsys):
    shutil.copytree(run.path, tmp_path / "one")
    watch_command(tmp_path / "one", None, 0, 1, 2)
    copy = Run.open(tmp_path / "one")
    table = pd.read_csv(copy.path / "analysis" / "watch-000040-parity" / "by-step.csv")
    assert set(copy.steps) == set(table["step"].dropna())
    assert "When each component came: parity" in (copy.path / "report.html").read_text()
    assert "Tables:" in capsys.readouterr().out
    components, _, failed = over_seeds_study.watched([copy, Run.open(tmp_path / "one")], 1, 0, Console(quiet=True))
    assert failed == []
    assert len(components) == 2 * len(pd.read_csv(copy.path / "analysis" / "watch-000040-parity" / "emergence.csv"))


def test_a_run_that_fails_does_not_stop_the_others(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "empty")
    shutil.rmtree(tmp_path / "empty" / "checkpoints")
    runs = [Run.open(tmp_path / "empty"), Run.open(run.path)]
    components, _, failed = over_seeds_study.watched(runs, 1, 0, Console(quiet=True))
    assert len(failed) == 1
    assert str(tmp_path / "empty") in failed[0]
    assert set(components["run"]) == {"one"}


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
