import re
import runpy
import sys
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import torch
from rich.console import Console

from compo_mech.analyses import dissection as dissection_module
from compo_mech.analyses import network_findings
from compo_mech.analyses.dissection import dissect, routes_sentence
from compo_mech.circuits.circuit import from_json
from compo_mech.circuits.faithfulness import random_curves
from compo_mech.circuits.prompts import circuit_pairs
from compo_mech.cli.commands import dissect_command
from compo_mech.cli.dissect import DissectionOfRun
from compo_mech.data.tasks import Automaton, Parity, Polynomial
from compo_mech.ground_truth.build import build
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.launch.run import launch
from compo_mech.launch.settings import parse
from compo_mech.model.params import Model, init_params
from compo_mech.plots.theme import subscripts
from compo_mech.report import run_page
from compo_mech.report.dissection import dissection_section
from compo_mech.report.method_card import card_sentence
from compo_mech.routes.summary import RouteName
from compo_mech.runs import recipes
from compo_mech.runs.analysis_folder import analysis_name
from compo_mech.settings import changed

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def found():
    torch.set_num_threads(1)
    built = build(Parity(), max_length=4, rungs=BuildOptions(distractors=True, rotated=True))
    return built, dissect(built.model, built.data, Parity(), 0, built.shifts, n_pairs=16, n_strings=16)


def test_a_hand_built_model_is_found_out(found):
    built, dissection = found
    own, control = dissection.trained, dissection.control
    assert own.heads.iteration is not None
    assert str(own.heads.iteration.writer) == "L1H0"
    assert own.discovery.verdict == "circuit"
    assert own.discovery.circuit is not None
    assert own.discovery.circuit <= built.edges
    assert own.routes is not None
    assert own.routes.summary().name == RouteName.TEXTBOOK
    assert own.curve.cpr is not None
    assert own.random is not None
    assert own.curve.cpr > own.random.cpr.high
    assert own.patching.heads[1, 0].max() > 0.1
    assert own.patching.heads[:, 1].abs().max() < 1e-5
    assert own.patching.spans[1, 0].argmax() == 3  # the states
    assert control.discovery.verdict == "cannot be told"
    assert control.routes is not None
    assert control.routes.summary().name == RouteName.NO_ROUTE
    assert "L1H0 is the iteration head" in dissection.sentences[0]
    assert dissection.sentences[-1].startswith("A randomly initialised network: cannot be told")


def test_every_table_holds_the_control(found):
    built, dissection = found
    tables = dissection.tables()
    assert set(tables) == {
        "heads", "ablations", "subsets", "greedy", "patching", "edges", "circuit", "circuit_checks", "accuracy",
        "faithfulness", "routes",
    }  # fmt: skip
    for name, table in tables.items():
        if name not in ("routes", "circuit_checks"):
            assert set(table["network"]) == {"trained", "control"}, name
    assert len(tables["subsets"]) == 2 * 15
    content = DissectionOfRun(None, 0, pd.DataFrame()).files(dissection)
    circuit = from_json(content["circuit.json"], built.model.config)
    assert circuit.edges == dissection.trained.discovery.circuit


def test_whether_the_circuit_is_the_only_one_is_said_and_tabled(found):
    own = found[1].trained
    assert own.checks is not None
    assert found[1].control.checks is None
    over, other, tests = own.checks.sentences
    assert over.startswith("Over other prompts the circuit is stable: circuits of 100 bootstrap resamples")
    assert other.startswith("Whether it is the only one: no second faithful circuit found among ")
    assert tests.startswith("Tests of the circuit hypothesis: sufficient: nearer to the network than 1.00 of random")
    assert {over, other, tests} <= set(found[1].sentences)
    table = own.checks.table().set_index("asked")
    assert table.loc["overlap of resamples", "needed"] == 0.8
    assert table.loc["independence", "passed"] is None
    unknown = replace(own.checks, alternative=None)
    assert unknown.sentences[1] == (
        "Whether it is the only one: cannot be told, since the circuit is not near the network."
    )
    assert len(unknown.table()) == len(table) - 1


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.headings, self._heading = [], [], False

    def handle_starttag(self, tag, attrs):
        links = [value for name, value in attrs if name in ("src", "href", "srcset") and value]
        self.links += [link for link in links if not link.startswith("#")]
        self._heading = tag in ("h2", "h3")

    def handle_data(self, data):
        if self._heading and data.strip():
            self.headings.append(data.strip())
            self._heading = False


