from functools import partial

import pandas as pd
import pytest
import torch
from rich.console import Console

from compo_mech.analyses import alignment
from compo_mech.causal.das import align
from compo_mech.causal.variables import make_interchanges
from compo_mech.cli.commands import align_command
from compo_mech.data.config import DataConfig
from compo_mech.data.splits import is_split, is_test_string
from compo_mech.data.tasks import Copy, Parity, Polynomial
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.launch.run import launch
from compo_mech.launch.settings import Launch
from compo_mech.model.sites import Site
from compo_mech.runs.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    settings = {
        "data": {"max_length": 7, "batch_size": 16},
        "model": {"d_model": 16},
        "train": {"n_steps": 2},
        "n_test_strings": 16,
        "runs_dir": tmp_path_factory.mktemp("runs"),
        "name": "tiny",
    }
    return launch(Launch.model_validate(settings), Console(quiet=True)).path


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(alignment, "align", partial(align, n_steps=2))
    monkeypatch.setattr(alignment, "N_MAP", 24)
    monkeypatch.setattr(alignment, "N_TRAIN", 40)


def test_strings_that_are_scored_were_not_searched_on():
    data = DataConfig(max_length=9)
    pairs = make_interchanges(data, "x", "independent", 800, torch.Generator().manual_seed(0))
    train, test = alignment._split(pairs, Parity())
    assert len(train.base) > 300
    assert len(test.base) > 100
    long = torch.tensor([is_split(Parity(), int(length)) for length in test.base.length])
    assert is_test_string(test.base.inputs, test.base.length)[long].all()
    for rows in (train.base, train.source):
        long = torch.tensor([is_split(Parity(), int(length)) for length in rows.length])
        assert not is_test_string(rows.inputs, rows.length)[long].any()
    assert set(train.base.length.tolist()) == set(test.base.length.tolist()) == set(range(1, 10))


def test_each_variable_is_searched_where_the_algorithm_has_it():
    def plans(task, rungs):
        built = build(task, rungs=rungs)
        return alignment.search_plans(built.model, built.data, task, torch.Generator().manual_seed(0))

    assert plans(Parity(), BuildOptions()) == [
        (Site("resid_post", 0), {"t": 7}),
        (Site("resid_mid", 1), {"x": 1, "s": 2}),
        (Site("resid_post", 1), {"answer": 1}),
    ]
    assert plans(Copy(), BuildOptions())[1] == (Site("resid_mid", 1), {"x": 1})
    assert plans(Polynomial(modulus=5), BuildOptions())[1] == (Site("resid_mid", 1), {"x": 3, "s": 5})
    assert plans(Parity(), BuildOptions(three_layers=True))[0] == (Site("resid_post", 1), {"t": 7})


def test_tables_and_a_section_are_kept_and_the_same_seed_says_the_same(run, quick):
    align_command(run, None, True, None, 0)
    (folder,) = (run / "analysis").glob("alignment-000002-parity")
    tables = {file.stem: pd.read_csv(file) for file in folder.glob("*.csv")}
    assert set(tables) == {"interchange", "searched", "by-step"}
    assert list(tables["by-step"]["step"].unique()) == Run.open(run).steps
    assert list(tables["searched"]["variable"]) == ["t", "x", "s", "answer"]
    assert set(tables["interchange"]["network"]) == {"trained", "control"}
    trained = tables["interchange"][tables["interchange"]["network"] == "trained"].drop(columns="network")
    last = tables["by-step"][tables["by-step"]["step"] == 2].drop(columns="step").reset_index(drop=True)
    pd.testing.assert_frame_equal(last, trained)
    assert "Aligned with the algorithm" in (run / "report.html").read_text()
    before = {file.name: file.read_text() for file in folder.glob("*.csv")}
    align_command(run, 2, False, "parity", 0)  # the same seed says the same
    after = {file.name: file.read_text() for file in folder.glob("*.csv")}
    assert before.items() - after.items() == {("by-step.csv", before["by-step.csv"])}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"run": "nowhere"}, "must be a folder that holds a config.json"),
        ({"step": 3}, "step = 3: must be one of 0 1 2"),
        ({"step": 1, "all_steps": True}, "step = 1: goes without all-steps"),
        ({"task": "copy"}, "task = copy: must be one of parity, which the run has"),
    ],
)
def test_bad_input_gets_one_line(run, change, message, capsys, tmp_path):
    given = {"run": run, "step": None, "all_steps": False, "task": None, "seed": 0} | change
    if change.get("run"):
        given["run"] = tmp_path / str(change["run"])
    with pytest.raises(SystemExit) as stop:
        align_command(**given)
    assert stop.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
