"""Several runs dissected by one command: each as alone, and a table of what was found."""

import shutil

import pandas as pd
import pytest

from compo_mech.cli.commands import dissect_command
from compo_mech.interventions.edges import all_edges
from compo_mech.runs.run import Run


def test_what_cannot_be_read_is_told_before_anything_is_computed(tmp_path, capsys):
    (tmp_path / "two").mkdir()
    with pytest.raises(SystemExit) as stopped:
        dissect_command((tmp_path / "one", tmp_path / "two"))
    assert stopped.value.code == 2
    told = capsys.readouterr()
    assert [line.split(":")[0] for line in told.out.splitlines()] == ["left out"] * 2
    assert told.err == "error: runs = 2: must hold one that can be read, and none can\n"


@pytest.mark.parametrize(
    ("step", "is_there"),
    [(None, False), (7, True), *(pytest.param(*both, marks=pytest.mark.slow) for both in ((None, True), (7, False)))],
)
def test_where_no_run_can_be_dissected_that_is_told_and_nothing_is_left(step, is_there, tiny_run, tmp_path, capsys):
    paths = tuple(shutil.copytree(tiny_run.path, tmp_path / name / "run") for name in ("a", "b"))
    if step is None:  # what is damaged is not read before it is asked
        for run in map(Run.open, paths):
            (run.folder / f"{run.steps[-1]:06d}.safetensors").write_bytes(b"damaged")
    out = tmp_path / "deep" / "out"
    if is_there:
        out.mkdir(parents=True)
    else:
        out.parent.mkdir()
    with pytest.raises(SystemExit) as stopped:
        dissect_command(paths, step=step, out=out, n_workers=1)
    assert stopped.value.code == 2
    told = capsys.readouterr()
    assert told.err == "error: runs = 2: must hold one that can be dissected, and none can\n"
    why = "is damaged" if step is None else "step = 7: must be"
    assert " ".join(told.out.split()).count(why) == 2
    assert out.exists() == is_there
    assert list(out.parent.iterdir()) == ([out] if is_there else [])
    assert not is_there or not list(out.iterdir())


@pytest.mark.slow
def test_each_of_several_is_dissected_as_alone(trained_tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    folders = [shutil.copytree(trained_tiny, tmp_path / name / "run") for name in ("a", "b", "c")]
    last = Run.open(folders[2])
    (last.folder / f"{last.steps[-1]:06d}.safetensors").write_bytes(b"damaged")
    dissect_command((folders[0],))
    capsys.readouterr()
    (tmp_path / "out").mkdir()
    dissect_command((*folders[1:], folders[1]), out=tmp_path / "out", n_workers=2)
    said = capsys.readouterr().out
    assert "c/run: " in said  # why it has no row
    assert "1 of 2 runs dissected" in said
    (row,) = (line for line in said.splitlines() if line.startswith("b/run"))
    assert row.split()[1] == "parity"
    assert "of 1 network, a fraction of" in said
    edges = pd.read_csv(tmp_path / "out" / "edges_over_runs.csv")
    assert len(edges) == len(all_edges(last.config.model))
    folder, alone = tmp_path / "out" / "b" / "run", folders[0] / "analysis"
    (name,) = (path.name for path in alone.iterdir())
    assert {path.name for path in (folder / name).iterdir()} == {path.name for path in (alone / name).iterdir()}
    for file in (alone / name).glob("*.csv"):
        assert (folder / name / file.name).read_bytes() == file.read_bytes(), file.name
    again = (folder / name / "section.html").read_text()
    assert f"python -m compo_mech dissect {folders[1]} --seed 0 --out {folder}" in again
    assert not (folders[1] / "analysis").exists()
