"""The notebooks are saved with what their cells show, run on a network made in seconds, and need no internet."""

import os
import re
import runpy
import shutil
from collections.abc import Mapping
from pathlib import Path

import nbformat
import pytest
from browser import open_page, started
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from compo_mech.launch import main
from compo_mech.runs import recipes

NOTEBOOKS = sorted((Path(__file__).parents[1] / "figures" / "notebooks").glob("*.ipynb"))
SAVE = runpy.run_path(str(NOTEBOOKS[0].parent / "save_outputs.py"))
N_PLOTS = {"compare_runs": 3, "explore_run": 2, "tutorial": 4}
"""Plots that plotly draws in each, at least."""

N_PICTURES = {"compare_runs": 3, "explore_run": 4, "tutorial": 7}
"""Outputs of each that are saved as pictures; one may hold several plots."""


def test_every_notebook_is_known():
    assert [path.stem for path in NOTEBOOKS] == sorted(N_PLOTS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_saved_with_the_outputs_of_their_cells(path):
    notebook = nbformat.read(path, 4)
    assert notebook.metadata[SAVE["MARK"]] == SAVE["checksum"](notebook), SAVE["__doc__"]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not any(output.output_type == "error" or SAVE["needs_a_script"](output) for output in outputs)
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == N_PICTURES[path.stem]
    assert any("image/png" in o.get("data", {}) for cell in notebook.cells[:5] for o in cell.get("outputs", []))
    assert path.stat().st_size < 1_000_000


def test_the_tutorial_has_a_solution_for_every_exercise():
    text = "\n".join(cell.source for cell in nbformat.read(NOTEBOOKS[-1], 4).cells if cell.cell_type == "markdown")
    exercises = re.findall(r"^(\d)\. \*\*", text, flags=re.M)
    assert len(exercises) >= 3
    assert exercises == re.findall(r"^### Solution (\d)$", text, flags=re.M)


TOLD = {  # of the given run, of two heads, not one that the notebook makes; the tutorial has its own, which learns
    "compare_runs": "<h4>again</h4>",
    "explore_run": "L1H1 iteration",
    "tutorial": "copy: by intervention L1H0 is the iteration head",
}
N_SLIDERS = {"compare_runs": 2, "explore_run": 0, "tutorial": 1}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One run, twice."""
    folder = tmp_path_factory.mktemp("runs")
    argv = ["--runs-dir", str(folder), "--name", "one", "--data.max-length", "5", "--model.d-model", "16",
            "--model.n-heads", "2", "--train.n-steps", "6", "--n-test-strings", "8"]  # fmt: skip
    main.main(recipes.parity(), argv)
    return [folder / "one", Path(shutil.copytree(folder / "one", folder / "again"))]


def notebook_html(path: Path, env: Mapping[str, str]) -> str:
    """A notebook, executed with these variables added to the environment, as one page that needs no network.

    nbconvert's own templates load require.js, MathJax and mermaid from elsewhere; the basic one has
    cells only. What this leaves out: formulas and diagrams in Markdown are not drawn.
    """
    notebook = nbformat.read(path, 4)
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}})
    client.execute(env={**os.environ, **env})
    body, _ = HTMLExporter(template_name="basic").from_notebook_node(notebook)
    return f'<!doctype html><html lang="en"><head><meta charset="utf-8"></head><body>{body}</body></html>'


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_and_are_drawn_offline(runs, path):
    page = notebook_html(path, {"RUN": str(runs[0]), "RUNS": os.pathsep.join(map(str, runs))})
    assert TOLD[path.stem] in page
    views = re.findall(r'<script>CircuitsVis\.render\("([^"]+)"', page)
    assert len(views) == len(set(views)) >= 2  # a name that two views share leaves one of them blank
    assert page.count('class="plotly-graph-div"') >= N_PLOTS[path.stem]
    assert not re.search(r"""(src|from|import)\s*[=(]?\s*["']https?://""", page)
    with started() as browser, open_page(browser, page) as shown:  # skips where there is no browser
        kinds = [picture.kind for picture in shown.pictures()]
        assert kinds.count("plotly") >= N_PLOTS[path.stem]
        assert kinds.count("circuitsvis") >= 2
        assert shown.move_sliders() == N_SLIDERS[path.stem]
