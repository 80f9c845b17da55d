"""The notebooks run on a network made in seconds, show something in every cell that should, and need no network."""

import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest
from browser import notebook_html, open_page, started

from compo_mech.launch import main
from compo_mech.runs import recipes

NOTEBOOKS = sorted((Path(__file__).parents[1] / "figures" / "notebooks").glob("*.ipynb"))
N_PLOTS = {"compare_runs": 3, "explore_run": 2, "tutorial": 4}
"""Plots that plotly draws in each, at least."""


def test_every_notebook_is_known():
    assert [path.stem for path in NOTEBOOKS] == sorted(N_PLOTS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_saved_without_outputs(path):
    for cell in nbformat.read(path, 4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


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
