"""Text is UTF-8 wherever it is read or written, whatever the machine's own encoding is."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import compo_mech

ROOT = Path(compo_mech.__file__).parents[1]
FILES = sorted(
    file for name in ("compo_mech", "experiments", "probes", "figures") for file in (ROOT / name).rglob("*.py")
)
IN_MEMORY = ("StringIO", "BytesIO")


def without_encoding(source: str) -> list[int]:
    """Lines with a call that takes the machine's encoding for a file."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(word.arg == "encoding" for word in node.keywords):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
        modes = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        is_text_file = name in ("read_text", "write_text") or (
            name == "open"
            and owner not in ("Run", "Stack", "os", "safetensors")
            and not any("b" in mode for mode in modes)
        )
        is_table = (name == "to_csv" and node.args) or (
            name == "read_csv" and not any(word in ast.unparse(node.args[0]) for word in IN_MEMORY)
        )
        if is_text_file or is_table:
            found.append(node.lineno)
    return found


def test_every_file_of_text_is_opened_as_utf_8():
    own = [file for file in FILES if file.name != "__init__.py"]
    assert {
        str(file.relative_to(ROOT)): lines for file in own if (lines := without_encoding(file.read_text("utf-8")))
    } == {}


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("a.read_text()", [1]),
        ("a.write_text(b)", [1]),
        ("a.open('w')", [1]),
        ("open(a)", [1]),
        ("t.to_csv(a, index=False)", [1]),
        ("pd.read_csv(a)", [1]),
        ("a.read_text(encoding='utf-8')\na.open('wb')\nt.to_csv(index=False)\npd.read_csv(io.StringIO(a))", []),
    ],
)
def test_the_law_sees_what_it_is_to_see(source, lines):
    assert without_encoding(source) == lines


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("latin-1", marks=pytest.mark.slow)])
def test_a_terminal_of_few_characters_shows_something_for_the_others(encoding):
    code = (
        "from compo_mech.cli.command import call\n"
        "def said() -> None:\n    'Say it.'\n    print('• 2 × 3 → – é')\n"
        "call(said, [])\n"
        "try: call(said, ['--help'])\n"
        "except SystemExit as stop: assert not stop.code\n"
    )
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode(encoding).startswith("? 2 ")
