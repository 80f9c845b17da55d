"""README and how-tos as a newcomer walks them: in a new environment and folder, with the network off once installed.

python tests/docs/newcomer.py FOLDER

Clones the checkout into FOLDER/clone, does the README's first command, then every command and every block of Python of
the pages, except those that take minutes; only the README's own run is trained in full. The how-tos are walked two at a
time, after the pages on whose run they build. Each step is timed. A traceback, an exit code, a line of output wider
than 80 columns, a request to the network and a page that would make one are failures. The clone is left with its
environment, and as it was checked out.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pages import DOCS, LONG, ROOT, SHELL, blocks, commands, name_of, small

FIRST = (ROOT / "README.md", DOCS / "getting-started.md")
"""Pages whose run the others read."""
HOW_TOS = sorted((DOCS / "how-to").glob("*.md"))
WIDTH = 80
PATIENCE = 4
"""How many times the time that is stated a step may take, beside some seconds for imports on a busy machine."""
IMPORTS = 60

NO_NETWORK = """import os, sys
def refuse(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple) and not str(arguments[1][0]).startswith("127."):
        with open(os.environ["ASKED"], "a") as file:
            file.write(f"{arguments[1]} {sys.argv}\\n")
        raise OSError("the network is off")
sys.addaudithook(refuse)
"""
"""Refuses every connection, and notes it."""

FETCHES = re.compile(r"<(?:script|img|iframe|link)\b[^>]*(?:src|href)=[\"']?https?:|url\([\"']?https?:")


class Newcomer:
    """Somebody with a new clone and a new environment in a folder.

    Attributes:
        home: the folder.
        checkout: the clone.
        failures: what went wrong, a line each.
    """

    def __init__(self, home: Path) -> None:
        self.home, self.checkout, self.failures = home, home / "clone", list[str]()
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
        self._environment |= {"COLUMNS": str(WIDTH), "ASKED": str(home / "asked"), "OMP_NUM_THREADS": "1"}

    def do(self, text: str, place: Path, seconds: int | None = None, check_width: bool = True) -> None:
        """Run a shell command, and note what is wrong with it."""
        activate = self.checkout / ".venv" / "bin" / "activate"
        script = f". {activate}\n{text}" if activate.exists() else text
        start = time.monotonic()
        done = subprocess.run(
            ["bash", "-euc", script], cwd=place, env=self._environment, capture_output=True, text=True
        )
        took = time.monotonic() - start
        print(f"{took:7.1f} s  {text.splitlines()[-1][:110]}", flush=True)
        said = done.stdout + done.stderr
        if done.returncode or "Traceback" in said:
            self.fail(f"{text}: exits with {done.returncode}\n{said[-3000:]}")
        wide = [line for line in done.stdout.splitlines() if len(line.rstrip()) > WIDTH]
        if check_width and wide:
            self.fail(f"{text}: writes lines wider than {WIDTH}, such as\n{wide[0]}")
        if seconds is not None and took > PATIENCE * seconds + IMPORTS:
            self.fail(f"{text}: took {took:.0f} s, and the page says {seconds}")

    def fail(self, what: str) -> None:
        """Note what went wrong."""
        self.failures.append(what)
        print(f"FAILED {what}", flush=True)

    def install(self) -> None:
        """Clone, do the README's first command, and switch the network off."""
        self.do(f"git clone --quiet {ROOT} {self.checkout}", self.home)
        (first, *_) = re.findall(r"^python3 -m venv .*$", (self.checkout / "README.md").read_text(), flags=re.M)
        self.do(first, self.checkout, check_width=False)  # pip writes what it likes
        self.custom.write_text(NO_NETWORK)
        shutil.copytree(self.checkout / "runs" / "parity-seed0", self.checkout / "runs" / "parity-seed1")

    @property
    def custom(self) -> Path:
        """The file that every process of the environment's Python runs first."""
        (packages,) = (self.checkout / ".venv").glob("lib/*/site-packages")
        return packages / "sitecustomize.py"

    def leave(self) -> None:
        """Switch the network on again, and remove what was written."""
        self.custom.unlink()
        subprocess.run(["git", "clean", "-fdq"], cwd=self.checkout, check=True)

    def walk(self, page: Path) -> None:
        """Do what a page says: its commands, then its Python."""
        start = time.monotonic()
        place = self.home / "elsewhere" if page.stem == "elsewhere" else self.checkout
        place.mkdir(exist_ok=True)
        found = blocks(page)
        for block in found:
            if block.file:
                (place / block.file).write_text(block.text, encoding="utf-8")
        for command in (c for block in found if block.language == "bash" for c in commands(block)):
            words = command.parts[-1]
            known = command.text.endswith("train_parity.py")
            if not known and words[0] not in SHELL and (command.seconds or 0) < LONG:
                self.do(shlex.join(small(words)), place, command.seconds)
        source = [block.text for block in found if block.language == "python" and not block.file]
        if source:
            if page.name == "README.md":
                source.insert(0, "from own_model import own_model\nmodel = own_model()")
            file = self.home / f"{page.stem}.py"
            file.write_text("\n".join(source), encoding="utf-8")
            self.do(f"PYTHONPATH={ROOT / 'tests' / 'docs'} python {file}", place, check_width=False)
        print(f"{time.monotonic() - start:7.1f} s  all of {name_of(page)}", flush=True)

    def check_network(self) -> None:
        """No process asked the network, and no page that was written would."""
        asked = self.home / "asked"
        if asked.exists():
            self.fail(f"asked the network: {asked.read_text()}")
        for page in (*self.checkout.glob("*.html"), *self.checkout.glob("runs/**/*.html"), *self.home.glob("*/*.html")):
            if fetched := FETCHES.search(page.read_text(encoding="utf-8")):
                self.fail(f"{page}: would ask the network for {fetched[0]}")


def main() -> None:
    """Walk, and exit with code 1 where something went wrong."""
    newcomer, start = Newcomer(Path(sys.argv[1]).resolve()), time.monotonic()
    newcomer.install()
    for page in FIRST:
        newcomer.walk(page)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(newcomer.walk, HOW_TOS))
    newcomer.check_network()
    newcomer.leave()
    print(f"{time.monotonic() - start:7.1f} s  in all")
    if newcomer.failures:
        sys.exit(f"{len(newcomer.failures)} failures")


if __name__ == "__main__":
    main()
