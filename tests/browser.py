"""Pages in headless Chromium with the network off: quiet, drawn, moved by the mouse."""

import base64
import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from layout_checks import PLOTS, LayoutChecks
from playwright.sync_api import Browser, ElementHandle, FloatRect, TimeoutError, sync_playwright

Scheme = Literal["light", "dark"]
MIN_HEIGHT = 100
"""Pixels below which a plot is no picture."""
MIN_COLOURS = 6
"""A page's background, a frame and one line of grey text come to fewer."""
N_LOOKS = 10
"""Until a plot is painted, every fifth of a second."""
MIN_DRAWN = 20
"""Pixels that must differ for two pictures to count as different."""
OFFLINE = ("file:", "data:", "blob:", "about:")

MARKS = ".overplot, .polarlayer, .pielayer, .gl-container, .glimages, .table, .sankey, .treemaplayer"
"""Where plotly puts what is drawn from data, axes and texts aside."""

# Whether an array anywhere in a trace holds a value; typed ones are plotly's own, bdata those of Python
_HAS_DATA = """plot => (plot.data || []).some(trace => {
  const held = (value) => {
    if (value === null || typeof value !== 'object') return false;
    if (Array.isArray(value) || ArrayBuffer.isView(value)) return Array.from(value).some(
      item => typeof item === 'object' ? held(item) : item !== null && item !== '' && !Number.isNaN(item));
    return Boolean(value.bdata && value.bdata.length);
  };
  return ['x', 'y', 'z', 'values', 'r', 'node', 'cells'].some(name => held(trace[name]));
})"""
# Pixels of pictures, decoded by the browser: how many colours one has, in how many two of one size differ
_PIXELS = """async urls => {
  const pixels = async (url) => {
    const image = await createImageBitmap(await (await fetch(url)).blob());
    const context = new OffscreenCanvas(image.width, image.height).getContext('2d');
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, image.width, image.height).data;
  };
  const [first, second] = await Promise.all(urls.map(pixels));
  const colours = new Set();
  let n_different = 0;
  for (let i = 0; i < first.length; i += 4) {
    colours.add((first[i] << 16) | (first[i + 1] << 8) | first[i + 2]);
    if (second && [0, 1, 2].some(k => first[i + k] !== second[i + k])) n_different += 1;
  }
  return [colours.size, second && second.length !== first.length ? first.length : n_different];
}"""
_PLOT_AREA = """plot => {
  const box = plot.getBoundingClientRect(), size = plot._fullLayout._size;
  return {x: box.x + size.l, y: box.y + size.t, width: size.w, height: size.h};
}"""
_ARE_DRAWN = "() => [...document.querySelectorAll('.plotly-graph-div')].every(plot => plot._fullLayout)"


@dataclass(frozen=True)
class Picture:
    """A picture on a page: plotly, circuitsvis or img; its name, height, and number of colours."""

    kind: str
    name: str
    height: float
    n_colours: int


