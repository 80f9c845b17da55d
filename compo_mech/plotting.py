"""Arrays and tables -> plotly figures. Nothing here changes plotly's settings on import."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots
from torch import Tensor

from compo_mech.circuits import Circuit, graph_order
from compo_mech.evaluate import measured, select
from compo_mech.graph import Edge, Reader, Writer, all_readers
from compo_mech.layout import Layout

HEAD_COLOURS = ("#4c5fd5", "#e07a1f", "#2a9d6f", "#c2418f", "#8a6d3b", "#1f9ac2", "#b23a3a", "#6b6b6b")
EDGE_COLOURS = {"q": "#4c5fd5", "k": "#e07a1f", "v": "#2a9d6f", "other": "#5f6368"}
PORTS = {"q": -0.16, "k": 0.0, "v": 0.16}
"""Where the inputs of a head lie, left to right."""

EDGE_WIDTHS = (0.7, 7.0)
"""Pixels, of the smallest and the largest |score|."""

SHOWN_WEIGHT = 0.1
"""Attention below this is not drawn between columns."""

LAYOUT = {
    "template": "plotly_white",
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "margin": {"l": 60, "r": 20, "t": 50, "b": 50},
}


def training_curves(metrics: pd.DataFrame, task: str) -> go.Figure:
    """Accuracy by length, head scores and loss over steps, on one time axis.

    Args:
        metrics: a run's long rows; the control's are left out.
        task: spelling of the task.
    """
    titles = ("Accuracy, generated freely", "Head scores, mean over lengths ≥ 4", "Loss (nats)")
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, subplot_titles=titles, vertical_spacing=0.07)
    of_task = measured(metrics, task)
    accuracy = select(of_task, metric="generated_accuracy")
    lengths = accuracy["length"].unique().tolist()
    places = [i / max(1, len(lengths) - 1) for i in range(len(lengths))]
    for length, colour in zip(lengths, sample_colorscale("Viridis", places), strict=True):
        curve = select(accuracy, length=length)
        figure.add_scatter(
            x=curve["step"], y=curve["value"], name=f"length {length}", line={"color": colour}, row=1, col=1,
            legendgroup="lengths", legendgrouptitle_text="Accuracy",
        )  # fmt: skip
    means = select(of_task, split="mean").dropna(subset="head")
    heads = dict.fromkeys(zip(means["layer"].tolist(), means["head"].tolist(), strict=True))
    for (layer, head), colour in zip(heads, itertools.cycle(HEAD_COLOURS), strict=False):
        for metric, dash in (("iteration", "solid"), ("lookup", "dot")):
            curve = select(means, layer=layer, head=head, metric=metric)
            if len(curve):
                figure.add_scatter(
                    x=curve["step"], y=curve["value"], name=f"L{layer}H{head} {metric}", row=2, col=1,
                    line={"color": colour, "dash": dash}, legendgroup="heads", legendgrouptitle_text="Heads",
                )  # fmt: skip
    train = select(metrics, split="train", metric="loss")
    test = select(of_task, metric="loss").groupby("step")["value"].mean()
    for name, x, y, colour in (
        ("training", train["step"], train["value"], "#9aa0a6"),
        ("test", test.index, test.to_numpy(), "#202124"),
    ):
        figure.add_scatter(
            x=x, y=y, name=name, line={"color": colour}, row=3, col=1,
            legendgroup="loss", legendgrouptitle_text="Loss",
        )  # fmt: skip
    figure.update_yaxes(range=[-0.03, 1.03], row=1)
    figure.update_yaxes(range=[-0.03, 1.03], row=2)
    figure.update_yaxes(type="log", row=3)
    figure.update_xaxes(title="step", row=3)
    figure.update_xaxes(showspikes=True, spikemode="across", spikethickness=1, spikedash="dot")
    figure.update_layout(**LAYOUT, height=820, hovermode="x", legend={"groupclick": "toggleitem"})
    return figure


def attention_maps(patterns: Sequence[Float[Tensor, "head pos pos"]], labels: Sequence[str], title: str) -> go.Figure:
    """Attention of every head, the axes labelled by tokens: a row of panels a layer, or one row in
    all where layers have a single head.

    Args:
        patterns: one tensor a layer; queries down, keys across.
        labels: a name for every position.
        title: of the whole figure.
    """
    n_layers, n_heads = len(patterns), patterns[0].shape[0]
    n_rows, n_columns = (1, n_layers) if n_heads == 1 else (n_layers, n_heads)
    titles = [f"layer {layer} head {head}" for layer in range(n_layers) for head in range(n_heads)]
    side = 440 if n_columns <= 2 else 340
    figure = make_subplots(n_rows, n_columns, subplot_titles=titles, vertical_spacing=0.25 / n_rows)
    ticks: dict[str, Any] = {"tickmode": "array", "tickvals": list(range(len(labels))), "ticktext": list(labels)}
    for layer, heads in enumerate(patterns):
        for head, pattern in enumerate(heads):
            place: Any = {"row": 1, "col": layer + 1} if n_heads == 1 else {"row": layer + 1, "col": head + 1}
            figure.add_heatmap(
                z=[[round(weight, 3) for weight in row] for row in pattern.tolist()], coloraxis="coloraxis", **place,
                customdata=[[f"{q} → {k}" for k in labels] for q in labels],
                hovertemplate="%{customdata}: %{z:.3f}<extra></extra>",
            )  # fmt: skip
            figure.update_xaxes(**ticks, title="looks at", tickangle=90, tickfont_size=9, **place)
            figure.update_yaxes(**ticks, title="token", autorange="reversed", tickfont_size=9, **place)
    figure.update_layout(
        **{**LAYOUT, "margin": {"l": 70, "r": 20, "t": 80, "b": 60}},
        title=title,
        width=(side + 40) * n_columns + 130,
        height=(side + 70) * n_rows + 90,
        coloraxis={"colorscale": "Blues", "cmin": 0, "cmax": 1, "colorbar": {"title": "weight", "len": 0.9 / n_rows}},
    )
    return figure


def with_slider(frames: Mapping[int, go.Figure], title: str) -> go.Figure:
    """Heat maps that a slider leads through the steps of training; it starts at the last one.

    Args:
        frames: by step, figures that differ in the `z` of their heat maps alone.
        title: of the figure.
    """
    steps = list(frames)
    figure = go.Figure(frames[steps[-1]])
    changed = [i for i, _ in enumerate(figure.select_traces())]
    figure.frames = [
        go.Frame(
            name=str(step),
            traces=changed,
            data=[go.Heatmap(z=getattr(trace, "z", None)) for trace in shown.select_traces()],
        )
        for step, shown in frames.items()
    ]
    at_once = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    figure.update_layout(
        title=title,
        height=figure.layout.height + 90,
        margin_b=figure.layout.margin.b + 90,
        sliders=[
            {
                "active": len(steps) - 1,
                "currentvalue": {"prefix": "step "},
                "pad": {"t": 70},
                "lenmode": "pixels",
                "len": 640,  # in reach where the screen is narrow
                "steps": [{"method": "animate", "label": str(step), "args": [[str(step)], at_once]} for step in steps],
            }
        ],
    )
    return figure


# ------------------------------------------------------------------------------ circuits


def circuit_graph(circuit: Circuit, title: str = "") -> go.Figure:
    """A circuit as a graph: embeddings below, then heads and MLP of each layer, logits on top.

    The width of an edge is its |score|, its colour the input that it goes into. Heads take in
    queries, keys and values from left to right; parts that no edge touches are pale.

    Args:
        circuit: its edges, one span or none each, and their scores (an edge without one is thin).
        title: of the figure.
    """
    config, figure = circuit.config, go.Figure()
    spread = max(1.0, config.n_heads / 2)
    places: dict[str, tuple[float, float]] = {"tok": (-0.5 * spread, 0.0), "pos": (0.5 * spread, 0.0)}
    for reader in all_readers(config):
        stage = _stage_of(reader, config.n_layers)
        x = 0.0 if reader.head is None else (reader.head - (config.n_heads - 1) / 2) * 1.2
        if reader.kind == "mlp":  # aside, so that what passes it by can be told from what goes through
            x = (config.n_heads - 1) / 2 * 1.2 + 0.9
        places[_name(reader)] = (x, float(stage))
    largest, xs = _largest(circuit), [x for x, _ in places.values()]
    for edge in sorted(circuit.edges, key=lambda edge: abs(circuit.scores.get(edge, 0.0))):
        kind = _colour_name(edge.reader)
        (x0, y0), (x1, y1) = places[_name(edge.writer)], places[_name(edge.reader)]
        x1 += PORTS.get(kind, 0.0)
        side = -1 if x0 + x1 < 0 or edge.writer.kind == "tok" else 1
        x, y = _curve(x0, y0 + 0.1, x1, y1 - (0.23 if kind in PORTS else 0.11), side * 0.2 * max(0.0, y1 - y0 - 1))
        xs += x
        size = abs(circuit.scores.get(edge, 0.0)) / largest
        score = f"{circuit.scores[edge]:.3g}" if edge in circuit.scores else "no score"
        _line(figure, x, y, size, f"{edge}: {score}", kind)
    touched = {_name(end) for edge in circuit.edges for end in (edge.writer, edge.reader)}
    for name, (x, y) in places.items():
        ink = "#202124" if name in touched else "#b0b4b9"
        figure.add_annotation(
            x=x, y=y, text=name, showarrow=False, font={"color": ink},
            bgcolor="#ffffff", borderpad=4, borderwidth=1.5, bordercolor=ink,
        )  # fmt: skip
        for port, shift in PORTS.items() if "H" in name else ():
            colour = EDGE_COLOURS[port] if name in touched else ink
            figure.add_annotation(
                x=x + shift, y=y - 0.17, text=port, showarrow=False, font={"color": colour, "size": 11}
            )
    height = 2 * config.n_layers + 1
    figure.update_layout(**LAYOUT, title=title, width=max(720, 190 * config.n_heads + 330), height=150 + 125 * height)
    _legend(figure)
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
) -> go.Figure:
    """A circuit laid out on one example row: a column a token, a row of places a stage.

    Only what leads to a scored row is drawn. Queries, MLPs and logits stay in their column; keys
    and values go to the columns that attend to them, as wide as |score| times attention.

    Args:
        circuit: edges, narrowed to spans or not, and their scores.
        layout: of the row.
        length: of the row's string.
        patterns: attention on the row, one tensor a layer; queries down, keys across.
        effects: how dark each place is: embeddings, then heads and MLP of each layer, then logits.
        title: of the figure.

    Raises:
        ValueError: the effects or the patterns are not of the circuit's stages and the row's tokens.
    """
    labels, n_layers = layout.labels(length), circuit.config.n_layers
    n_stages = 2 * n_layers + 2
    if tuple(effects.shape) != (n_stages, len(labels)):
        raise ValueError(f"effects = {tuple(effects.shape)}: must be {n_stages} stages × {len(labels)} tokens")
    for pattern in patterns:
        if len(patterns) != n_layers or tuple(pattern.shape) != (circuit.config.n_heads, len(labels), len(labels)):
            heads = f"{n_layers} layers × {circuit.config.n_heads} heads"
            raise ValueError(f"patterns = {len(patterns)} × {tuple(pattern.shape)}: must be {heads} × tokens × tokens")
    figure, largest = go.Figure(), _largest(circuit)
    bundles: dict[tuple[str, int, int, int, int], list[tuple[float, str]]] = defaultdict(list)
    leading = {("logits", column) for column in layout.scored(length)}
    for edge in sorted(circuit.edges, key=graph_order, reverse=True):  # from the logits down
        score = circuit.scores.get(edge, 0.0)
        for start, end, weight in _columns(edge, layout, length, patterns, len(labels)):
            if (_name(edge.reader), end) not in leading:
                continue
            leading.add((_name(edge.writer), start))
            stages = _stage_of(edge.writer, n_layers), _stage_of(edge.reader, n_layers)
            bundle = (_colour_name(edge.reader), stages[0], start, stages[1], end)
            told = f"{edge}: {score:.3g}" + (f" × attention {weight:.2f}" if weight < 1 else "")
            bundles[bundle].append((abs(score) * weight / largest, told))
    for (kind, y0, x0, y1, x1), members in sorted(bundles.items(), key=lambda item: max(item[1])[0]):
        bend = 0.3 * (y1 - y0 - 1) / n_stages if x0 == x1 else 0.0
        shift = PORTS.get(kind, 0.0) / 2  # so that keys and values of one place lie side by side
        x, y = _curve(x0 + shift, y0 + 0.12, x1 + shift, y1 - 0.12, bend)
        _line(figure, x, y, max(members)[0], "<br>".join(text for _, text in members), kind)
    names = ["embed", *(f"{part} {layer}" for layer in range(n_layers) for part in ("heads", "mlp")), "logits"]
    shade = (effects.abs() / effects.abs().max().clamp(min=1e-12)).tolist()
    told = [f"{name}, {label}: {effects[i, j]:.3g}" for i, name in enumerate(names) for j, label in enumerate(labels)]
    figure.add_scatter(
        x=[j for _ in names for j in range(len(labels))],
        y=[i for i in range(n_stages) for _ in labels],
        mode="markers", showlegend=False, text=told, hovertemplate="%{text}<extra></extra>",
        marker={
            "size": 15, "color": [value for row in shade for value in row], "colorscale": "Greys", "cmin": 0, "cmax": 1,
            "line": {"color": "#3c4043", "width": 1},
        },
    )  # fmt: skip
    figure.update_layout(**LAYOUT, title=title, width=190 + 54 * len(labels), height=170 + 95 * n_stages)
    _legend(figure)
    figure.update_xaxes(tickvals=list(range(len(labels))), ticktext=labels, showgrid=False, zeroline=False)
    figure.update_yaxes(tickvals=list(range(n_stages)), ticktext=names, showgrid=False, zeroline=False)
    return figure


def _columns(
    edge: Edge, layout: Layout, length: int, patterns: Sequence[Tensor], n_pos: int
) -> Iterable[tuple[int, int, float]]:
    """(from column, to column, weight) of an edge on one row."""
    places = range(n_pos) if edge.span is None else layout.span(edge.span, length)
    if edge.reader.kind not in ("k", "v"):
        return [(place, place, 1.0) for place in places]
    assert edge.reader.layer is not None
    weights = patterns[edge.reader.layer][edge.reader.head]
    return [(k, q, float(weights[q, k])) for k in places for q in range(n_pos) if weights[q, k] >= SHOWN_WEIGHT]


def _name(end: Writer | Reader) -> str:
    """`tok`, `L0H1`, `mlp0`, `logits`: the part that an end of an edge belongs to."""
    return str(Writer("head", end.layer, end.head)) if end.head is not None else str(end)


def _stage_of(end: Writer | Reader, n_layers: int) -> int:
    if end.layer is None:
        return 2 * n_layers + 1 if end.kind == "logits" else 0
    return 2 * end.layer + (2 if end.kind == "mlp" else 1)


def _colour_name(reader: Reader) -> str:
    return reader.kind if reader.kind in EDGE_COLOURS else "other"


def _largest(circuit: Circuit) -> float:
    """The largest |score| in the circuit, or 1 where there is none."""
    return max((abs(circuit.scores.get(edge, 0.0)) for edge in circuit.edges), default=0.0) or 1.0


def _curve(x0: float, y0: float, x1: float, y1: float, bend: float) -> tuple[list[float], list[float]]:
    """Points of a quadratic curve that swings out sideways by `bend` in its middle."""
    ways = [i / 24 for i in range(25)]
    return [x0 + (x1 - x0) * t + 4 * bend * t * (1 - t) for t in ways], [y0 + (y1 - y0) * t for t in ways]


def _line(figure: go.Figure, x: list[float], y: list[float], size: float, told: str, kind: str) -> None:
    """An edge of a relative size from 0 to 1, with its text at every point."""
    thin, thick = EDGE_WIDTHS
    figure.add_scatter(
        x=x, y=y, mode="lines", legendgroup=kind, showlegend=False, opacity=0.35 + 0.6 * size**0.5,
        line={"color": EDGE_COLOURS[kind], "width": thin + (thick - thin) * size}, text=[told] * len(x),
        hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def _legend(figure: go.Figure) -> None:
    """One entry a colour, always in the same order."""
    for kind, colour in EDGE_COLOURS.items():
        line = {"color": colour, "width": 4}
        figure.add_scatter(x=[None], y=[None], mode="lines", name=kind, legendgroup=kind, line=line)
    figure.update_layout(legend={"title": "into"}, hovermode="closest")
