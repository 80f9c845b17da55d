"""Whatever a script is given, it ends with one line that names what is wrong, and code 2; nothing is written."""

import runpy
import sys
from pathlib import Path

import pandas as pd
import pytest

from compo_mech.cli.output import table_of

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(
    path.relative_to(ROOT) for name in ("experiments", "probes", "figures") for path in (ROOT / name).glob("*.py")
)
STUDIES = [script.stem for script in SCRIPTS if "main(STUDY" in (ROOT / script).read_text(encoding="utf-8")]
TABLES = ("emergence", "mechanism", "scaling", "study")
LONG = f"{'x' * 60}/{'y' * 60}"


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Calls a script, and gives the line with which it ends."""
    monkeypatch.chdir(tmp_path)

    def of(script, words):
        before = sorted(tmp_path.rglob("*"))
        monkeypatch.setattr(sys, "argv", [str(script), *words.split(" ")] if words else [str(script)])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        said = capsys.readouterr().err
        assert stop.value.code == 2, said
        (line,) = said.splitlines()
        assert line.startswith("error: ")
        assert sorted(tmp_path.rglob("*")) == before
        return line.removeprefix("error: ")

    return of


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
def test_every_script_refuses_what_it_does_not_know(script, refused):
    needed = {"circuit_graph": "a b", "study": "a b c", "task_and_circuit": "a"}.get(script.stem, "a b")
    words = "--wings 2" if script.parts[0] == "experiments" else f"{needed} --wings 2"
    assert "wings" in (line := refused(script, words)) or "missing" in line


ARGUMENTS = {
    **dict.fromkeys(STUDIES, ()),
    "ablations": (
        ("--n-seeds -1", "n_seeds = -1: "),
        ("--n-seeds 2.5", "n_seeds = '2.5': must be an integer"),
        ("--n-seeds", "n_seeds = missing: must be given"),
        (f"--n-seeds {LONG}", f"n_seeds = '{LONG}': must be an integer"),
        ("--n-seeds 99999999999999999999", "n_seeds = 99999999999999999999: "),
        ("--n-workers 0", "n_workers = 0: "),
        ("--n-workers 100000", "n_workers = 100000: "),
        ("--device abacus", "device = 'abacus': must be one of cpu"),
        ("--out no/table.csv", "out = no/table.csv: must be in a folder that exists"),
        ("--out table.txt", "out = table.txt: must end in .csv"),
        ("one", "one: there is no such setting"),
    ),
    "seeds": (
        ("parity --n-seeds -1", "n_seeds = -1: "),
        ("parity --n-seeds 0", "n_seeds = 0: "),
        ("parity --n-workers 0", "n_workers = 0: "),
        ("", "recipe = missing: must be given"),
        ("walk", "recipe = 'walk': must be one of"),
    ),
    "sweep": (
        ("parity --n-seeds -1", "n_seeds = -1: "),
        ("parity --n-workers 0", "n_workers = 0: "),
        ("parity --out no/t.csv", "out = no/t.csv: must be in a folder that exists"),
        ("parity model.d_model=", "axis = 'model.d_model=': must be"),
        ("parity d=1", "d = 1: there is no such setting"),
    ),
    "align": (
        ("", "run = missing: must be given"),
        ("run --seed -1", "seed = -1: "),
        ("run --seed 99999999999999999999", "seed = 99999999999999999999: "),
        ("run --step 1.5", "step = '1.5': must be an integer"),
        ("run --step -1", "step = -1: "),
        ("run other", "other: there is no such setting"),
    ),
    "dissect": (("run --seed -1", "seed = -1: "), ("run --step -3", "step = -3: "), ("/dev/null", "run = /dev/null: ")),
    "watch": (
        ("run --n-workers 0", "n_workers = 0: "),
        ("run --every 0", "every = 0: "),
        ("run --seed x", "seed = 'x': must be an integer"),
        ("run", "run = run: must be a folder that holds a config.json"),
    ),
    "compare": (("", "runs = (): must have at least 1"), ("run --out no/page.html", "out = no/page.html: must be ")),
    "emergence": (
        ("", "command = missing: must be one of train, watch"),
        ("watch", "runs = (): must have at least 1"),
        ("watch run --n-workers 0", "n_workers = 0: "),
        ("watch run --out no/t", "out = no/t.csv: must be in a folder that exists"),
        ("train --out no/t", "out = no/t.csv: must be in a folder that exists"),
        ("train --n-seeds -1", "n_seeds = -1: "),
        ("train --snapshot-every 0", "snapshot_every = 0: "),
    ),
    "grade_methods": (
        ("--n-pairs 0", "n_pairs = 0: "),
        ("--n-workers 0", "n_workers = 0: "),
        ("--out no", "out = no/method_card.csv: must be in a folder that exists"),
    ),
    "train_in_circuits": (
        ("--n-workers 0", "n_workers = 0: "),
        ("--out no", "out = no/networks.json: must be in a folder that exists"),
    ),
    "bench_ensemble": (
        ("--device abacus", "device = 'abacus': must be one of cpu"),
        ("--sizes 0", "sizes.0 = 0: "),
        ("--sizes", "sizes = (): must have at least 1"),
        ("--n-threads 100000", "n_threads = 100000: "),
        ("--d-model -1", "d_model = -1: "),
    ),
    "outcomes": (
        ("--n-seeds 0", "n_seeds = 0: "),
        ("--device abacus", "device = 'abacus': must be one of cpu"),
        ("--out outcomes.txt", "out = outcomes.txt: must end in .csv"),
    ),
    "bench_gpu": (
        ("", "device = 'cuda': must be one of cpu"),
        ("--device cpu --sizes 0", "sizes.0 = 0: "),
        ("--device cpu --parts", "parts = (): must have at least 1"),
        ("--device cpu --out seeds.txt", "out = seeds.txt: must end in .csv"),
    ),
    "bench_patching": (
        ("--device cuda:99", "device = 'cuda:99': must be one of cpu"),
        ("--n-rounds 0", "n_rounds = 0: "),
        ("--n-prompts 0", "n_prompts = 0: "),
    ),
    "bench_training": (
        ("--device abacus", "device = 'abacus': must be one of cpu"),
        ("--parts", "parts = (): must have at least 1"),
        ("--n-seeds 0", "n_seeds = 0: "),
        ("--n-rounds 0", "n_rounds = 0: "),
    ),
    "bench_watching": (("run --n-checkpoints 0", "n_checkpoints = 0: "), ("", "path = missing: must be given")),
    "position_subtraction": (("run --seed -1", "seed = -1: "), ("run --task", "task = missing: must be given")),
    "state_update": (("run --step x", "step = 'x': must be an integer"), ("", "run = missing: must be given")),
    "over_runs": (
        ("--out t.csv", "runs = (): must have at least 1"),
        ("run --out no/t.csv", "out = no/t.csv: must be in a folder that exists"),
        ("run --out t.csv --seed -1", "seed = -1: "),
    ),
    "grokking": (),
    "cleanliness": (
        ("--out page.html", "runs = (): must have at least 1"),
        ("run --out page.html --measure x", "measure = 'x': "),
        ("run", "--out = missing: must be given"),
    ),
    "iteration_head": (
        ("run --out page.html --length 0", "length = 0: "),
        ("run --out page.html --steps -1", "steps.0 = -1: "),
    ),
    "length_by_dimension": (("--out page.html", "runs = (): must have at least 1"),),
    "position_geometry": (("--out page.html", "runs = (): must have at least 1"),),
    "route_map": (
        ("run --out page.html --seed -1", "seed = -1: "),
        ("--out page.html", "runs = (): must have at least 1"),
    ),
    "study": (("t.csv --out page.html", "measures = (): must have at least 1"),),
    "task_and_circuit": (("--out no/page.html", "out = no/page.html: must be in a folder that exists"),),
}  # fmt: skip
CASES = [(name, words, told) for name, cases in ARGUMENTS.items() for words, told in cases]


@pytest.mark.parametrize(("name", "words", "told"), CASES, ids=[f"{name} {words[:40]}" for name, words, _ in CASES])
def test_one_line_says_what_is_wrong(name, words, told, refused):
    (script,) = (
        script
        for script in SCRIPTS
        if script.stem == name and (name not in ("emergence", "outcomes") or script.parts[0] == "experiments")
    )
    assert refused(script, words).startswith(told)


@pytest.mark.parametrize("name", [name for name in TABLES if name != "study"])
@pytest.mark.parametrize("value", ["soon", True, "n/e"])
def test_text_where_a_figure_needs_numbers(name, value, refused, tmp_path):
    module = runpy.run_path(str(ROOT / "figures" / f"{name}.py"))
    row = dict.fromkeys(module["COLUMNS"], "x") | dict.fromkeys(module["NUMBERS"], 1.0)
    pd.DataFrame([row, row | {module["NUMBERS"][-1]: value}]).to_csv(tmp_path / "t.csv", index=False)
    line = refused(Path("figures") / f"{name}.py", "t.csv --out page.html")
    assert f"its column {module['NUMBERS'][-1]} has " in line


def test_tables_that_say_nothing(tmp_path):
    file = tmp_path / "t.csv"
    for content, told in (
        ("", "No columns to parse"),
        ("name,value\n", "it has no rows"),
        ("name\nx\n", "it has no column value"),
        ("name,value\nx,y\n", "its column value has 'y', which is no number"),
        ("name,value\nx,True\n", "its column value has True, which is no number"),
    ):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=told):
            table_of(file, "x.py", ["name"], ["value"])
    file.write_bytes("name,value\n\xe9,1\n".encode("latin-1"))
    with pytest.raises(ValueError, match="can't decode"):
        table_of(file, "x.py", ["name"], ["value"])
    file.write_text("name,value\n007,1\n", encoding="utf-8")
    assert table_of(file, "x.py", ["name"], ["value"])["name"].tolist() == ["007"]  # a name, whatever it looks like


def test_an_output_that_is_a_folder(refused, tmp_path):
    (tmp_path / "page.html").mkdir()
    line = refused(Path("figures/task_and_circuit.py"), "--out page.html")
    assert line == "out = page.html: cannot be written (must be a file, or not be there yet)"
