"""Run the notebooks and save them with their outputs, views and plots as pictures, which show without running anything.

python figures/notebooks/save_outputs.py             all of them, 5 minutes
python figures/notebooks/save_outputs.py tutorial

It needs a chromium, and the development tools: pip install -e '.[dev]'. Each notebook notes a checksum of its cells and
outputs as they were saved: where either has changed since, a test fails and it has to be saved again.
"""

import base64
import hashlib
import json
import shutil
from pathlib import Path
from typing import Annotated

import nbformat
from nbclient import NotebookClient
from playwright.sync_api import Page, sync_playwright
from pydantic import Field

from compo_mech.cli.command import Positional, call
from compo_mech.cli.errors import one_line_errors

HERE = Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in HERE.glob("*.ipynb")))
WIDTH = 900
MARK = "saved_as"
"""In a notebook's metadata: the checksum with which it was saved."""


def checksum(notebook: nbformat.NotebookNode) -> str:
    """Return a checksum of what the cells say and of what they show."""
    cells = [[cell.source, cell.get("outputs", [])] for cell in notebook.cells]
    return hashlib.sha256(json.dumps(cells, sort_keys=True).encode()).hexdigest()


def needs_a_script(output: nbformat.NotebookNode) -> bool:
    """Tell whether an output is drawn by a script, and so is blank where none runs."""
    return "<script" in output.get("data", {}).get("text/html", "")


def picture(tab: Page, scripts: str, shown: str) -> str | None:
    """Return an output as it looks once its scripts have run, as a PNG in base64; None: it is but a script."""
    tab.set_content(f"<body style='margin: 0; background: #fff'>{scripts}<div id=shown>{shown}</div></body>")
    tab.wait_for_timeout(1500)
    whole = tab.locator("#shown")
    box = whole.bounding_box()
    if box is None or box["height"] < 20:
        return None
    return base64.b64encode(whole.screenshot()).decode()


def with_pictures(notebook: nbformat.NotebookNode, tab: Page) -> None:
    """Put a picture in place of each output that only a script draws; libraries alone, which draw nothing, go."""
    scripts = ""
    for cell in notebook.cells:
        kept = []
        for output in cell.get("outputs", []):
            if needs_a_script(output):
                html = output["data"]["text/html"]
                drawn = picture(tab, scripts, html)
                if drawn is None:
                    scripts += html
                    continue
                output["data"] = {"image/png": drawn, "text/plain": "Run the cell to move and hover over it."}
            kept.append(output)
        if cell.cell_type == "code":
            cell.outputs = kept
            cell.metadata.pop("execution", None)


def save(name: str, tab: Page) -> None:
    """Run a notebook, and write it with its outputs."""
    path = HERE / f"{name}.ipynb"
    notebook = nbformat.read(path, 4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(HERE)}}).execute()
    with_pictures(notebook, tab)
    for n, cell in enumerate(notebook.cells):
        cell["id"] = f"cell{n}"
    notebook.nbformat_minor = 5
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        MARK: checksum(notebook),
    }
    nbformat.write(notebook, path)
    print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")


def main(names: Annotated[tuple[str, ...], Positional, Field(max_length=len(NAMES))] = NAMES) -> None:
    """Run NAMES and save them with their outputs.

    Args:
        names: of notebooks, without their ending.
    """
    with one_line_errors():
        browser_path = shutil.which("chromium")
        if unknown := [name for name in names if name not in NAMES]:
            raise ValueError(f"names = {' '.join(unknown)}: must be of {' '.join(NAMES)}")
        if browser_path is None:
            raise ValueError("chromium = missing: must be installed, to take pictures")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
            tab = browser.new_context(viewport={"width": WIDTH, "height": 700}, offline=True).new_page()
            for name in names:
                save(name, tab)
            browser.close()


if __name__ == "__main__":
    call(main, description=__doc__)
