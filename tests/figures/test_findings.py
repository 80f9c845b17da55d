"""What FINDINGS.md shows is there, and its figures are drawn from the committed tables by the commands it prints."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import tyro

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "FINDINGS.md").read_text()
PRINTED = [" ".join(found.split()) for found in re.findall(r"`python (figures/[^`]*)`", TEXT)]
COMMANDS = [command for command in PRINTED if " runs/" not in command]  # runs are in no checkout
SCRIPTS = sorted(set(re.findall(r"(?:experiments|figures|probes)/\w+\.py", TEXT)))


def test_its_scripts_pictures_and_tables_are_there():
    assert len(SCRIPTS) >= 15
    named = SCRIPTS + re.findall(r"!\[[^\]]*\]\(([^)]*)\)", TEXT) + re.findall(r"figures/[\w/]+\.csv", TEXT)
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_every_study_that_it_tells_of_has_its_question_its_figure_and_its_doubts():
    sections = re.split(r"^## (?=\d)", TEXT, flags=re.M)[1:]
    assert len(sections) >= 9
    for section in sections:
        assert re.search(r"!\[|same 20 runs", section), section[:60]
        assert re.search(r"`python (experiments|probes)/|same 20 runs", section), section[:60]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.slow
def test_a_figure_is_drawn_from_its_table(command, tmp_path, monkeypatch):
    words = shlex.split(command)
    script, picture = words[0], next(word for word in words if word.endswith(".png"))
    out = tmp_path / "figure.html"
    spec = importlib.util.spec_from_file_location(Path(script).stem, ROOT / script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(ROOT)
    tyro.cli(module.main, args=[str(out) if word == picture else word for word in words[1:]])
    assert out.stat().st_size > 10_000
