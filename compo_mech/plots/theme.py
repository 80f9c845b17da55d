"""Colours and layout that figures have in common. Nothing here changes plotly's settings on import."""

import html

HEAD_COLOURS = ("#4c5fd5", "#e07a1f", "#2a9d6f", "#c2418f", "#8a6d3b", "#1f9ac2", "#b23a3a", "#6b6b6b")
LAYOUT = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "margin": {"l": 60, "r": 20, "t": 50, "b": 50},
}


def plain(text: str) -> str:
    """Return text that plotly shows letter by letter: names of runs, tasks and tokens, tags in which mean nothing."""
    return html.escape(text, quote=False)
