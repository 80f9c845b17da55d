"""The notebooks run on a network made in seconds, show something in every cell that should, and need no network."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "figures").glob("*.ipynb"))
N_PLOTS = {"compare_runs": 3, "explore_run": 2, "tutorial": 4}
"""Plots that plotly draws in each, at least."""


def test_every_notebook_is_known():
    assert [path.stem for path in NOTEBOOKS] == sorted(N_PLOTS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_saved_without_outputs(path):
    for cell in nbformat.read(path, 4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_offline(path, monkeypatch):
    for name in ("RUN", "RUNS"):
        monkeypatch.delenv(name, raising=False)
    notebook = nbformat.read(path, 4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    shown = [
        "".join(output.data.get("text/html", "")) for cell in notebook.cells for output in cell.get("outputs", [])
        if "data" in output
    ]  # fmt: skip
    pages = [page for page in shown if page]
    assert len(pages) >= 6
    views = [name for page in pages for name in re.findall(r'<script>CircuitsVis\.render\("([^"]+)"', page)]
    assert len(views) == len(set(views)) >= 2  # a name that two views share leaves one of them blank
    assert sum(page.count('class="plotly-graph-div"') for page in pages) >= N_PLOTS[path.stem]
    for page in pages:
        assert not re.search(r"""(src|from|import)\s*[=(]?\s*["']https?://""", page)
