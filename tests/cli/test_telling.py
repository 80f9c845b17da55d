import io

import pandas as pd
import pytest
from rich.console import Console

from compo_mech.cli.errors import one_line_errors
from compo_mech.cli.output import Output, keep, table_of
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.run import Run


def test_what_is_wrong_is_one_line_and_code_2(capsys):
    for error in (ValueError("n = 0: must be at least 1"), RunError("run = x: has no checkpoint")):
        with pytest.raises(SystemExit) as stop, one_line_errors():
            raise error
        assert stop.value.code == 2
        assert capsys.readouterr().err == f"error: {error}\n"
    for error in (MemoryError(), MemoryError("  "), ValueError(), OSError(), ValueError("a = \x1b[31m\u202e: no")):
        with pytest.raises(SystemExit) as stop, one_line_errors():
            raise error  # without a word, or with words for the terminal
        assert stop.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.isprintable()
        assert type(error).__name__ in line or line == r"error: a = \x1b[31m\u202e: no"
    with pytest.raises(KeyError), one_line_errors():  # a defect of ours is not the user's
        raise KeyError("x")


def test_an_analysis_is_kept_and_told(tmp_path, tiny):
    run = Run.create(tmp_path / "one", tiny)
    console = Console(record=True, width=200, file=io.StringIO())
    said = {"": ["First."], "parity and copy": ["Second."]}
    output = Output("look-000008-parity", "parity, step 8", {"a.csv": "x\n1\n"}, said, pd.DataFrame({"n": [3]}))
    keep(run, output, console, None, ["experiments/x.py", "a b"])
    folder = run.path / "analysis" / "look-000008-parity"
    assert {file.name for file in folder.iterdir()} == {"a.csv", "findings.txt", "SHA256SUMS"}
    assert (folder / "findings.txt").read_text() == "First.\nSecond.\n"
    assert run.found("look", "a.csv") == "x\n1\n"
    assert run.table("look", "a").to_dict("list") == {"x": [1]}
    told = r"must have a b\.csv in look-000008-parity, its latest of look \(there are a\.csv"
    with pytest.raises(RunError, match=told):
        run.table("look", "b")
    assert repr(run) == f"Run({str(run.path)!r}: parity, no checkpoint yet)"
    lines = console.export_text().splitlines()
    assert lines[0] == "parity, step 8"
    assert lines[-4:-1] == ["• First.", "parity and copy", "• Second."]
    assert str(folder) in lines[-1]


def test_the_latest_analysis_is_found_by_its_step_as_a_number(tmp_path, tiny):
    run = Run.create(tmp_path / "one", tiny)
    for step in (999_999, 1_000_000, 8):
        run.write_analysis(f"look-{step:06d}-parity", {"a.txt": str(step)})
    assert run.found("look", "a.txt") == "1000000"
    with pytest.raises(RunError, match="must have been analysed by dissect first"):
        run.found("dissect", "a.txt")


def test_a_table_must_be_there_and_have_its_columns(tmp_path):
    path = tmp_path / "t.csv"
    pd.DataFrame({"a": [1], "b": [2]}).to_csv(path, index=False)
    assert list(table_of(path, "x.py", ["a"])) == ["a", "b"]
    with pytest.raises(ValueError, match=r"must be a table by x\.py \(it has no column c\)"):
        table_of(path, "x.py", ["a", "c"])
    with pytest.raises(ValueError, match=r"must be a table by x\.py"):
        table_of(tmp_path / "none.csv", "x.py", [])