def test_the_section_says_what_was_found(found):
    _, dissection = found
    card = pd.DataFrame({"family": "hand-built", "method": ["exact", "EAP"], "auc_all": [0.97, 0.5],
                         "counterfactual": "varied length, shifted", "top_is_truth": [True, False]})  # fmt: skip
    others = card.assign(family="Tracr", auc_all=0.1)
    assert card_sentence(pd.concat([card, others]), dissection) == card_sentence(card, dissection)
    section = dissection_section(dissection, card)
    assert "On 1 hand-built circuits" in section
    assert "area under the ROC curve of 0.97, and its highest" in section
    card = pd.concat([card, card.assign(auc_all=[0.9996, 0.5])])
    assert "area under the ROC curve of 0.97 to 0.9996, and its" in card_sentence(card, dissection)
    assert "area under the ROC curve of 1.00, and its" in card_sentence(card.assign(auc_all=1.0), dissection)
    assert "or more" not in card_sentence(card, dissection)
    assert "has no row for that" in card_sentence(None, dissection)
    other = replace(dissection, counterfactual="token, same length, shifted", max_shift=1)
    assert "same length, shifted (by at most 1)" in card_sentence(card, other)
    assert "has no row for that" in card_sentence(card, other)
    for sentence in dissection.sentences:
        assert subscripts(sentence) in section


def test_what_a_head_costs_is_one_figure(found):
    """In sentences, in the table of ablations and in that of sets of heads."""
    for of in (found[1].trained, found[1].control):
        costs = {role.writer: role.cost for role in of.heads.roles}
        for table in (of.ablations, of.subsets):
            own = {c.components[0]: c.cost for c in table if c.baseline == "mean" and len(c.components) == 1}
            assert costs.items() <= own.items()


@pytest.mark.parametrize(
    ("share", "heads", "said"),
    [
        (0.87, (0.9, 0.0), "Its routes are not those of a textbook network: the textbook's carry 0.87 of"),
        (0.8999, (0.5, 0.4), "Its routes are not those of a textbook network: the textbook's carry 0.8999 of"),
        (0.9, (0.0, 0.9), "Its routes are the textbook's: they carry 0.90 of x_t's effect (0.9 needed; control 0.02)."),
        (0.97, (0.2,), "Its routes are the textbook's: they carry 0.97 of"),
        (0.97, (0.8999, 0.05), "Its routes are the textbook's, through several heads: they carry 0.97 of"),
    ],
)
def test_routes_are_judged_by_a_figure_beside_its_threshold_and_control(found, share, heads, said):
    routes = found[1].trained.routes.summary()
    own, control = (replace(routes, shares={RouteName.TEXTBOOK: value}, heads=heads) for value in (share, 0.02))
    assert routes_sentence(own, control).startswith(said)
    assert "(0.9 needed; control 0.02)" in routes_sentence(own, control)
    assert "cannot be told" in routes_sentence(replace(own, n_cells=0, shares={}), control)


@pytest.fixture
def quick(monkeypatch):
    """What is written does not depend on how many pairs and strings are asked, nor on how many random curves."""
    monkeypatch.setattr(dissection_module, "dissect", partial(dissect, n_pairs=6, n_strings=8))
    monkeypatch.setattr(network_findings, "random_curves", lambda found, n, *more: random_curves(found, 2, *more))


@pytest.fixture
def dissect_script(monkeypatch, quick):
    """The script as from the command line."""

    def call(*arguments):
        script = ROOT / "experiments" / "dissect.py"
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        runpy.run_path(str(script), run_name="__main__")

    return call


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    argv = ["--runs-dir", str(runs), "--name", "one", "--data.max-length", "4", "--model.d-model", "16",
            "--train.n-steps", "6", "--n-test-strings", "8"]  # fmt: skip
    return launch(parse(recipes.parity(), argv), Console(quiet=True))


