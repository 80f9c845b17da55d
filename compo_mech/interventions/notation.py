"""Edges, sites and components as people write them, such as `L5H1 → L8H6.q`, and back."""

import re
from collections.abc import Iterable
from typing import NamedTuple, NoReturn, cast, get_args

from compo_mech.data.layout import Span
from compo_mech.interventions.edges import LOGITS, Edge, Reader, Writer
from compo_mech.model.sites import HEAD_KINDS, Kind, Site

ARROW = re.compile(r"\s*(?:→|->)\s*")
HEAD = re.compile(r"L(\d+)H(\d+)(?:\.(\w+))?")
STAGE = re.compile(r"([a-z_]+?)(\d+)")
WRITERS = "tok, pos, L0H1 or mlp0"
READERS = "L0H1.q, L0H1.k, L0H1.v, mlp0 or logits"
SITES = "L0H1.z, L0H1.pattern, resid_pre0, attn_out0 and the like"


class SitePatch(NamedTuple):
    """One activation: everywhere, or in one span of the row.

    >>> print(SitePatch(Site("z", 1, 0)), SitePatch(Site("resid_pre", 0), Span("states")), sep=", ")
    L1H0.z, resid_pre0 @ states
    """

    site: Site
    span: Span | None = None

    def __str__(self) -> str:
        return f"{self.site}" + (f" @ {self.span}" if self.span else "")


class Component(NamedTuple):
    """All that a writer puts out: everywhere, or in one span of the row.

    >>> print(Component(Writer("head", 1, 0)), Component(Writer("mlp", 0), Span("states")), sep=", ")
    L1H0, mlp0 @ states
    """

    writer: Writer
    span: Span | None = None

    def __str__(self) -> str:
        return f"{self.writer}" + (f" @ {self.span}" if self.span else "")


Patch = Edge | SitePatch | Component
"""What can be patched."""


def read_edge(text: str) -> Edge:
    """Return the edge that a text names: the inverse of `str(edge)`, with `->` for the arrow if one likes.

    Raises:
        ValueError: one line that says what is wrong with the text.

    >>> read_edge("tok -> L1H0.v") == Edge(Writer("tok"), Reader("v", 1, 0))
    True
    >>> read_edge("L5H1 → L8H6")
    Traceback (most recent call last):
    ValueError: edge = 'L5H1 → L8H6': must end in L0H1.q, L0H1.k, L0H1.v, mlp0 or logits
    """
    found = _read(text)
    if not isinstance(found, Edge):
        _refuse("edge", text, f"must be two ends with an arrow between, such as {WRITERS} → {READERS}")
    return found


def read_patches(text: str | Iterable[str | Patch]) -> list[Patch]:
    """Return what texts name: edges, sites and components, with commas, semicolons or line breaks between them.

    Raises:
        ValueError: one line that says what is wrong with a text, or there is nothing in it.

    >>> [str(found) for found in read_patches("L5H1 -> L8H6.q, mlp3 → logits @ states; L4H0.pattern")]
    ['L5H1 → L8H6.q', 'mlp3 → logits @ states', 'L4H0.pattern']
    """
    if not isinstance(text, str | Iterable):
        _refuse("patch", str(text), f"must be a text or a list of them, such as {WRITERS} → {READERS}")
    items = [item for item in re.split(r"[,;\n]", text) if item.strip()] if isinstance(text, str) else list(text)
    if not items:
        _refuse("patch", "", "must name an edge, such as L5H1 → L8H6.q")
    for item in items:
        if not isinstance(item, str | Edge | SitePatch | Component):
            _refuse("patch", str(item), "must be a text, an edge, a component or a site")
    return [_read(item) if isinstance(item, str) else item for item in items]


def _read(text: str) -> Patch:
    ends, at, name = (part.strip() for part in text.partition("@"))
    span = _span(text, name) if at else None
    parts = ARROW.split(ends)
    if len(parts) > 2:
        _refuse("edge", text, "must have one arrow")
    if len(parts) == 2:
        writer, reader = _writer(parts[0]), _reader(parts[1])
        if writer is None:
            _refuse("edge", text, f"must begin with {WRITERS}")
        if reader is None:
            _refuse("edge", text, f"must end in {READERS}")
        return Edge(writer, reader, span)
    writer, site = _writer(ends), _site(ends)
    if writer is not None:
        return Component(writer, span)
    if site is None:
        _refuse("patch", text, f"must be an edge, such as L5H1 → L8H6.q, a component: {WRITERS}, or a site: {SITES}")
    return SitePatch(site, span)


def _writer(text: str) -> Writer | None:
    head, stage = HEAD.fullmatch(text), STAGE.fullmatch(text)
    if head and head[3] is None:
        return Writer("head", int(head[1]), int(head[2]))
    if stage and stage[1] == "mlp":
        return Writer("mlp", int(stage[2]))
    return Writer(text) if text in ("tok", "pos") else None


def _reader(text: str) -> Reader | None:
    head, stage = HEAD.fullmatch(text), STAGE.fullmatch(text)
    if head and head[3] in ("q", "k", "v"):
        return Reader(head[3], int(head[1]), int(head[2]))
    if stage and stage[1] == "mlp":
        return Reader("mlp", int(stage[2]))
    return LOGITS if text == LOGITS.kind else None


def _site(text: str) -> Site | None:
    head, stage = HEAD.fullmatch(text), STAGE.fullmatch(text)
    if head and head[3] in HEAD_KINDS:
        return Site(cast(Kind, head[3]), int(head[1]), int(head[2]))
    if stage and stage[1] in set(get_args(Kind)) - set(HEAD_KINDS):
        return Site(cast(Kind, stage[1]), int(stage[2]))
    return None


def _span(text: str, name: str) -> Span:
    """The span that `str` writes like this; a name that it does not write is that of a span of one's own."""
    if not name:
        _refuse("edge", text, "must name a span behind the @")
    numbered = re.fullmatch(r"([xs])([1-9]\d*)", name)
    if numbered:
        return Span("input" if numbered[1] == "x" else "state", int(numbered[2]))
    return Span({"task": "first", "EoI": "end"}.get(name, name))


def _refuse(setting: str, text: str, allowed: str) -> NoReturn:
    raise ValueError(f"{setting} = {text.strip()!r}: {allowed}")
