"""Bars of progress in a terminal of 80 characters: one line each, with all figures and the time that is left."""

import io
import re

import pytest
from rich.console import Console

from compo_mech.analyses import network_findings
from compo_mech.analyses.dissection import dissect
from compo_mech.cli import dissect as command
from compo_mech.cli.dissect import DissectionOfRun
from compo_mech.cli.progress import counting, training_bar
from compo_mech.ground_truth.method_card import method_card_table
from compo_mech.launch.settings import Launch
from compo_mech.launch.sweep_progress import steps_bar
from compo_mech.runs import recipes

LONG = "polynomial(modulus=31): ablation cost of the pattern of all heads of a layer"


def terminal():
    return Console(width=80, file=io.StringIO(), force_terminal=True, color_system=None)


def shown(bar):
    """The lines of a bar as they stand now."""
    console = Console(width=80, file=io.StringIO(), color_system=None, record=True)
    console.print(bar.get_renderable())
    return [line.rstrip() for line in console.export_text().splitlines() if line.strip()]


@pytest.mark.parametrize("what", ["parity", LONG])
def test_a_count_is_shown_whole(what):
    with counting(terminal()) as bar:
        task = bar.add_task(what, total=12_000)
        bar.update(task, completed=1234)
        (line,) = shown(bar)
    assert line.startswith(what[:20])
    assert " 1234/12000 " in line
    assert re.search(r" \d:\d\d:\d\d -:--:--$", line)  # gone, and left
    assert len(line) <= 80


@pytest.mark.parametrize("n_steps", [2400, 100_000])
def test_training_shows_its_figures_whole(n_steps):
    config = recipes.parity()
    config = config.model_copy(update={"train": config.train.model_copy(update={"n_steps": n_steps})})
    with training_bar(terminal(), config) as bar:
        figures = {"loss": "0.123", "accuracy": "0.456", "iteration": "0.789"}
        bar._bar.update(bar._task, completed=n_steps - 1, description=LONG, **figures)
        (line,) = shown(bar._bar)
    assert f" {n_steps - 1}/{n_steps} loss 0.123 accuracy 0.456 iteration 0.789 " in line
    assert "…" not in line.replace(line[:12], "")
    assert len(line) <= 80


def test_a_sweep_fits(tmp_path, monkeypatch):
    launches = [Launch(name=f"r{i}", runs_dir=tmp_path, train={"n_steps": 100_000}) for i in range(30)]
    console = terminal()
    with steps_bar(launches, console):
        pass
    lines = console.file.getvalue().replace("\r", "\n").splitlines()
    assert any("0 of 30 runs done, 0 failed" in line and "of 3000000 steps" in line for line in lines)
    assert "…" not in console.file.getvalue()


def test_dissect_counts_what_it_has_done(tiny_run, monkeypatch):
    """Every stage is told in turn, of the network and of its control, so the bar comes to its end with the last."""
    told = []

    def quick(model, data, task, step, shifts, seed, tell):
        return dissect(model, data, task, step, shifts, seed, n_pairs=4, n_strings=4, tell=tell)

    def counted(console):
        bar = counting(console)
        update = bar.update
        monkeypatch.setattr(bar, "update", lambda task, **more: (told.append(more), update(task, **more)))
        return bar

    monkeypatch.setattr(command, "counting", counted)
    monkeypatch.setattr(command.dissection, "dissect", quick)
    DissectionOfRun(None, 0, method_card_table()).ask(tiny_run, tiny_run.tasks()[0], terminal())
    stages = list(network_findings.STAGES)
    assert [one["description"].split(": ")[1] for one in told] == stages * 2
    done = [one["completed"] for one in told]
    assert done == sorted(set(done))
    assert done[0] == 0
    assert done[-1] + network_findings.STAGES[stages[-1]] == 2 * sum(network_findings.STAGES.values())
