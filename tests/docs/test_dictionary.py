"""The data dictionary has every file, column and metric that a run and its analyses leave, and no other."""

import csv
import json
import re
from functools import partial

import pytest
from pages import DOCS

import compo_mech.__main__ as shell
from compo_mech.analyses import alignment
from compo_mech.analyses.watch import ACCURACY
from compo_mech.causal.das import align
from compo_mech.launch import main
from compo_mech.runs import recipes
from compo_mech.runs.run import COLUMNS, Run

TEXT = (DOCS / "data-dictionary.md").read_text(encoding="utf-8")
TRAINING = (
    "--name one --data.tasks parity copy --data.curriculum --data.task-weights 1 1 --data.max-length 4 "
    "--data.n-train-strings 6 --model.d-model 16 --model.d-mlp 16 --n-test-strings 8 --train.n-steps 12 "
    "--train.snapshot-every 2"
)
ANALYSES = (
    "dissect RUN",
    "watch RUN --task parity --n-workers 1",
    "align RUN --task parity --all-steps",
    "probe position-subtraction RUN --task parity",
    "probe state-update RUN --task parity --all-steps",
)
SELDOM = {"rises.csv", "circuit_checks.csv", "circuit.json"}
"""Files that are empty, or not there, of a network that learnt nothing."""


def names(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


def first_column(text: str, header: str) -> set[str]:
    """The names in the first column of the tables whose first column has this header."""
    found = re.findall(rf"^\| {header} \|.*\n\|[-|]+\n((?:^\|.*\n?)*)", text, flags=re.M)
    return {name for table in found for line in table.splitlines() for name in names(line.split(" | ")[0])}


SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", TEXT, flags=re.M | re.S))
"""The text of each section, by its heading."""


PARTS = r"^### ([^\n]+)\n(.*?)(?=^### |\Z)"
"""A heading within a section, and what stands below it."""


def columns(analysis: str, file: str) -> set[str]:
    """The columns of a file by the dictionary."""
    (section,) = (text for heading, text in SECTIONS.items() if analysis in heading.split(", "))
    same = {"by-step.csv": "interchange.csv"} if analysis == "alignment" else {}
    found: set[str] = set()
    for heading, text in re.findall(PARTS, section, flags=re.M | re.S):
        if same.get(file, file) in heading.split(" of ")[0].split(", "):
            found |= first_column(text, "column")
    if analysis in ("position-subtraction", "state-update"):
        if file in ("interchange.csv", "reads.csv", "subspaces.csv"):
            found |= columns("alignment", "interchange.csv") - {"follows", "keeps", "n", "step"}
        if file == "by-step.csv":
            found |= columns("watch", "by-step.csv")
    return found


def metric(name: str) -> str:
    return re.sub(r"^offset_[+-]\d+$", "offset_…", name)


def train(folder, words=TRAINING) -> Run:
    main.main(recipes.parity(), [*words.split(), "--runs-dir", str(folder)])
    return Run.open(folder / "one")


def test_every_file_column_and_metric_of_a_trained_run(tmp_path):
    run = train(tmp_path)
    assert set(run.metrics.columns) == set(COLUMNS) == first_column(SECTIONS["metrics.csv"], "column")
    assert {metric(name) for name in run.metrics["metric"]} == first_column(SECTIONS["metrics.csv"], "metric")
    assert set(run.metrics["split"]) <= names(SECTIONS["metrics.csv"])
    files = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}
    told = first_column(SECTIONS["The run's folder"], "file")
    patterns = {re.sub(r"\d{6}", "000600", file) for file in files}
    assert patterns <= told
    assert {file for file in told if "/" in file or file in files} - patterns == {"analysis/", "analysis/.cache/"}
    for name in ("config.json", "environment.json"):
        held = set(json.loads((run.path / name).read_text()))
        (row,) = (line for line in TEXT.splitlines() if line.startswith(f"| `{name}`"))
        assert names(row) - {name} == held | ({"trained_at_once"} if name == "environment.json" else set())


@pytest.mark.slow
def test_every_file_and_column_of_its_analyses(tmp_path, monkeypatch):
    run = train(tmp_path)
    for name in ("N_TRAIN", "N_TEST", "N_MAP"):
        monkeypatch.setattr(alignment, name, 16)
    monkeypatch.setattr(alignment, "align", partial(align, n_steps=3))
    for command in ANALYSES:
        shell.main([str(run.path) if word == "RUN" else word for word in command.split()])
    told = first_column(SECTIONS["The run's folder"], "file")
    headers: dict[tuple[str, str], set[str]] = {}
    for path in run.path.glob("analysis/[!.]*/*"):
        if path.suffix != ".csv":
            assert path.name in told
            continue
        with path.open() as file:
            header = {"*a number*" if name.isdigit() else name for name in next(csv.reader(file), [])}
        headers.setdefault((path.parent.name.split("-0000")[0], path.name), set()).update(header)
    for (analysis, name), header in headers.items():
        assert header <= columns(analysis, name) | {"*a number*"}, f"{analysis}/{name}"
    for analyses, text in SECTIONS.items():
        for heading, part in re.findall(PARTS, text, flags=re.M | re.S):
            files = set(re.findall(r"[\w-]+\.csv", heading)) - SELDOM
            files |= {"by-step.csv"} if analyses == "alignment" else set()
            left = [headers[key] for key in headers if key[0] in analyses.split(", ") and key[1] in files]
            if files:
                assert left, f"{analyses}/{heading}: is not there"
                assert first_column(part, "column") <= set().union(*left), f"{analyses}/{heading}"
    followed = set(run.table("watch", "by-step")["measure"])
    assert ACCURACY.measure in followed
    own = first_column(SECTIONS["watch"], "measure")
    assert own <= followed
    assert followed - own <= first_column(SECTIONS["metrics.csv"], "metric")
