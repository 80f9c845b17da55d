import math
from functools import partial

import pandas as pd
import pytest
import torch
from rich.console import Console

from compo_mech.analyses import alignment
from compo_mech.analyses.examine import holds
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
from compo_mech.model.finite import NotFinite
from compo_mech.model.sites import Site
from compo_mech.runs.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    settings = {
        "data": {"max_length": 7, "batch_size": 16},
        "model": {"d_model": 16},
        "train": {"n_steps": 1},
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
    (folder,) = (run / "analysis").glob("alignment-000001-parity")
    tables = {file.stem: pd.read_csv(file) for file in folder.glob("*.csv")}
    assert set(tables) == {"interchange", "searched", "by-step"}
    assert list(tables["by-step"]["step"].unique()) == Run.open(run).steps
    assert list(tables["searched"]["variable"]) == ["t", "x", "s", "answer"]
    assert set(tables["interchange"]["network"]) == {"trained", "control"}
    trained = tables["interchange"][tables["interchange"]["network"] == "trained"].drop(columns="network")
    last = tables["by-step"][tables["by-step"]["step"] == 1].drop(columns="step").reset_index(drop=True)
    pd.testing.assert_frame_equal(last, trained)
    first = tables["by-step"][tables["by-step"]["step"] == 0].drop(columns="step").reset_index(drop=True)
    assert not first.equals(last)
    assert "Aligned with the algorithm" in (run / "report.html").read_text()
    before = {file.name: file.read_text() for file in folder.glob("*.csv")}
    align_command(run, 1, False, "parity", 0)  # the same seed says the same
    after = {file.name: file.read_text() for file in folder.glob("*.csv")}
    assert before.items() - after.items() == {("by-step.csv", before["by-step.csv"])}


def of_map(*rows):
    """What is said of t where its map has these rows; the control's is at 40%."""
    plain = {"variable": "t", "context": "independent", "site": "q1", "low": 0.85, "high": 0.99}
    table = pd.DataFrame([plain | row for row in rows])
    searched = pd.DataFrame(columns=["variable"])
    (said,) = alignment.Aligned(Parity(), 1, table, table.assign(iia=0.4), None, searched).sentences
    return said, [holds(row) for row in table.to_dict("records")]


@pytest.mark.parametrize(
    ("iia", "placebo", "permuted", "reached"),
    [
        (0.9, 0.8996, 0.5, ""), (0.9, 0.9, 0.5, "the placebo reaches it"), (0.8996, 0.5, 0.5, ""),
        (0.95, 0.5, 0.93, "permuted labels reach it"), (0.95, 0.95, 0.93, "the placebo and permuted labels reach it"),
        (0.95, 0.5, math.nan, "permuted labels reach it"),
    ],
)  # fmt: skip
def test_a_site_is_said_to_hold_a_variable_where_no_control_does(iia, placebo, permuted, reached):
    said, (held,) = of_map({"iia": iia, "placebo": placebo, "permuted": permuted})
    assert held == (said.startswith("t: by itself held best at q1, where ") and iia >= 0.9 and not reached)
    assert held != said.startswith("t: held by no site by itself; best at q1, where ")
    assert "90% needed, placebo and permuted labels below that" in said
    assert said.endswith(f", but {reached} as well." if reached else "control 40% at best).")
    assert "89.96%" in said or 0.8996 not in (iia, placebo)


def test_of_several_sites_the_best_that_holds_is_named():
    good = {"placebo": 0.5, "permuted": 0.5}
    by_noise = {"site": "z1", "iia": 0.97, "placebo": 0.95, "permuted": 0.5}
    said, held = of_map(by_noise, {"site": "q1", "iia": 0.92} | good, {"site": "q0", "iia": 0.91} | good)
    assert held == [False, True, True]
    assert said.startswith("t: by itself held best at q1, where 92.0%")


def test_what_was_not_asked_or_is_no_number_is_not_ranked():
    said, _ = of_map({"context": "matched", "iia": 0.95, "placebo": 0.5, "permuted": 0.5})
    assert said == "t: where it is held was not asked with all else another string's."
    good = {"iia": 0.92, "placebo": 0.5, "permuted": 0.5}
    with pytest.raises(NotFinite, match=r"^iia at z1 = nan: must be finite, 1 of 2 are not$"):
        of_map(good, good | {"site": "z1", "iia": math.nan})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"run": "nowhere"}, "must be a folder that holds a config.json"),
        ({"step": 3}, "step = 3: must be one of 0 1"),
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
