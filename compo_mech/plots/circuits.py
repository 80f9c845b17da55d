"""A circuit as a graph, and on the positions of a string."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from compo_mech.circuits.circuit import Circuit
from compo_mech.circuits.selection import graph_order
from compo_mech.data.layout import Layout
from compo_mech.interventions.edges import Edge, Reader, heads_reading
from compo_mech.model.config import ModelConfig
from compo_mech.model.sites import Site
from compo_mech.plots.circuit_spots import component_name, is_large, spots_of, stage_of
from compo_mech.plots.theme import (
    BLUE,
    GREEN,
    INK,
    LIGHT,
    ORANGE,
    PAPER,
    QUIET,
    SHADES,
    base_layout,
    indexed,
    layout_of,
    legend_below,
    scale,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

EDGE_COLOURS = {"q": BLUE, "k": ORANGE, "v": GREEN, "other": QUIET}

PORTS = {"q": -0.16, "k": 0.0, "v": 0.16}
"""Where the inputs of a head lie, left to right."""

EDGE_WIDTHS = (0.7, 7.0)
"""Pixels, of the smallest and the largest |score|."""

SHOWN_WEIGHT = 0.1
"""Attention below this is not drawn between columns."""


def circuit_graph(circuit: Circuit, title: str = "") -> "go.Figure":
    """A circuit as a graph: embeddings below, then heads and MLP of each layer, logits on top.

    The width of an edge is its |score|, its colour the input that it goes into. Heads take in
    queries, keys and values from left to right; keys and values that heads share are drawn at each of them, and
    components that no edge touches are pale; in a large network they are left out, and so are layers without any.

    Args:
        circuit: its edges, one span or none each, and their scores (an edge without one is thin).
        title: of the figure.
    """
    import plotly.graph_objects as go

    config, figure = circuit.config, go.Figure()
    drawn = [(edge, reader) for edge in circuit.edges for reader in _drawn_readers(edge.reader, config)]
    touched = {component_name(end) for edge, reader in drawn for end in (edge.writer, reader)}
    spots = spots_of(config, touched)
    largest, xs = _largest(circuit), [x for x, _ in spots.values()]
    for edge, reader in sorted(drawn, key=lambda line: abs(circuit.scores.get(line[0], 0.0))):
        kind = _colour_name(reader)
        (x0, y0), (x1, y1) = spots[component_name(edge.writer)], spots[component_name(reader)]
        x1 += PORTS.get(kind, 0.0)
        side = -1 if x0 + x1 < 0 or edge.writer.kind == "tok" else 1
        x, y = _curve(x0, y0 + 0.1, x1, y1 - (0.23 if kind in PORTS else 0.11), side * 0.2 * max(0.0, y1 - y0 - 1))
        xs += x
        size = abs(circuit.scores.get(edge, 0.0)) / largest
        score = f"{circuit.scores[edge]:.3g}" if edge in circuit.scores else "no score"
        _line(figure, x, y, size, f"{edge}: {score}", kind)
    for name, (x, y) in spots.items():
        ink = INK if name in touched else LIGHT
        figure.add_annotation(
            x=x, y=y, text=name, showarrow=False, font={"color": ink},
            bgcolor=PAPER, borderpad=4, borderwidth=1.5, bordercolor=ink,
        )  # fmt: skip
        for port, shift in PORTS.items() if "H" in name else ():
            colour = EDGE_COLOURS[port] if name in touched else ink
            figure.add_annotation(
                x=x + shift, y=y - 0.17, text=port, showarrow=False, font={"color": colour, "size": 11}
            )
    height, across = max(y for _, y in spots.values()), max(xs) - min(xs)
    width = max(720, 190 * config.n_heads + 330) if not is_large(config) else max(720, round(120 * across))
    figure.update_layout(**base_layout(), title=title, width=width, height=round(150 + 125 * height))
    _legend(figure, 10)
    figure.update_xaxes(visible=False, range=[min(xs) - 0.4, max(xs) + 0.4])
    figure.update_yaxes(visible=False, range=[-0.45, height + 0.45])
    return figure


def circuit_on_positions(
    circuit: Circuit,
    layout: Layout,
    length: int,
    patterns: Sequence[Float[Tensor, "head pos pos"]],
    effects: Float[Tensor, "stage pos"],
    title: str = "",
) -> "go.Figure":
    """A circuit laid out on one example row: a column a token, a row of positions a stage.

    Only what leads to a scored row is drawn. Queries, MLPs and logits stay in their column; keys
    and values go to the columns that attend to them, as wide as |score| times attention.

    Args:
        circuit: edges, restricted to spans or not, and their scores.
        layout: of the row.
        length: of the row's string.
        patterns: attention on the row, one tensor a layer; queries down, keys across.
        effects: how dark each position is: embeddings, then heads and MLP of each layer, then logits.
        title: of the figure.

    Raises:
        ValueError: the effects or the patterns are not of the circuit's stages and the row's tokens.
    """
    import plotly.graph_objects as go

    labels, n_stages, figure = indexed(layout.labels(length)), 2 * circuit.config.n_layers + 2, go.Figure()
    _check_stages(circuit, len(labels), patterns, effects)
    bundles = _bundles(circuit, layout, length, patterns)
    for (kind, y0, x0, y1, x1), members in sorted(bundles.items(), key=lambda item: max(item[1])[0]):
        bend = 0.3 * (y1 - y0 - 1) / n_stages if x0 == x1 else 0.0
        shift = PORTS.get(kind, 0.0) / 2  # so that keys and values of one position lie side by side
        x, y = _curve(x0 + shift, y0 + 0.12, x1 + shift, y1 - 0.12, bend)
        _line(figure, x, y, max(members)[0], "<br>".join(text for _, text in members), kind)
    names = [
        "embed",
        *(str(Site(kind, layer)) for layer in range(circuit.config.n_layers) for kind in ("attn_out", "mlp_out")),
        "logits",
    ]
    _add_stages(figure, names, labels, effects)
    figure.update_layout(**base_layout(), title=title, width=190 + 54 * len(labels), height=170 + 95 * n_stages)
    _legend(figure, 40)
    figure.update_xaxes(tickvals=list(range(len(labels))), ticktext=labels, showgrid=False, zeroline=False)
    figure.update_yaxes(tickvals=list(range(n_stages)), ticktext=names, showgrid=False, zeroline=False)
    return figure


def _check_stages(circuit: Circuit, n_tokens: int, patterns: Sequence[Tensor], effects: Tensor) -> None:
    """Refuse effects and patterns that are not of the circuit's stages and the row's tokens."""
    n_layers, n_heads = circuit.config.n_layers, circuit.config.n_heads
    n_stages = 2 * n_layers + 2
    if tuple(effects.shape) != (n_stages, n_tokens):
        raise ValueError(f"effects = {tuple(effects.shape)}: must be {n_stages} stages × {n_tokens} tokens")
    for pattern in patterns:
        if len(patterns) != n_layers or tuple(pattern.shape) != (n_heads, n_tokens, n_tokens):
            heads = f"{n_layers} layers × {n_heads} heads"
            raise ValueError(f"patterns = {len(patterns)} × {tuple(pattern.shape)}: must be {heads} × tokens × tokens")


Bundle = tuple[str, int, int, int, int]
"""Lines that lie on each other: kind, then stage and column of their start and of their end."""


def _bundles(
    circuit: Circuit, layout: Layout, length: int, patterns: Sequence[Float[Tensor, "head pos pos"]]
) -> dict[Bundle, list[tuple[float, str]]]:
    """Width and text of every line that leads to a scored row."""
    n_layers, largest = circuit.config.n_layers, _largest(circuit)
    bundles: dict[Bundle, list[tuple[float, str]]] = defaultdict(list)
    leading, n_pos = {("logits", column) for column in layout.scored(length)}, len(layout.labels(length))
    for edge in sorted(circuit.edges, key=graph_order, reverse=True):  # from the logits down
        score, stages = circuit.scores.get(edge, 0.0), [stage_of(end, n_layers) for end in (edge.writer, edge.reader)]
        for reader in _drawn_readers(edge.reader, circuit.config):
            for start, end, weight in _columns(edge._replace(reader=reader), layout, length, patterns, n_pos):
                if (component_name(reader), end) not in leading:
                    continue
                leading.add((component_name(edge.writer), start))
                bundle = (_colour_name(reader), stages[0], start, stages[1], end)
                label = f"{edge}: {score:.3g}" + (f" × attention {weight:.2f}" if weight < 1 else "")
                bundles[bundle].append((abs(score) * weight / largest, label))
    return bundles


def _drawn_readers(reader: Reader, config: ModelConfig) -> list[Reader]:
    """Where a reader is drawn: keys and values that heads share at each of these heads."""
    return [reader._replace(head=head) for head in heads_reading(reader, config)] or [reader]


def _add_stages(figure: "go.Figure", names: Sequence[str], labels: Sequence[str], effects: Tensor) -> None:
    """Add a dot for each stage at each token, the darker the larger its effect."""
    shade = (effects.abs() / effects.abs().max().clamp(min=1e-12)).tolist()
    texts = [f"{name}, {label}: {effects[i, j]:.3g}" for i, name in enumerate(names) for j, label in enumerate(labels)]
    figure.add_scatter(
        x=[j for _ in names for j in range(len(labels))],
        y=[i for i in range(len(names)) for _ in labels],
        mode="markers", showlegend=False, text=texts, hovertemplate="%{text}<extra></extra>",
        marker={
            "size": 15, "color": [value for row in shade for value in row], "colorscale": scale(SHADES), "cmin": 0,
            "cmax": 1, "line": {"color": INK, "width": 1},
        },
    )  # fmt: skip


def _columns(
    edge: Edge, layout: Layout, length: int, patterns: Sequence[Tensor], n_pos: int
) -> Iterable[tuple[int, int, float]]:
    """(from column, to column, weight) of an edge on one row."""
    positions = range(n_pos) if edge.span is None else layout.span(edge.span, length)
    if edge.reader.kind not in ("k", "v"):
        return [(position, position, 1.0) for position in positions]
    assert edge.reader.layer is not None
    weights = patterns[edge.reader.layer][edge.reader.head]
    return [(k, q, float(weights[q, k])) for k in positions for q in range(n_pos) if weights[q, k] >= SHOWN_WEIGHT]


def _colour_name(reader: Reader) -> str:
    return reader.kind if reader.kind in EDGE_COLOURS else "other"


def _largest(circuit: Circuit) -> float:
    """The largest |score| in the circuit, or 1 where there is none."""
    return max((abs(circuit.scores.get(edge, 0.0)) for edge in circuit.edges), default=0.0) or 1.0


def _curve(x0: float, y0: float, x1: float, y1: float, bend: float) -> tuple[list[float], list[float]]:
    """Points of a quadratic curve that is `bend` off the straight line in its middle."""
    fractions = [i / 24 for i in range(25)]
    return [x0 + (x1 - x0) * t + 4 * bend * t * (1 - t) for t in fractions], [y0 + (y1 - y0) * t for t in fractions]


def _line(figure: "go.Figure", x: list[float], y: list[float], size: float, label: str, kind: str) -> None:
    """An edge of a relative size from 0 to 1, with its text at every point."""
    thin, thick = EDGE_WIDTHS
    figure.add_scatter(
        x=x, y=y, mode="lines", legendgroup=kind, showlegend=False, opacity=0.35 + 0.6 * size**0.5,
        line={"color": EDGE_COLOURS[kind], "width": thin + (thick - thin) * size}, text=[label] * len(x),
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def _legend(figure: "go.Figure", gap: int) -> None:
    """One entry a colour, always in the same order, so many pixels below the axes."""
    for kind, colour in EDGE_COLOURS.items():
        line = {"color": colour, "width": 4}
        figure.add_scatter(x=[None], y=[None], mode="lines", name=kind, legendgroup=kind, line=line)
    figure.update_layout(
        legend=legend_below(gap, layout_of(figure).height - 100) | {"title": "into "}, hovermode="closest"
    )
