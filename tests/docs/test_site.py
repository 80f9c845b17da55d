"""The site builds from the checkout without a warning, opens from the disk without a request, and fits a phone."""

import re
import subprocess
import sys

import pytest
from browser import open_page, started
from layout_checks import WIDTHS
from pages import DOCS, ROOT, name_of

pytest.importorskip("mkdocs")
SHOWN = (
    "index",
    "getting-started",
    "how-to/own-task",
    "methods",
    "data-dictionary",
    "api/circuits",
    "findings",
    "gallery",
)
SCHEMES = {"light": "default", "dark": "slate"}
"""The site's, by that of the screen."""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_every_page_is_there_and_loads_nothing_from_elsewhere(site):
    for page in DOCS.rglob("*.md"):
        text = (site / page.relative_to(DOCS).with_suffix(".html")).read_text(encoding="utf-8")
        assert not re.search(r"<(?:script|img|iframe|link)\b[^>]*(?:src|href)=[\"']?https?:", text), name_of(page)


@pytest.mark.slow
def test_pages_fit_and_are_searched_from_the_disk(site):
    with started() as browser:
        for name in SHOWN:
            for scheme in ("light", "dark"):
                with open_page(browser, site / f"{name}.html", scheme=scheme) as page:
                    assert page.tab.get_attribute("body", "data-md-color-scheme") == SCHEMES[scheme]
                    for width in WIDTHS:
                        page.narrow(width)
                        page.check_width(width)
                    texts = page.tab.evaluate("Array.from(document.images).map(image => image.alt)")
                    assert all(len(text) >= 20 for text in texts), texts
        with open_page(browser, site / "index.html", width=1280) as page:
            page.tab.click("input[name=query]")
            page.tab.keyboard.type("interchange")
            page.tab.wait_for_selector(".md-search-result__item", timeout=20_000)
