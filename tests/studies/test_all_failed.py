"""Where every run failed, the table is shown and written, and the command ends with one line and code 2."""

import pandas as pd
import pytest

from compo_mech.launch import sweep_command
from compo_mech.launch.how import How
from compo_mech.studies import seeds


def failed(capsys, command, *given, **named):
    with pytest.raises(SystemExit) as stop:
        command(*given, **named)
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert "no memory" in shown.out
    (line,) = shown.err.splitlines()
    return line


@pytest.mark.parametrize("state", ["failed", "done"])
def test_seeds(monkeypatch, capsys, state):
    rows = [{"seed": 0, "run": "a", "failed": "no memory"}, {"seed": 1, "run": "b", "failed": "no memory"}]
    if state == "done":  # of one of them
        rows[1] = {"seed": 1, "run": "b", "accuracy": 1.0}
    monkeypatch.setattr(seeds, "seed_runs", lambda *given: rows)
    if state == "done":
        seeds.seeds_command("parity", 2)
    else:
        assert failed(capsys, seeds.seeds_command, "parity", 2).startswith(
            "error: runs = 2: none was trained to its end"
        )


def test_a_sweep(monkeypatch, capsys, tmp_path):
    row = {"run": "a", "path": "runs/a", "state": "failed", "error": "no memory"}
    monkeypatch.setattr(sweep_command, "sweep", lambda *given: pd.DataFrame([row]))
    command, how = sweep_command.sweep_command, How(runs_dir=tmp_path)
    assert failed(capsys, command, "parity", how=how).startswith("error: runs = 1: none was trained to its end")
    assert pd.read_csv(tmp_path / "sweep.csv")["error"].tolist() == ["no memory"]
