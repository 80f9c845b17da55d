"""The notebooks run on a network made in seconds, show something in every cell that should, and need no network."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "figures").glob("*.ipynb"))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_saved_without_outputs(path):
    for cell in nbformat.read(path, 4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_offline(path, monkeypatch):
    monkeypatch.delenv("RUN", raising=False)
    notebook = nbformat.read(path, 4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    shown = [
        "".join(output.data.get("text/html", "")) for cell in notebook.cells for output in cell.get("outputs", [])
        if "data" in output
    ]  # fmt: skip
    pages = [page for page in shown if page]
    assert len(pages) >= 6
    assert sum("CircuitsVis.render" in page for page in pages) == 2
    for page in pages:
        assert not re.search(r"""(src|from|import)\s*[=(]?\s*["']https?://""", page)
