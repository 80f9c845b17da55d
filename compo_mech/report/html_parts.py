"""Pages that open offline: one document, figures with one copy of their script, tables."""

import html
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import plotly.io
from plotly.offline import get_plotlyjs

from compo_mech.runs.files import write_whole
from compo_mech.runs.outcome import ACCURACY_LEVEL

_STYLE = """
body { font-family: system-ui, sans-serif; color: #202124; max-width: 1100px; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.verdict { font-size: 1.1rem; border-left: 4px solid #4c5fd5; padding: .6rem 1rem; background: #f4f5fc; }
.problem { font-size: .95rem; border-left: 4px solid #b23a3a; padding: .6rem 1rem; background: #fcf1f0;
overflow-wrap: anywhere; } .problem ul { margin: .3rem 0; padding-left: 1.2rem; }
.quiet { color: #5f6368; font-size: .9rem; } .wide { overflow-x: auto; } .drawn { min-width: 720px; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #e3e5e8; }
th { border-bottom: 2px solid #9aa0a6; vertical-align: bottom; } td { white-space: nowrap; } td.low { color: #b23a3a; }
code, pre { background: #f1f3f4; border-radius: 4px; padding: .1rem .3rem; overflow-x: auto; }
pre { padding: .7rem; } body.full { max-width: none; }
.full th { white-space: nowrap; }
.full td:first-child, .full th:first-child { position: sticky; left: 0; background: #fff; }
"""


def document(title: str, body: str, script: str = "", body_class: str = "") -> str:
    """Return a whole page.

    Args:
        title: of the browser's tab.
        body: as HTML.
        script: that the body needs, such as plotly's.
        body_class: "full" for a page as wide as the window.
    """
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f"<script>{script}</script></head><body class='{body_class}'>{body}</body></html>"
    )


def figure_html(figure: go.Figure) -> str:
    """Return a figure without plotly's script, which the page holds once."""
    config = {"displaylogo": False, "responsive": True}
    return plotly.io.to_html(figure, include_plotlyjs=False, full_html=False, config=config, auto_play=False)


def write_page(page: str | bytes, out: Path) -> None:
    """Write a page, or an image, that does not belong to one run.

    Raises:
        ValueError: it cannot be written.
    """
    try:
        write_whole(out, page)
    except OSError as error:
        raise ValueError(f"out = {out}: cannot be written ({error.strerror})") from None


def write_figure(figure: go.Figure, out: Path) -> None:
    """Write a figure as an offline page (.html), or as an image (.png, .svg, .pdf), which takes kaleido and a Chrome.

    Raises:
        ValueError: the image cannot be drawn, not in this format, or not written.
    """
    if out.suffix == ".html":
        title = figure.layout.title.text or out.stem
        write_page(document(str(title), wide(figure), script=get_plotlyjs(), body_class="full"), out)
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


@dataclass(frozen=True)
class Shown:
    """HTML as a notebook shows it."""

    html: str

    def _repr_html_(self) -> str:
        return self.html


def plotly_script() -> Shown:
    """Return plotly's script, to be placed in a notebook before the first figure."""
    return Shown(f"<script>{get_plotlyjs()}</script>")


def offline(figure: go.Figure) -> Shown:
    """Show a figure in a notebook that has the script: plotly's own output loads MathJax from the internet."""
    return Shown(figure_html(figure))


def wide(figure: go.Figure) -> str:
    """Return a figure that scrolls sideways where the screen is narrow."""
    return f"<div class=wide><div class=drawn>{figure_html(figure)}</div></div>"


def table_html(table: pd.DataFrame) -> str:
    """Return a table as it is, likewise."""
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in table.columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row) + "</tr>"
        for row in table.itertuples(index=False)
    )
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def html_table(table: pd.DataFrame) -> str:
    """Return a table by length and head: fractions in percent, those below the level of accuracy marked."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in table.columns)
    body = ""
    for _, row in table.iterrows():
        cells = ""
        for name, value in row.items():
            share = name in ("free", "forced", "grammar")
            low = ' class="low"' if share and value < ACCURACY_LEVEL else ""
            cells += f"<td{low}>{f'{value:.1%}' if share else html.escape(str(value))}</td>"
        body += f"<tr>{cells}</tr>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def counted(n: int, what: str) -> str:
    """Write a number of things, as `1 run` or `2 runs`."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def capitalised(text: str) -> str:
    """Return the text with a capital first letter."""
    return text[0].upper() + text[1:]
