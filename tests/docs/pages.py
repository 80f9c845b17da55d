"""The blocks of code in README and docs, and the shell commands in them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(path for path in DOCS.rglob("*.md") if not path.is_symlink())]
"""Pages, each once: the site's first page, findings and log are links to files above."""

UNITS = {"s": 1, "min": 60, "h": 3600}
_FENCE = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TIME = re.compile(r"#.*?\b(?:(\d+) to )?(\d+) (s|min|h)\b")
_VARIABLE = re.compile(r"[A-Z_]+=")


class Block(NamedTuple):
    """A block of code: its language, the name of the file that it is, if it is one, and its text."""

    language: str
    file: str | None
    text: str


class Command(NamedTuple):
    """A line of a shell block: its text without the comment, and the most seconds that the comment says it takes."""

    text: str
    seconds: int | None

    @property
    def parts(self) -> list[list[str]]:
        """The words of what `&&` joins, without variables that are set in front."""
        found = []
        for part in self.text.split(" && "):
            words = shlex.split(part)
            while words and _VARIABLE.match(words[0]):
                words = words[1:]
            found.append(words)
        return found


def blocks(page: Path) -> list[Block]:
    return [Block(language, file or None, text) for language, file, text in _FENCE.findall(page.read_text("utf-8"))]


def commands(block: Block) -> Iterator[Command]:
    for line in block.text.splitlines():
        time = _TIME.search(line)
        text = line.partition("  #")[0].strip()
        if text and not text.startswith("#"):
            yield Command(text, int(time[2]) * UNITS[time[3]] if time else None)


LONG = 120
"""Seconds from which on a command is not run here."""

SHELL = ("git", "cd", ".", "pip", "python3", "jupyter", "mkdocs", "pytest")
"""Programs that set things up."""

TINY = (("--data.max-length", "4"), ("--model.d-model", "16"), ("--n-test-strings", "8"), ("--train.n-steps", "12"),
        ("--train.snapshot-every", "1"))  # fmt: skip


def small(words: list[str]) -> list[str]:
    """The same command, of a small network where it trains one for as long as its recipe says."""
    trains = "--train.n-steps" not in words and (words[:2] == ["compo-mech", "train"] or "/train_" in words[1])
    if not trains or "--help" in words:
        return words
    again = () if "--resume" in words else ("--overwrite",)
    return [*words, *(word for pair in TINY if pair[0] not in words for word in pair), *again]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()
