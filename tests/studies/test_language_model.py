"""Parts of the study of a language model, on a small one; what is taught goes on where it was stopped."""

import pandas as pd
import pytest
import torch
from llama_of_characters import llama_of_characters
from rich.console import Console

from compo_mech.studies import language_model as study
from compo_mech.studies import language_taught
from compo_mech.studies.language_heads import lines_of, single_heads

QUIET = Console(quiet=True)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch):
    """Teach the last of three layers short strings, and test often."""
    for name, value in {"FIRST_LAYER": 2, "LENGTHS": (2, 3), "TEST_LENGTHS": (3,), "EVERY": 2}.items():
        monkeypatch.setattr(language_taught, name, value)


def taught(path, n_steps, model=None):
    model = model or llama_of_characters()
    rows = language_taught.teach(model, path, n_steps, QUIET)
    return rows, {name: weight.detach() for name, weight in model.named_parameters()}


def test_teaching_goes_on_to_the_bit_where_it_was_stopped(brief, tmp_path, monkeypatch: pytest.MonkeyPatch):
    whole, weights = taught(tmp_path / "whole.safetensors", 5)
    assert [(row["measure"], row["step"]) for row in whole if row["measure"] == "accuracy"] == [
        ("accuracy", step) for step in (0, 2, 4, 5)
    ]
    taught(tmp_path / "cut.safetensors", 3)
    rest, again = taught(tmp_path / "cut.safetensors", 5)
    losses = [[row["value"] for row in rows if row["measure"] == "loss"] for rows in (whole, rest)]
    assert losses[0] == losses[1]
    assert all(torch.equal(weight, again[name]) for name, weight in weights.items())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.safetensors", "whole.safetensors"]


def test_what_was_taught_longer_or_is_damaged_is_refused_in_one_line(brief, tmp_path):
    path = tmp_path / "taught.safetensors"
    taught(path, 4)
    with pytest.raises(ValueError, match=r"^n_steps = 2: must be at least 4, as many as .*safetensors was taught"):
        taught(path, 2)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"^out = .*taught.safetensors: is damaged, remove it to start again \(.*\)$"):
        taught(path, 6)


def test_what_is_taught_is_measured_after_all_else(brief, tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(study, "smollm2", lambda path, n_ctx: llama_of_characters(n_ctx=n_ctx))
    monkeypatch.setattr(language_taught, "PROBED_LENGTH", 4)
    monkeypatch.setattr(language_taught, "LR", 1.0)
    both, alone = tmp_path / "both", tmp_path / "alone"
    study.language_model(out=both, parts=("taught", "accuracy"), n_prefixes=1, n_steps=1)
    study.language_model(out=alone, parts=("accuracy",), n_prefixes=1)
    assert (both / "accuracy.csv").read_bytes() == (alone / "accuracy.csv").read_bytes()
    file = both / "language_model.csv"
    table, content = pd.read_csv(file), file.read_bytes()
    probes = table[table["measure"] == "probe"].groupby(["network", "step"])["value"].mean()
    assert probes.index.tolist() == [("pretrained", 0), ("pretrained", 1), ("random start", 0), ("random start", 1)]
    study.language_model(out=both, parts=("accuracy", "taught"), n_prefixes=1, n_steps=1)
    assert file.read_bytes() == content


def test_sets_of_heads_need_prefixes_that_they_were_not_found_on(tmp_path):
    with pytest.raises(ValueError, match=r"^n_prefixes = 6: must be above 6, on which sets of heads are found$"):
        study.language_model(out=tmp_path, parts=("found",), n_prefixes=6)


def test_heads_move_nothing_between_lines_of_the_same_states():
    line = lines_of(llama_of_characters(n_ctx=512), "plain", 0)[0]
    assert single_heads(line, line) == []
