"""Names of the computational graph: its writers, its readers, and the edges between them.

Writers put something into the residual stream: the token embedding, the position embedding, every head, every MLP.
Readers take the stream in: each head's queries, keys and values, every MLP and the logits. An edge is a (writer,
reader) pair, which may be narrowed to a span of the row, such as the states.
"""

from collections.abc import Sequence
from typing import NamedTuple

from compo_mech.data.layout import WHOLE_SPANS, Span
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model


class Writer(NamedTuple):
    """`tok`, `pos`, `head` or `mlp`; layer and head where it has them.

    >>> str(Writer("head", 1, 0)), str(Writer("mlp", 0)), str(TOK)
    ('L1H0', 'mlp0', 'tok')
    """

    kind: str
    layer: int | None = None
    head: int | None = None

    def __str__(self) -> str:
        return self.kind if self.layer is None else _component(self.kind, self.layer, self.head)


class Reader(NamedTuple):
    """`q`, `k` or `v` of a head, `mlp` of a layer, or `logits`.

    >>> str(Reader("q", 1, 0)), str(Reader("mlp", 0)), str(LOGITS)
    ('L1H0.q', 'mlp0', 'logits')
    """

    kind: str
    layer: int | None = None
    head: int | None = None

    def __str__(self) -> str:
        if self.kind in ("q", "k", "v"):
            return f"L{self.layer}H{self.head}.{self.kind}"
        return self.kind if self.layer is None else _component(self.kind, self.layer, self.head)


class Edge(NamedTuple):
    """What a writer puts out, as one reader sees it: everywhere, or in one span of the row.

    >>> print(Edge(TOK, Reader("v", 1, 0)), Edge(Writer("mlp", 1), LOGITS, Span("states")), sep=", ")
    tok → L1H0.v, mlp1 → logits @ states
    """

    writer: Writer
    reader: Reader
    span: Span | None = None

    def __str__(self) -> str:
        return f"{self.writer} → {self.reader}" + (f" @ {self.span}" if self.span else "")


def _component(kind: str, layer: int | None, head: int | None) -> str:
    return f"L{layer}H{head}" if kind == "head" else f"{kind}{layer}"


TOK, POS, LOGITS = Writer("tok"), Writer("pos"), Reader("logits")


def writers_before(reader: Reader, config: ModelConfig) -> list[Writer]:
    """Every writer that a reader sees, in order of computation.

    >>> [str(writer) for writer in writers_before(Reader("mlp", 0), ModelConfig(n_layers=2, n_heads=2))]
    ['tok', 'pos', 'L0H0', 'L0H1']
    """
    layer = config.n_layers if reader.layer is None else reader.layer
    writers = [TOK, POS]
    for earlier in range(layer):
        writers += [Writer("head", earlier, head) for head in range(config.n_heads)] + [Writer("mlp", earlier)]
    if reader.kind == "mlp":
        writers += [Writer("head", layer, head) for head in range(config.n_heads)]
    return writers


def all_readers(config: ModelConfig) -> list[Reader]:
    """Every reader, in order of computation.

    >>> [str(reader) for reader in all_readers(ModelConfig(n_layers=1, n_heads=1))]
    ['L0H0.q', 'L0H0.k', 'L0H0.v', 'mlp0', 'logits']
    """
    readers = []
    for layer in range(config.n_layers):
        readers += [Reader(kind, layer, head) for head in range(config.n_heads) for kind in "qkv"]
        readers.append(Reader("mlp", layer))
    return [*readers, LOGITS]


def all_edges(config: ModelConfig, by_span: bool = False) -> list[Edge]:
    """Every edge of the network, by reader in order of computation; `by_span`: once for each span of the row.

    >>> config = ModelConfig(n_layers=1, n_heads=1)
    >>> [str(edge) for edge in all_edges(config) if edge.reader == LOGITS]
    ['tok → logits', 'pos → logits', 'L0H0 → logits', 'mlp0 → logits']
    >>> len(all_edges(config)), len(all_edges(config, by_span=True))
    (13, 52)
    """
    spans = WHOLE_SPANS if by_span else (None,)
    readers = all_readers(config)
    return [Edge(w, reader, span) for reader in readers for w in writers_before(reader, config) for span in spans]


def check_edges(model: Model, edges: Sequence[Edge]) -> None:
    """Refuse edges that the network does not have.

    Raises:
        ValueError: there is none, or one of them is not in the network.

    >>> from compo_mech import Parity, build
    >>> check_edges(build(Parity(), max_length=3).model, [Edge(Writer("mlp", 4), LOGITS)])
    Traceback (most recent call last):
    ValueError: edge = mlp4 → logits: must be one of the network's, 2 layers × 2 heads
    """
    if not edges:
        raise ValueError("edges = none: there must be at least one")
    known = set(all_edges(model.config))
    for edge in edges:
        if edge._replace(span=None) not in known:
            n_layers, n_heads = model.config.n_layers, model.config.n_heads
            raise ValueError(f"edge = {edge}: must be one of the network's, {n_layers} layers × {n_heads} heads")
