"""What README and docs say is run here: every block of code, in a folder in which a small run lies.

Commands that take minutes are only parsed, and so are those of figures, studies and benches, which have tests of their
own.
"""

import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from own_model import own_model
from pages import LONG, PAGES, ROOT, SHELL, TINY, Block, Command, blocks, commands, name_of, small

import compo_mech.__main__ as shell
from compo_mech.launch import main
from compo_mech.runs import recipes

PARSED = ("gallery.md", "questions.md", "speed.md")
"""Pages none of whose commands is run."""

OURS = ("compo-mech", "python")
"""What runs in this process."""

SMALLER = {r"\b600\b": "6", r"\b300\b": "6", r"(n_steps\": )\d+": r"\g<1>6", r"\b48, torch": "8, torch"}
"""Steps and sizes in the pages, and what they are for a run of twelve steps."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with two runs of the names that the pages use, the first dissected."""
    folder = tmp_path_factory.mktemp("newcomer")
    argv = [word for pair in TINY for word in pair]
    main.main(recipes.parity(), [*argv, "--runs-dir", str(folder / "runs"), "--name", "parity-seed0"])
    first = folder / "runs" / "parity-seed0"
    shutil.copytree(first, folder / "runs" / "parity-seed1")
    shell.main(["dissect", str(first)])
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The working directory of a page."""
    for name in ("figures", "constraints.txt", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def smaller(text: str) -> str:
    for written, meant in SMALLER.items():
        text = re.sub(written, meant, text)
    return text


def call(words: list[str], monkeypatch) -> None:
    """A command of the project, in this process."""
    try:
        if words[0] == "compo-mech":
            shell.main(words[1:])
        else:
            monkeypatch.setattr(sys, "argv", [str(ROOT / words[1]), *words[2:]])
            runpy.run_path(str(ROOT / words[1]), run_name="__main__")
    except SystemExit as stop:
        if stop.code:
            pytest.fail(f"{' '.join(words)}: exits with {stop.code}")


def parse(words: list[str], monkeypatch) -> None:
    """As `call`, up to where the command would begin."""

    def begin(*_, **__):
        sys.exit(0)

    with monkeypatch.context() as patch:
        patch.setattr("compo_mech.cli.command._run", begin)
        patch.setattr("compo_mech.studies.run.run_study", begin)
        patch.setattr("compo_mech.launch.run.launch", begin)
        call(words, patch)


def check_set_up(words: list[str], place: Path) -> None:
    """What a command that sets things up names is there."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in words[1:]:
        for extra in re.findall(r"^\.\[(\w+)\]$", word):
            assert extra in extras
        if word.endswith((".ipynb", ".txt")):
            assert (place / word).exists(), word


def is_parsed(page: Path, command: Command) -> bool:
    return page.name in PARSED or (command.seconds or 0) >= LONG


def parsed(page: Path) -> list[list[str]]:
    """The words of each command of a page that is only parsed."""
    found = (command for block in blocks(page) if block.language == "bash" for command in commands(block))
    return [words for command in found if is_parsed(page, command) for words in command.parts if words[0] in OURS]


def run_bash(page: Path, block: Block, place: Path, monkeypatch) -> None:
    for command in commands(block):
        for words in command.parts:
            if words[0] in SHELL:
                check_set_up(words, place)
            elif words[0] not in OURS:
                subprocess.run(["bash", "-euc", command.text], cwd=place, check=True)
            elif not is_parsed(page, command):
                call(small([smaller(word) for word in words]), monkeypatch)


def run_page(page: Path, place: Path, monkeypatch) -> None:
    """Do what a page says, from its first block to its last."""
    names = {"model": own_model()} if page.name == "README.md" else {}
    for block in blocks(page):
        if block.file:
            (place / block.file).write_text(block.text, encoding="utf-8")
    for block in blocks(page):
        if block.file:
            continue
        if block.language == "bash":
            run_bash(page, block, place, monkeypatch)
        elif block.language == "python":
            exec(compile(smaller(block.text), f"{name_of(page)}", "exec"), names)


WITH_CODE = [page for page in PAGES if any(block.language in ("bash", "python") for block in blocks(page))]
CHEAP = {"README.md", "docs/how-to/own-model.md"}
"""Pages that take a second or two; the others dissect and draw."""


@pytest.mark.parametrize("page", filter(parsed, WITH_CODE), ids=name_of)
def test_commands_that_are_not_run_are_understood(page, place, monkeypatch):
    for words in parsed(page):
        parse(words, monkeypatch)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(p, marks=() if name_of(p) in CHEAP else pytest.mark.slow, id=name_of(p))
        for p in WITH_CODE
        if p.name not in PARSED
    ],
)
def test_a_page_does_what_it_says(page, place, monkeypatch, capsys, request):
    if name_of(page) not in CHEAP:
        shutil.copytree(request.getfixturevalue("runs") / "runs", place / "runs")
    run_page(page, place, monkeypatch)
    assert "Traceback" not in "".join(capsys.readouterr())


JOBS = {"own-task": 2, "own-model": 2, "patching": 1, "compare-seeds": 3, "elsewhere": 2}
"""How-tos, and how many of their first blocks of code do what they are named for."""


@pytest.mark.parametrize("job", JOBS)
def test_a_job_takes_fifteen_lines(job):
    page = ROOT / "docs" / "how-to" / f"{job}.md"
    assert page in WITH_CODE  # whose blocks are run
    done = [block for block in blocks(page) if block.language in ("bash", "python")][: JOBS[job]]
    assert len(done) == JOBS[job]
    assert sum(bool(line.strip()) for block in done for line in block.text.splitlines()) <= 15
