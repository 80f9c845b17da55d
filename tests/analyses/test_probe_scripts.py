import contextlib
import io
import re
import runpy
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from compo_mech.analyses import position_subtraction, state_update
from compo_mech.analyses.subtraction_probe import SUBTRACTION
from compo_mech.analyses.update_probe import UPDATE
from compo_mech.cli import analyse
from compo_mech.cli.commands import PROBES, over_runs_command
from compo_mech.launch.run import launch
from compo_mech.launch.settings import parse
from compo_mech.probing import grid, probes
from compo_mech.runs import recipes
from compo_mech.runs.run import Run
from compo_mech.runs.trajectory import Quantity

ROOT = Path(__file__).parents[2]
BOTH = pytest.mark.parametrize("probe", [SUBTRACTION, UPDATE], ids=lambda probe: probe.name)
TABLES = {
    "position-subtraction": {
        "probes", "interchange", "additive", "row-changes", "scores", "neurons", "without-neurons",
    },
    "state-update": {
        "probes", "interchange", "reads", "subspaces", "neurons", "activations", "additive", "left-out",
        "without-neurons",
    },
}  # fmt: skip
MLP = {"position-subtraction": "MLP 0 subtracts positions: ", "state-update": "MLP 1 updates the state: "}
HEADING = {"position-subtraction": "Positions subtracted?", "state-update": "State updated?"}


def trained(path, name, *settings):
    argv = ["--runs-dir", str(path), "--name", name, "--data.max-length", "4", "--model.d-model", "16",
            "--data.batch-size", "16", "--train.n-steps", "2", "--n-test-strings", "8"]  # fmt: skip
    return launch(parse(recipes.polynomial(), [*argv, "--data.tasks", "parity", *settings]), Console(quiet=True))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Every kind of run that is asked here, trained when it is first asked for."""
    path, made = tmp_path_factory.mktemp("runs"), {}

    def run(name, *settings):
        if name not in made:
            made[name] = trained(path, name, *settings)
        return made[name]

    return run


@pytest.fixture
def run(runs):
    return runs("plain")


@pytest.fixture(autouse=True, scope="module")
def small():
    """What is written does not depend on how many rows are asked, nor on how well a small MLP is fitted."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (position_subtraction, state_update):
            patch.setattr(module, "N_SWAPS", 20)
        patch.setattr(grid, "N_ROWS", 32)
        patch.setattr(probes, "N_STEPS", 2)
        yield


def ask(probe, path, step=None, all_steps=False, task=None, seed=0):
    PROBES[probe.name](path, step, all_steps, task, seed)


def contents(path):
    """Every file of a run's analyses, and its page."""
    files = [*(path / "analysis").rglob("*"), path / "report.html"]
    return {str(file): file.read_bytes() for file in files if file.is_file()}


@pytest.fixture(scope="module")
def asked(runs, tmp_path_factory):
    """By probe, a run that it was asked about at step 1, and what that showed on the terminal."""
    found = {}
    for probe in (SUBTRACTION, UPDATE):
        path = shutil.copytree(runs("plain").path, tmp_path_factory.mktemp("asked") / "plain")
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            ask(probe, path, step=1)
        found[probe.name] = path, shown.getvalue()
    return found


@pytest.fixture
def asked_run(asked, probe, tmp_path):
    """A copy of that run, to be asked again."""
    return Run.open(shutil.copytree(asked[probe.name][0], tmp_path / "plain"))


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links, self.headings, self._heading = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        links = [value for name, value in attrs if name in ("src", "href", "srcset") and value]
        self.links += [link for link in links if not link.startswith("#")]
        self._heading = tag in ("h2", "h3")

    def handle_data(self, data):
        if self._heading and data.strip():
            self.headings.append(data.strip())
            self._heading = False


# ------------------------------------------------------------------------------------ what is kept


@BOTH
def test_tables_findings_and_a_section_are_kept(probe, asked):
    path, shown = asked[probe.name]
    folder = path / "analysis" / f"{probe.name}-000001-parity"
    names = {f"{name}.csv" for name in TABLES[probe.name]}
    assert {file.name for file in folder.iterdir()} == names | {"findings.txt", "section.html", "SHA256SUMS"}
    for name in names:
        assert set(pd.read_csv(folder / name)["network"]) == {"trained", "control"}, name
    findings = (folder / "findings.txt").read_text().splitlines()
    assert findings[0].startswith(MLP[probe.name])
    shown = " ".join(shown.split())
    for sentence in findings:
        assert " ".join(sentence.split()) in shown
    page = Page((path / "report.html").read_text())
    assert page.links == []
    assert page.headings.count(f"{HEADING[probe.name]} parity, step 1") == 1
    section = (folder / "section.html").read_text()
    after = section.partition("</h2>")[2][:200]  # the heading has its anchor there
    assert after.strip()
    assert after in re.sub("<p class=within>.*?</p>", "", (path / "report.html").read_text())


@BOTH
def test_findings_can_be_had_again(probe, asked_run, monkeypatch):
    monkeypatch.setattr(analyse, "write_page", lambda run: run.path)  # the page is no finding
    folder = asked_run.path / "analysis" / f"{probe.name}-000001-parity"
    strip = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")  # names of figures on the page

    def kept():
        files = [file for file in folder.iterdir() if file.name != "SHA256SUMS"]
        return {file.name: strip.sub("", file.read_text()) for file in files}

    first = kept()
    shutil.rmtree(folder)
    ask(probe, asked_run.path, step=1)
    assert kept() == first
    ask(probe, asked_run.path, step=1, seed=1)
    other = kept()
    assert other.keys() == first.keys()
    assert other["probes.csv"] != first["probes.csv"]
    assert other["interchange.csv"] != first["interchange.csv"]


