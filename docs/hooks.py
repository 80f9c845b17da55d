"""What the site changes of the pages that it shares with the repository."""

MOVED = {"](docs/": "](", "](FINDINGS.md)": "](findings.md)"}
"""Links of the README, and what they are from the site's first page."""


def on_page_markdown(markdown: str, page, **_) -> str:
    """Return the README with links that lead to the site's pages; every other page as it is."""
    if page.file.src_uri == "index.md":
        for written, meant in MOVED.items():
            markdown = markdown.replace(written, meant)
    return markdown
