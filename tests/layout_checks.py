"""How a page is laid out, in any browser's tab: widths of screens, links within it, words for pictures, colours."""

import json
import re
from dataclasses import dataclass

from playwright.sync_api import Page as Tab

PHONE_WIDTH = 390
WIDTHS = (1280, 768, PHONE_WIDTH)
PLOTS = ".js-plotly-plot"

# Elements that stick out to the right, unless something around them scrolls or clips
_TOO_WIDE = """width => Array.from(document.body.querySelectorAll('*')).filter(element => {
  if (element.getBoundingClientRect().right <= width + 1) return false;
  for (let outer = element.parentElement; outer; outer = outer.parentElement)
    if (getComputedStyle(outer).overflowX !== 'visible') return false;
  return true;
}).slice(0, 3).map(element => element.outerHTML.slice(0, 80))"""
# Plots that stick out of a box that does not scroll them, and words of a plot that lie outside of it
_CUT = """() => Array.from(document.querySelectorAll('.js-plotly-plot')).flatMap(plot => {
  const box = plot.closest('.wide') || document.body, own = plot.getBoundingClientRect();
  if (own.width === 0) return [];
  const room = box.getBoundingClientRect().width + 1;
  if (own.width > room && getComputedStyle(box).overflowX !== 'auto') return ['plot of ' + own.width];
  const words = plot.querySelectorAll('.legendtext, .gtitle, .xtitle, .ytitle, .annotation-text');
  return Array.from(words).filter(text => {
    const at = text.getBoundingClientRect();
    return at.width > 0 && (at.right > own.right + 2 || at.left < own.left - 2 || at.bottom > own.bottom + 2);
  }).map(text => text.textContent + JSON.stringify([text.getBoundingClientRect(), own]));
})"""
_WITHOUT_TEXT = """pictures => Array.from(document.querySelectorAll(pictures)).filter(picture => {
  const named = picture.closest('[role=img]');
  return ((named && named.ariaLabel) || picture.alt || '').trim().length < 20;
}).map(picture => picture.outerHTML.slice(0, 80))"""
_COVERED = """place => {
  const at = place.getBoundingClientRect();
  const top = document.elementFromPoint(at.left + 5, at.top + at.height / 2);
  return top === null || place.contains(top) ? '' : top.outerHTML.slice(0, 80);
}"""
_BACKGROUNDS = """() => [getComputedStyle(document.body).backgroundColor].concat(
  Array.from(document.querySelectorAll('.js-plotly-plot .main-svg:first-child'))
    .map(svg => svg.style.backgroundColor || getComputedStyle(svg).backgroundColor))"""


@dataclass
class LayoutChecks:
    """A page in a tab, with checks of how it is laid out.

    Attributes:
        tab: of the browser.
    """

    tab: Tab

    def settle(self) -> None:
        """Wait until the page looks the same twice."""
        last = b""
        for _ in range(40):
            shot = self.tab.screenshot()
            if shot == last:
                return
            last = shot
            self.tab.wait_for_timeout(50)
        raise AssertionError("the page does not come to rest")

    def narrow(self, width: int = PHONE_WIDTH) -> None:
        """Lay the page out anew, so wide, without loading it again."""
        self.tab.set_viewport_size({"width": width, "height": 900})
        self.settle()

    def check_width(self, width: int = PHONE_WIDTH) -> None:
        """The page, laid out so wide, does not scroll sideways; parts of it may."""
        actual = self.tab.viewport_size
        assert actual is not None
        assert actual["width"] == width, f"opened at {actual['width']} px, not {width}"
        wide = self.tab.evaluate("document.documentElement.scrollWidth")
        assert wide <= width + 1, f"{wide} px wide on a screen of {width}: {self.tab.evaluate(_TOO_WIDE, width)}"

    def check_screens(self) -> None:
        """As `check_width`, on three screens; and each figure is as wide as its box, or scrolls in it."""
        for width in WIDTHS:
            self.tab.set_viewport_size({"width": width, "height": 900})
            self.tab.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            self.check_width(width)
            cut = self.tab.evaluate(_CUT)
            assert not cut, f"cut off at {width}: {cut}"

    def check_alternatives(self) -> None:
        """Every picture has a text that says what it shows."""
        bare = self.tab.evaluate(_WITHOUT_TEXT, f"{PLOTS}, img, svg:not({PLOTS} svg, #js-plotly-tester)")
        assert not bare, f"without a text alternative: {bare}"

    def check_contents(self) -> int:
        """Every link within the page leads to what it names.

        Returns:
            How many there are in the bar of contents.
        """
        self.tab.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        for link in self.tab.query_selector_all("a[href^='#']"):
            name, text = link.get_attribute("href") or "", link.inner_text()
            targets = self.tab.query_selector_all(f"[id={json.dumps(name[1:])}]")
            assert len(targets) == 1, f"{name}: leads to {len(targets)} places"
            assert targets[0].inner_text() == text, f"{name}: leads to {targets[0].inner_text()!r}, not {text!r}"
            link.click()
            seen = targets[0].evaluate("place => [place.getBoundingClientRect().top, innerHeight]")
            at_end = self.tab.evaluate("scrollY + innerHeight >= document.documentElement.scrollHeight - 2")
            assert 0 <= seen[0] <= seen[1] / 3 or (at_end and 0 <= seen[0] <= seen[1]), f"{name}: is at {seen}"
            above = targets[0].evaluate(_COVERED)
            assert not above, f"{name}: is covered by {above}"
        return len(self.tab.query_selector_all("nav a"))

    def colours(self) -> set[tuple[int, int, int]]:
        """Background colours of the page and of its plots."""
        texts = self.tab.evaluate(_BACKGROUNDS)
        return {(int(r), int(g), int(b)) for r, g, b in (re.findall(r"\d+", text)[:3] for text in texts)}
