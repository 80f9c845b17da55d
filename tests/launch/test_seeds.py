import pandas as pd
import pytest
from rich.console import Console

from compo_mech.launch import run
from compo_mech.launch.how import How
from compo_mech.launch.settings import Launch
from compo_mech.runs import recipes
from compo_mech.runs.outcome import run_summary
from compo_mech.settings import changed
from compo_mech.studies import seeds
from compo_mech.studies.seeds import seed_runs, verdict_shares


@pytest.mark.slow
def test_the_seed_study_trains_resumes_and_lists_failures(tmp_path):
    small = changed(recipes.parity(), {"train.n_steps": 3, "n_test_strings": 16})
    how, console = How(runs_dir=tmp_path), Console(quiet=True)
    first = seed_runs(small, [0, 1], how, console)
    assert [row["seed"] for row in first] == [0, 1]
    assert all(row["verdict"] == "diffuse" for row in first)
    (tmp_path / "parity-seed1" / "config.json").write_text("{")
    second = seed_runs(small, [0, 1], how, console)
    assert second[0] == first[0]
    assert "config.json" in str(second[1]["failed"])


def test_how_often_each_verdict_comes_is_counted_with_wilsons_intervals():
    ends = ["textbook"] * 7 + ["diffuse"] * 2
    rows = [{"seed": seed, "verdict": end} for seed, end in enumerate(ends)] + [{"seed": 9, "failed": "no memory"}]
    found = verdict_shares(pd.DataFrame(rows))
    assert found["verdict"].tolist() == ["textbook", "diffuse", "failed"]
    assert found["n"].tolist() == [7, 2, 1]
    assert found.iloc[0, 2:].tolist() == pytest.approx([0.7, 0.397, 0.892], abs=1e-3)  # Wilson, 7 of 10
    assert verdict_shares(pd.DataFrame([{"seed": 0, "accuracy": 1.0}]))["verdict"].tolist() == ["no head is judged"]


def test_the_table_of_verdicts_fits_on_a_terminal(monkeypatch, capsys):
    rows = [{"seed": seed, "verdict": f"a verdict of {seed} words"} for seed in range(3)]
    monkeypatch.setattr(seeds, "seed_runs", lambda *given: rows)
    monkeypatch.setenv("COLUMNS", "80")
    seeds.seeds_command("parity", 3)
    told = capsys.readouterr().out
    assert "fraction" in told
    assert max(map(len, told.splitlines())) <= 80


def test_without_a_chain_of_thought_there_is_accuracy_alone(tmp_path):
    small = {"train.n_steps": 2, "n_test_strings": 8, "data.max_length": 3, "model.d_model": 8}
    config = changed(recipes.parity(), small | {"data.chain_of_thought": False})
    settings = Launch(**{name: getattr(config, name) for name in type(config).model_fields}, runs_dir=tmp_path)
    assert run_summary(run.launch(settings, Console(quiet=True))).keys() == {"accuracy", "accuracy from step"}
