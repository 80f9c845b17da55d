"""Colours and layout that figures have in common. Nothing here changes plotly's settings on import."""

HEAD_COLOURS = ("#4c5fd5", "#e07a1f", "#2a9d6f", "#c2418f", "#8a6d3b", "#1f9ac2", "#b23a3a", "#6b6b6b")
LAYOUT = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "margin": {"l": 60, "r": 20, "t": 50, "b": 50},
}