@dataclass
class Page(LayoutChecks):
    """An open page.

    Attributes:
        tab: of the browser.
        errors: what it wrote to the console as an error, or threw.
        fetched: addresses that it asked the network for.
    """

    errors: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    def check_quiet(self) -> None:
        """No request to the network and no error so far."""
        assert not self.fetched, f"asks the network: {self.fetched}"
        assert not self.errors, f"errors: {self.errors}"

    def pictures(self) -> list[Picture]:
        """Every picture on the page, each of which must show something."""
        found = [self._plot(plot, f"plot {i}") for i, plot in enumerate(self.tab.query_selector_all(PLOTS))]
        for name in self._views():
            view = self.tab.query_selector(f"[id='{name}']")
            assert view is not None, f"view {name}: has no place on the page"
            found.append(self._other("circuitsvis", view, name))
        for image in self.tab.query_selector_all("img"):
            name = (image.get_attribute("src") or "")[:60]
            assert image.evaluate("image => image.complete && image.naturalWidth > 0"), f"img {name}: is not there"
            if image.is_visible():
                found.append(self._other("img", image, name))
        return found

    def move_sliders(self) -> int:
        """Drag the handle of every plotly slider to its last, first and middle step; each must change the plot.

        Returns:
            How many sliders there are.
        """
        n_sliders = 0
        for plot in self.tab.query_selector_all(PLOTS):
            layout = plot.evaluate("plot => (plot._fullLayout.sliders || []).map(s => [s.visible, s.steps.length])")
            shown = [index for index, (visible, n_steps) in enumerate(layout) if visible and n_steps > 1]
            groups = plot.query_selector_all(".slider-group")
            assert len(groups) == len(shown), f"{len(shown)} sliders, of which {len(groups)} are drawn"
            for index, group in zip(shown, groups, strict=True):
                self._move(plot, group, index, layout[index][1])
                n_sliders += 1
        return n_sliders

    def _views(self) -> list[str]:
        """Names of the circuitsvis views, from the calls that draw them."""
        scripts = self.tab.evaluate("Array.from(document.scripts).map(s => s.text).filter(t => t.length < 1e6)")
        return [name for script in scripts for name in re.findall(r'^CircuitsVis\.render\("([^"]+)"', script)]

    def _plot(self, plot: ElementHandle, name: str) -> Picture:
        title = plot.evaluate("plot => plot.layout && plot.layout.title && plot.layout.title.text")
        name = f"{name} ({title})" if title else name
        assert plot.evaluate(_HAS_DATA), f"{name}: has no data"
        height = self._box(plot)["height"]
        assert height >= MIN_HEIGHT, f"{name}: is {height} px high"
        n_colours, area = self._check_colours(plot, name), self._area_shot(plot)
        hide = f"(plot, hidden) => plot.querySelectorAll({MARKS!r}).forEach(m => m.style.visibility = hidden)"
        plot.evaluate(hide, "hidden")
        n_drawn = self._pixels(area, self._area_shot(plot))[1]
        plot.evaluate(hide, "")
        assert n_drawn >= MIN_DRAWN, f"{name}: nothing is drawn from its data ({n_drawn} pixels)"
        return Picture("plotly", name, height, n_colours)

    def _other(self, kind: str, element: ElementHandle, name: str) -> Picture:
        height = self._box(element)["height"]
        assert height > 0, f"{kind} {name}: is empty"
        return Picture(kind, name, height, self._check_colours(element, f"{kind} {name}"))

    def _check_colours(self, element: ElementHandle, name: str) -> int:
        """How many it has; a browser on a busy machine may not have painted yet what came into view."""
        for _ in range(N_LOOKS):
            n_colours = self._pixels(element.screenshot())[0]
            if n_colours >= MIN_COLOURS:
                return n_colours
            self.tab.wait_for_timeout(200)
        raise AssertionError(f"{name}: has {n_colours} colours")

    def _move(self, plot: ElementHandle, group: ElementHandle, index: int, n_steps: int) -> None:
        active = f"plot => plot._fullLayout.sliders[{index}].active"
        for target in dict.fromkeys((n_steps - 1, 0, n_steps // 2)):
            if plot.evaluate(active) == target:
                continue
            before = self._area_shot(plot)
            grip, rail = (group.query_selector(f".slider-{part}-rect") for part in ("grip", "rail-touch"))
            assert grip is not None
            assert rail is not None
            rail.scroll_into_view_if_needed()
            start, line = self._box(grip), self._box(rail)
            half, n_errors = start["width"] / 2, len(self.errors)
            reach = half + (line["width"] - 2 * half) * target / (n_steps - 1)
            y = start["y"] + start["height"] / 2
            mouse = self.tab.mouse
            mouse.move(start["x"] + half, y)
            mouse.down()
            mouse.move(line["x"] + reach, y, steps=4)
            mouse.up()
            mouse.move(0, 0)
            self.settle()
            # plotly rejects, with no reason, the promise of an animation that the rest of the drag cuts short
            self.errors[n_errors:] = [error for error in self.errors[n_errors:] if error != "undefined"]
            now = plot.evaluate(active)
            assert now == target, f"slider {index}: dragged to step {target}, is at {now}"
            n_different = self._pixels(before, self._area_shot(plot))[1]
            assert n_different >= MIN_DRAWN, f"slider {index}: step {target} changes {n_different} pixels"

    def _box(self, element: ElementHandle) -> FloatRect:
        return element.bounding_box() or {"x": 0, "y": 0, "width": 0, "height": 0}

    def _area_shot(self, plot: ElementHandle) -> bytes:
        """What is inside a plot's margins: no slider, no title, no legend."""
        plot.scroll_into_view_if_needed()
        area = plot.evaluate(_PLOT_AREA)
        offset = self.tab.evaluate("[window.scrollX, window.scrollY]")
        area |= {"x": area["x"] + offset[0], "y": area["y"] + offset[1]}
        return self.tab.screenshot(clip=area, full_page=True)

    def _pixels(self, *pictures: bytes) -> tuple[int, int]:
        """Colours of the first picture, and pixels in which the second differs."""
        urls = [f"data:image/png;base64,{base64.b64encode(picture).decode()}" for picture in pictures]
        n_colours, n_different = self.tab.evaluate(_PIXELS, urls)
        return n_colours, n_different


def chromium() -> str:
    """The browser's path. Without one the test is skipped, or fails where CI is set."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    reason = "no chromium: apt-get install chromium"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def started() -> Iterator[Browser]:
    """A browser, for any number of pages."""
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def open_page(
    browser: Browser, source: Path | str, width: int = 1200, height: int = 900, scheme: Scheme = "light"
) -> Iterator[Page]:
    """A file, or HTML as text, opened with the network off; on leaving, it must have been quiet."""
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(source, str):
            path = Path(folder) / "page.html"
            path.write_text(source, encoding="utf-8")
        else:
            path = source.resolve()
        context = browser.new_context(
            offline=True, viewport={"width": width, "height": height}, service_workers="block", color_scheme=scheme
        )
        try:
            page = Page(context.new_page())
            context.on("request", lambda asked: _note(page, asked.url))
            page.tab.on("websocket", lambda socket: _note(page, socket.url))
            page.tab.on("console", lambda said: page.errors.append(said.text) if said.type == "error" else None)
            page.tab.on("pageerror", lambda error: page.errors.append(str(error)))
            page.tab.goto(path.as_uri())
            page.tab.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
            with contextlib.suppress(TimeoutError):  # what is not drawn is found by who looks for it
                page.tab.wait_for_function(_ARE_DRAWN, timeout=10_000)
            page.settle()
            yield page
            page.check_quiet()
        finally:
            context.close()


def _note(page: Page, url: str) -> None:
    if not url.startswith(OFFLINE):
        page.fetched.append(url)