@BOTH
def test_figures_are_followed_over_all_steps_and_other_steps_stay(probe, asked_run):
    run, before = asked_run, contents(asked_run.path)
    ask(probe, run.path, all_steps=True)
    folder = run.path / "analysis" / f"{probe.name}-000002-parity"
    curves = pd.read_csv(folder / "by-step.csv")
    assert run.steps == [0, 1, 2]
    for _, rows in curves.groupby(list(Quantity._fields), dropna=False):
        assert rows["network"].tolist() == ["control", *["trained"] * len(run.steps)]
        assert rows["step"].dropna().tolist() == run.steps
    assert not curves[["value", "low", "high"]].isna().any(axis=None)
    assert ((curves["low"] <= curves["value"] + 1e-9) & (curves["value"] <= curves["high"] + 1e-9)).all()
    assert "Over training" in (folder / "section.html").read_text()
    text = (run.path / "report.html").read_text()
    page = Page(text)
    assert "Over training" in text
    assert page.links == []
    for step in (1, 2):
        assert page.headings.count(f"{HEADING[probe.name]} parity, step {step}") == 1
    after = contents(run.path)
    changed = {Path(name).parent.name for name in before if after[name] != before[name]}
    assert changed <= {folder.name, run.path.name}  # and its page


def test_tasks_of_one_name_are_kept_apart(runs):
    run = runs("mixture", "--data.tasks", "counter(modulus=3)", "counter(modulus=2)")
    ask(UPDATE, run.path)
    folders = sorted((run.path / "analysis").iterdir())
    assert len(folders) == 2
    assert all(folder.name.startswith("state-update-000002-") for folder in folders)  # the last step
    assert [len(pd.read_csv(folder / "activations.csv")) for folder in folders] in (
        [24, 12],
        [12, 24],
    )  # (k + 1) k pairs of both networks


def test_three_layers_are_asked_where_x_is_fetched(runs, capsys):
    run = runs("three", "--model.n-layers", "3")
    ask(UPDATE, run.path)
    assert re.search(r"MLP [12] updates the state", capsys.readouterr().out)
    ask(SUBTRACTION, run.path)
    assert re.search(r"MLP [01] subtracts positions", capsys.readouterr().out)


# ------------------------------------------------------------------------------------- bad input

BAD = [
    ("plain", [], {"step": 3}, "step = 3: must be one of 0 1 2"),
    ("plain", [], {"step": -1}, "step = -1: must be one of 0 1 2"),
    ("plain", [], {"step": 2, "all_steps": True}, "step = 2: goes without all-steps"),
    ("plain", [], {"task": "copy"}, "task = copy: must be one of parity"),
    ("plain", [], {"task": "walk"}, "task = walk: must be one of parity"),
    ("no chain", ["--data.no-chain-of-thought"], {}, "chain_of_thought = False"),
    ("one layer", ["--model.n-layers", "1"], {}, "n_layers = 1: must be at least 2"),
]


@pytest.mark.parametrize(("name", "settings", "asked", "complaint"), BAD, ids=[complaint for *_, complaint in BAD])
@BOTH
def test_bad_input_gets_one_line_and_nothing_is_written(probe, runs, name, settings, asked, complaint, capsys):
    run = runs(name, *settings)
    before = contents(run.path)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        ask(probe, run.path, **asked)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert complaint in said
    assert contents(run.path) == before


@BOTH
def test_a_folder_that_is_no_run_gets_one_line(probe, tmp_path, capsys):
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(SystemExit) as stop:
            ask(probe, path)
        assert stop.value.code == 2
        said = capsys.readouterr().err
        assert "must be a folder that holds a config.json" in said
        assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_strings_too_short_for_the_question_get_one_line(runs, capsys):
    run = runs("short", "--data.max-length", "2")
    before = contents(run.path)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        ask(SUBTRACTION, run.path)
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: pairs (i, j) = 1: must be at least 4")
    assert said.count("\n") == 1
    assert contents(run.path) == before
    ask(UPDATE, run.path)  # two states are enough for an update
    single = runs("single", "--data.max-length", "1")
    with pytest.raises(SystemExit):
        ask(UPDATE, single.path)
    assert "max_length = 1: must be at least 2" in capsys.readouterr().err


def test_a_task_that_cannot_be_asked_leaves_no_other_half_done(runs, capsys):
    run = runs("half", "--data.tasks", "parity", "automaton(transitions=((1,), (0,)))")
    before = contents(run.path)
    with pytest.raises(SystemExit) as stop:
        ask(UPDATE, run.path)
    assert stop.value.code == 2
    assert "automaton" in capsys.readouterr().err
    assert contents(run.path) == before
    assert not (run.path / "analysis").exists()


def test_the_script_takes_its_settings_from_the_command_line(run, monkeypatch, capsys):
    script = str(ROOT / "probes" / "state_update.py")
    monkeypatch.setattr(sys, "argv", [script, str(run.path), "--step", "3"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(script, run_name="__main__")
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: step = 3: must be one of 0 1 2\n"


def test_where_all_runs_fail_there_is_no_table_and_the_reason_is_told(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        over_runs_command((tmp_path / "none",), tmp_path / "table.csv")
    assert stop.value.code == 2
    assert not list(tmp_path.iterdir())
    told = capsys.readouterr()
    assert "must be a folder that holds a config.json" in told.out
    assert told.err == "error: runs = 1: must hold one that can be analysed, all failed\n"
