"""What a sweep costs: the arithmetic by hand, and that hours have to be asked for."""

import io
import runpy
import sys
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

import compo_mech.__main__ as shell
from compo_mech.launch import cost
from compo_mech.launch.cost import check_cost
from compo_mech.launch.group_timing import seconds_a_run
from compo_mech.launch.how import How
from compo_mech.launch.slurm_settings import SlurmConfig
from compo_mech.runs import recipes
from compo_mech.settings import changed

ROOT = Path(__file__).parents[2]
PARITY = recipes.parity()
WIDE = changed(PARITY, {"model.d_model": 128})


def kinds(n_kinds, n_steps=1000):
    return [changed(PARITY, {"model.d_model": 8 * i, "train.n_steps": n_steps * i, "data.curriculum": ()})
            for i in range(1, n_kinds + 1)]  # fmt: skip


@pytest.fixture
def timed(monkeypatch):
    """What is timed, each kind 10 s a run; 20 s where it is wide."""
    asked = []

    def seconds(config, n, device):
        asked.append((config.model.d_model, n, device))
        return 20.0 if config == WIDE else 10.0

    monkeypatch.setattr(cost, "seconds_a_run", seconds)
    return asked


def said(left, **how):
    console = Console(record=True, width=200, file=io.StringIO())
    check_cost(left, How(**how), console)
    return console.export_text()


def test_the_cost_by_hand(timed):
    left = [changed(PARITY, {"seed": seed}) for seed in range(8)] + [WIDE, WIDE]  # 8 x 10 + 2 x 20
    assert (
        said(left, n_workers=1) == "10 runs of about 12 s, 1 at a time, take about 2 min on a machine like this one\n"
    )
    assert "4 at a time, take about 30 s" in said(left, on="slurm", slurm=SlurmConfig(n_at_once=4))
    assert "10 at a time, take about 12 s" in said(left, on="slurm")
    assert "1 at a time, take about 2 min" in said(left, on="here")
    assert set(timed) == {(64, 1, "cpu"), (128, 1, "cpu")}


def test_runs_that_are_trained_at_once_are_timed_at_once(timed):
    left = [changed(PARITY, {"seed": seed, "optim.lr": lr}) for seed in range(20) for lr in (1e-3, 3e-3)]
    assert "40 runs of about 10 s, 1 at a time, take about 7 min" in said(left, on="stacks")
    said(left, on="stacks", n_at_once=8)
    said(left, on="stacks", device="cuda:1")
    said(left, on="here", device="cuda")
    assert timed == [(64, 16, "cpu"), (64, 8, "cpu"), (64, 40, "cuda:1"), (64, 40, "cuda")]


def test_of_many_kinds_the_largest_are_timed(timed):
    """Steps 1 .. 9 thousand: 9 .. 4 are timed, 60 s for 39 thousand; the 6 thousand others in proportion."""
    assert "take about 69 s" in said(kinds(9), on="here")
    assert [d_model for d_model, *_ in timed] == [72, 64, 56, 48, 40, 32]


def test_a_few_steps_are_not_timed(timed):
    few = kinds(1, n_steps=499)
    assert said(few) == ""
    assert said([]) == ""
    assert not timed
    assert said(kinds(1, n_steps=500)) != ""


def test_what_takes_more_than_an_hour_has_to_be_asked_for(timed):
    said([PARITY] * 360, on="here")
    for on in ("here", "stacks"):
        with pytest.raises(
            ValueError, match=r"yes = False: must be set above an hour \(--yes\), and 361 runs of about 10"
        ):
            said([PARITY] * 361, on=on)
        assert "take about 60 min" in said([PARITY] * 361, on=on, yes=True)
    said([PARITY] * 720, n_workers=2)


COMMANDS = {
    "seeds": ["seeds", "parity", "--n-seeds", "2"],
    "seeds in a stack": ["seeds", "parity", "--n-seeds", "2", "--on", "stacks"],
    "sweep": ["sweep", "parity", "optim.lr=1e-3,3e-3"],
    "study": ["curriculum.py"],
    "emergence": ["emergence.py", "train"],
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=list(COMMANDS))
def test_no_command_trains_for_hours_unasked(words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cost, "seconds_a_run", lambda *given: 1e5)
    monkeypatch.chdir(tmp_path)
    script = ROOT / "experiments" / words[0]
    monkeypatch.setattr(sys, "argv", words)
    ask = partial(runpy.run_path, str(script), run_name="__main__") if script.exists() else partial(shell.main, words)
    with pytest.raises(SystemExit) as stop:
        ask()
    assert stop.value.code == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: yes = False: must be set above an hour (--yes)")
    assert told.err.count("\n") == 1
    assert "take about" in told.out
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_takes_its_steps_and_its_measurements():
    short = changed(PARITY, {"train.n_steps": 400, "data.curriculum": (), "data.max_length": 4, "model.d_model": 8})
    longer = changed(short, {"train.n_steps": 40_000})
    assert seconds_a_run(longer, 2, "cpu") > 10 * seconds_a_run(short, 2, "cpu") > 0
