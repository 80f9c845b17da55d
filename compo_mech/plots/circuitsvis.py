"""circuitsvis views that work offline: in a notebook, or on a page that holds their script once.

circuitsvis' own output loads its script from elsewhere and stays blank offline; here the bundle that
its wheel ships is put inline.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jaxtyping import Float
from torch import Tensor


@cache
def bundle() -> str:
    """Return the JavaScript that all views of a page use."""
    import circuitsvis  # which takes a second

    return (Path(circuitsvis.__file__).parent / "dist" / "cdn" / "iife.js").read_text(encoding="utf-8")


def script() -> str:
    """Return the script that all views of a page use, to be placed before the first of them."""
    return f"<script>{bundle().replace('</script>', '')}</script>"


ELEMENTS = (
    *("AttentionHeads", "AttentionPattern", "AttentionPatterns", "ColoredTokens", "ColoredTokensMulti"),
    *("TextNeuronActivations", "TokenLogProbs", "TopkSamples", "TopkTokens"),
)
"""What the script draws."""


@dataclass(frozen=True)
class View:
    """One view: `html` for a page that has the `script` already, or, as a notebook shows it, with its own.

    Attributes:
        element: of circuitsvis.
        props: that it is drawn from, as JSON takes them.
        name: of the view's element, unique on the page.

    Raises:
        ValueError: the script would draw nothing: it has no such element, or cannot find one of this name.
    """

    element: str
    props: dict[str, object]
    name: str

    def __post_init__(self) -> None:
        if self.element not in ELEMENTS:
            raise ValueError(f"element = {self.element!r}: must be one of {', '.join(ELEMENTS)}")
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", self.name):
            raise ValueError(f"name = {self.name!r}: must be a letter, then letters, digits, - or _")

    @property
    def html(self) -> str:
        """The view without the script."""
        props = json.dumps(self.props).replace("<", "\\u003c")  # or a token could end the script, or begin one in it
        draw = f"CircuitsVis.render({json.dumps(self.name)}, CircuitsVis.{self.element}, {props})"
        return f'<div id="{self.name}" style="margin: 15px 0;"></div><script>{draw}</script>'

    def _repr_html_(self) -> str:
        return script() + self.html


def attention_view(patterns: Float[Tensor, "head pos pos"], labels: Sequence[str], name: str) -> View:
    """Show the attention of several heads on one string, each on hover.

    Args:
        patterns: weights, query by key.
        labels: of the positions.
        name: of the view, unlike that of any other on the page.

    Raises:
        ValueError: there are not as many labels as positions.
    """
    if patterns.shape[-1] != len(labels):
        raise ValueError(f"labels = {len(labels)}: must be {patterns.shape[-1]}, one a position")
    props: dict[str, object] = {"attention": _rounded(patterns), "tokens": list(labels)}
    return View("AttentionHeads", props, name)


def token_view(labels: Sequence[str], values: Float[Tensor, "pos measure"], measures: Sequence[str], name: str) -> View:
    """Show the tokens of one string, coloured by one of several measures.

    Raises:
        ValueError: values are not of one row a label and one column a measure.
    """
    if tuple(values.shape) != (len(labels), len(measures)):
        raise ValueError(f"values = {tuple(values.shape)}: must be {(len(labels), len(measures))}, labels by measures")
    props: dict[str, object] = {"tokens": list(labels), "values": _rounded(values), "labels": list(measures)}
    return View("ColoredTokensMulti", props, name)


def _rounded(values: Tensor) -> object:
    """Nested lists of four decimals: what is seen, in a tenth of the bytes."""
    if not values.isfinite().all():
        raise ValueError("values = not all finite: must be numbers, or nothing is drawn for them")
    return json.loads(
        json.dumps(values.detach().cpu().double().tolist()), parse_float=lambda text: round(float(text), 4)
    )
