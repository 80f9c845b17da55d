"""Names of the computational graph: its writers, its readers, and the edges between them.

Writers put something into the residual stream: the token embedding, the position embedding where there is one, every
head, every MLP. Readers take the stream in: the queries of each head, keys and values, which heads may share, every MLP
and the logits. An edge is a (writer, reader) pair, which may be narrowed to a span of the row, such as the states.
Where attention and MLP are parallel, no head of its layer writes to an MLP.
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
    """`q` of a head, `k` or `v` of a head of keys and values, `mlp` of a layer, or `logits`.

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
    writers = embedding_writers(config)
    for earlier in range(layer):
        writers += [Writer("head", earlier, head) for head in range(config.n_heads)]
        writers += [] if config.attn_only else [Writer("mlp", earlier)]
    if reader.kind == "mlp" and not config.parallel_attn_mlp:
        writers += [Writer("head", layer, head) for head in range(config.n_heads)]
    return writers


def embedding_writers(config: ModelConfig) -> list[Writer]:
    """The writers that no reader feeds: `tok`, and `pos` where positions have an embedding.

    >>> [str(writer) for writer in embedding_writers(ModelConfig(positional_embedding="rotary"))]
    ['tok']
    """
    return [TOK, POS] if config.positional_embedding == "standard" else [TOK]


def readers_of(writer: Writer, config: ModelConfig) -> list[Reader]:
    """What a head or an MLP computes its output from.

    >>> config = ModelConfig(n_heads=4, n_key_value_heads=2)
    >>> [str(reader) for reader in readers_of(Writer("head", 0, 3), config)]
    ['L0H3.q', 'L0H1.k', 'L0H1.v']
    """
    if writer.kind == "mlp":
        return [Reader("mlp", writer.layer)]
    if writer.head is None:
        return []
    shared = writer.head // config.n_sharing
    return [Reader("q", writer.layer, writer.head), *(Reader(kind, writer.layer, shared) for kind in "kv")]


def heads_reading(reader: Reader, config: ModelConfig) -> list[int]:
    """The heads of its layer whose output depends on a reader: several where they share keys and values.

    >>> config = ModelConfig(n_heads=4, n_key_value_heads=2)
    >>> [heads_reading(Reader(kind, 0, 1), config) for kind in "qk"]
    [[1], [2, 3]]
    """
    if reader.head is None:
        return []
    if reader.kind == "q":
        return [reader.head]
    return list(range(reader.head * config.n_sharing, (reader.head + 1) * config.n_sharing))


def all_readers(config: ModelConfig) -> list[Reader]:
    """Every reader, in order of computation.

    >>> [str(reader) for reader in all_readers(ModelConfig(n_layers=1, n_heads=1))]
    ['L0H0.q', 'L0H0.k', 'L0H0.v', 'mlp0', 'logits']
    """
    readers = []
    for layer in range(config.n_layers):
        for head in range(config.n_heads):
            readers += [Reader(kind, layer, head) for kind in ("qkv" if head < config.n_kv_heads else "q")]
        readers += [] if config.attn_only else [Reader("mlp", layer)]
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
            raise ValueError(f"edge = {edge}: must be one of the network's, {_parts(model.config)}")


def _parts(config: ModelConfig) -> str:
    """What the edges of a network are between, in words."""
    words = f"{config.n_layers} layers × {config.n_heads} heads"
    if config.n_kv_heads != config.n_heads:
        words += f" with {config.n_kv_heads} of keys and values"
    words += "" if config.positional_embedding == "standard" else ", no pos"
    words += ", no MLPs" if config.attn_only else ""
    return words + (", attention and MLP in parallel" if config.parallel_attn_mlp else "")
