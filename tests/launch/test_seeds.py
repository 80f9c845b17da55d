import pytest
from rich.console import Console

from compo_mech.launch import run
from compo_mech.launch.how import How
from compo_mech.launch.settings import Launch
from compo_mech.runs import recipes
from compo_mech.runs.outcome import run_summary
from compo_mech.settings import changed
from compo_mech.studies.seeds import seed_runs


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


def test_without_a_chain_of_thought_there_is_accuracy_alone(tmp_path):
    small = {"train.n_steps": 2, "n_test_strings": 8, "data.max_length": 3, "model.d_model": 8}
    config = changed(recipes.parity(), small | {"data.chain_of_thought": False})
    settings = Launch(**{name: getattr(config, name) for name in type(config).model_fields}, runs_dir=tmp_path)
    assert run_summary(run.launch(settings, Console(quiet=True))).keys() == {"accuracy", "accuracy from step"}
