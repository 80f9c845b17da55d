from compo_mech import recipes
from compo_mech.studies.seeds import seed_runs


def test_the_seed_study_trains_resumes_and_lists_failures(tmp_path):
    recipe = recipes.parity()
    small = recipe.model_copy(update={"train": recipe.train.model_copy(update={"n_steps": 3})})
    first = list(seed_runs(small, [0, 1], tmp_path, n_workers=2))
    assert sorted(str(row["seed"]) for row in first) == ["0", "1"]
    assert all(row["verdict"] == "diffuse" for row in first)
    (tmp_path / "parity-seed1" / "config.json").write_text("{")
    second = {row["seed"]: row for row in seed_runs(small, [0, 1], tmp_path, n_workers=2)}
    assert second[0]["iteration"] == next(row["iteration"] for row in first if row["seed"] == 0)
    assert "config.json" in str(second[1]["failed"])