def test_the_script_adds_to_the_page_and_keeps_tables(run, dissect_script, capsys):
    dissect_script(run.path)
    assert "no work of heads to name" in " ".join(capsys.readouterr().out.split())
    folder = run.path / "analysis" / "dissect-000006-parity"
    assert {"heads.csv", "edges.csv", "routes.csv", "findings.txt", "section.html"} <= {
        f.name for f in folder.iterdir()
    }
    dissect_script(run.path, "--step", 2)
    page, text = Page(), (run.path / "report.html").read_text()
    page.feed(text)
    assert page.links == []
    taken = [heading for heading in page.headings if heading.startswith("Taken apart")]
    assert taken == ["Taken apart: parity, step 6", "Taken apart: parity, step 2"]  # the earlier one is folded away
    assert page.headings.index(taken[1]) < page.headings.index("How to reproduce")
    assert len(text) < 4_000_000
    again = run_page.write_page(run).read_text()
    strip = re.compile(r'id="[0-9a-f-]{36}"|[0-9a-f]{8}-[0-9a-f-]{27}')
    assert strip.sub("", again) == strip.sub("", text)  # the page can be made anew from the run


def test_bad_input_gets_one_line(run, tmp_path, dissect_script, capsys):
    for arguments, complaint in (
        ((tmp_path / "nothing",), "must be a folder that holds a config.json"),
        ((run.path, "--step", 3), "step = 3: must be one of 0 1 2 4 6"),
    ):
        with pytest.raises(SystemExit) as stop:
            dissect_script(*arguments)
        assert stop.value.code == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert complaint in line
    built = build(Parity(), max_length=3)
    with pytest.raises(ValueError, match="task = polynomial: must be one of parity"):
        dissect(built.model, built.data, Polynomial(), 0, built.shifts)


@pytest.mark.parametrize("shift", [0, 1, 2])
@pytest.mark.parametrize("n_spare", [0, 9])
def test_pairs_of_a_run_move_what_was_trained_however_much_room_there_is(shift, n_spare):
    weights = (0, 1, 1, 0, 0, 0, 1, 1)
    config = recipes.polynomial()
    config = changed(config, {"data.length_weights": weights, "train.max_position_shift": shift})
    config = changed(config, {"model.n_ctx": config.n_ctx + shift + n_spare})
    model = Model(init_params(config.model, 20, config.n_ctx, torch.Generator().manual_seed(0)), config.model)
    pairs = circuit_pairs(model, config.data, 64, torch.Generator().manual_seed(0), Polynomial(), config.shifts)
    moved = pairs.corrupt_position_ids - pairs.clean_position_ids
    assert set(moved.flatten().tolist()) == set(range(1, shift + 1)) or shift == int(moved.max()) == 0
    for lengths in (pairs.lengths, pairs.corrupt_lengths):
        assert set(lengths.tolist()) == {2, 3, 7, 8}


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(["--model.n-layers", "1"], id="one layer"),
        pytest.param(["--data.no-chain-of-thought"], id="no chain of thought"),
        pytest.param(["--data.min-length", "4"], id="one length"),
        pytest.param(
            ["--data.tasks", "parity", "copy", "--data.task-weights", "1", "1", "--data.curriculum"],
            id="a mixture",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_any_run_can_be_taken_apart(settings, tmp_path, quick):
    argv = ["--runs-dir", str(tmp_path), "--name", "one", "--data.max-length", "4", "--model.d-model", "16",
            "--train.n-steps", "2", "--n-test-strings", "8", *settings]  # fmt: skip
    run = launch(parse(recipes.parity(), argv), Console(quiet=True))
    dissect_command((run.path,))
    for task in run.config.data.measured_tasks:
        assert (run.path / "analysis" / f"dissect-000002-{task}" / "section.html").exists()
    several = len(run.config.data.measured_tasks) > 1
    assert ("What the tasks share" in list(run.sections.values())[-1]) == several
    if "--data.min-length" in settings:
        assert "token, same length, shifted (by at most 2)" in next(iter(run.sections.values()))


def test_a_circuit_that_is_none_is_not_shown(found):
    _, dissection = found
    refused = replace(dissection.trained.discovery, verdict="no circuit")
    hidden = replace(dissection, trained=replace(dissection.trained, discovery=refused))
    assert hidden.circuit is None
    assert not hidden.tables()["edges"]["in_circuit"].any()
    assert "all edges that matter" in dissection_section(dissection, None)
    assert "all edges that matter" not in dissection_section(hidden, None)


def test_a_task_of_many_words_gets_a_short_folder():
    table = tuple(tuple((i + j) % 12 for j in range(12)) for i in range(12))
    names = {analysis_name("dissect", 0, Automaton(transitions=table[k:] + table[:k])) for k in (0, 1)}
    assert len(names) == 2
    assert max(map(len, names)) < 100
