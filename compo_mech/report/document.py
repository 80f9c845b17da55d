"""Whole pages that open offline: their style, their contents, plotly's script where they have figures."""

import html
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compo_mech.plots.alternative import words
from compo_mech.plots.theme import layout_of, subscripts
from compo_mech.report.html_parts import again, asset, plotly_script, wide
from compo_mech.runs.files import write_whole

if TYPE_CHECKING:
    import plotly.graph_objects as go

MANY = 3
"""Sections from which on a page, and subsections from which on a section, begins with their list."""

HEADING = re.compile(r"<h([23])>(.*?)</h\1>", re.DOTALL)


def document(title: str, body: str, body_class: str = "") -> str:
    """Return a whole page; its headings can be linked to, and where there are several it has a bar of contents.

    Args:
        title: of the browser's tab.
        body: as HTML.
        body_class: "full" for a page as wide as the window.
    """
    style, script = asset("page.css"), plotly_script().html if "Plotly.newPlot" in body else ""
    kind = f' class="{body_class}"' if body_class else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{style}</style>"
        f"{script}</head><body{kind}>{with_contents(body)}</body></html>"
    )


def with_contents(body: str) -> str:
    """Give each heading an anchor, put links to the sections before the first, and in each links to its subsections.

    Example:
        >>> from compo_mech.report.document import with_contents
        >>> with_contents("<h2>Edges</h2><p>Few.</p>")
        '<h2 id="edges">Edges</h2><p>Few.</p>'
    """
    known: set[str] = set()

    def anchored(found: re.Match[str]) -> str:
        name = _name(found[2], known)
        return f'<h{found[1]} id="{name}">{found[2]}</h{found[1]}>'

    before, *sections = re.split("(?=<h2 id=)", HEADING.sub(anchored, body))
    links = _links(sections, 2)
    bar = f"<nav aria-label=Contents><ul>{''.join(f'<li>{link}</li>' for link in links)}</ul></nav>"
    return before + (bar if len(links) >= MANY else "") + "".join(map(_with_subsections, sections))


def _name(heading: str, known: set[str]) -> str:
    """Return a name for a heading's anchor that no other has."""
    plain = re.sub(r"\W+", "-", html.unescape(re.sub("<.*?>", "", heading)).lower()).strip("-") or "section"
    names = itertools.chain([plain], (f"{plain}-{n}" for n in itertools.count(2)))
    name = next(name for name in names if name not in known)
    known.add(name)
    return name


def _links(parts: list[str], level: int) -> list[str]:
    """Return a link to the first heading of each part."""
    found = (re.match(rf'<h{level} id="(.*?)">(.*?)</h{level}>', part, re.DOTALL) for part in parts)
    return [f'<a href="#{heading[1]}">{heading[2]}</a>' for heading in found if heading]


def _with_subsections(section: str) -> str:
    heading, end, rest = section.partition("</h2>")
    links = _links(re.split("(?=<h3 id=)", rest)[1:], 3)
    listed = f"<p class=within>In this section: {' · '.join(links)}</p>" if len(links) >= MANY else ""
    return heading + end + listed + rest


def write_page(page: str | bytes, out: Path) -> None:
    """Write a page, or an image, that does not belong to one run.

    Raises:
        ValueError: it cannot be written.
    """
    try:
        write_whole(out, page)
    except OSError as error:
        raise ValueError(f"out = {out}: cannot be written ({error.strerror})") from None


def write_figure(figure: "go.Figure", out: Path, caption: str, command: Sequence[str]) -> None:
    """Write a figure as an offline page (.html), or as an image (.png, .svg, .pdf), which takes kaleido and a Chrome.

    Args:
        figure: to be written.
        out: where to.
        caption: what it shows, for the page.
        command: that draws it, after `python`, for the page.

    Raises:
        ValueError: the image cannot be drawn, not in this format, or not written.
    """
    if out.suffix == ".html":
        title = words(layout_of(figure).title.text) or out.stem.replace("_", " ")
        write_page(figure_page(figure, title, caption, command), out)
        return
    allowed = "must end in .html, or in .png, .svg or .pdf with kaleido"
    if out.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"out = {out}: {allowed}")
    try:
        image = figure.to_image(format=out.suffix.removeprefix("."), scale=1.5)
    except (ValueError, RuntimeError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"out = {out}: {allowed} ({reason})") from None
    write_page(image, out)


def figure_page(figure: "go.Figure", title: str, caption: str, command: Sequence[str]) -> str:
    """Return the page of one figure: its title, the figure, what it shows, and how it is drawn."""
    import plotly.graph_objects as go

    untitled = go.Figure(figure).update_layout(title_text="")
    parts = [f"<h1>{subscripts(title)}</h1>", wide(untitled), f"<p>{subscripts(caption)}</p>", again(command)]
    return document(title, "\n".join(parts), body_class="full")
