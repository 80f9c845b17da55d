"""The route map: by which ways one token reaches the prediction of s_t, causally.

One token is changed, x_t or s_{t-1}, and every other one held. In two layers its change can reach
the row that predicts s_t only by routes of two hops:

    first hop    it stays at its own position (with all that layer 0 makes of it there), or a
                 layer-0 head carries it to a later position, the *carrier*, where MLP 0 sees it
    second hop   a layer-1 head reads the carrier as a key (by k and v); or, where the carrier is
                 the predicting row itself, a head asks by it (q), or it goes straight on (residual)

A route is patched by giving it alone the corrupt run's value and computing anew all that lies
behind it: path patching (Wang et al. 2022, arXiv 2211.00593; Goldowsky-Dill et al. 2023, arXiv
2304.05969), one position at a time. Its share is what it does alone to the logit difference, as
part of what the whole corruption does. Two heads that add the same have half each; where routes
stand in for each other, the shares do not sum to 1. Attention weights are not looked at.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.attention import MIN_LENGTH, SAME_KEY_SHARE
from compo_mech.counterfactuals import Swap, Variable, make_swaps
from compo_mech.data import DataConfig
from compo_mech.graph import Model
from compo_mech.layout import Layout
from compo_mech.route_patching import Route, patch_routes, patch_together, routes_of
from compo_mech.tasks import Task
from compo_mech.traces import Trace, trace

FOLLOW_SHARE = 0.5  # a network that guesses between two answers follows in a quarter of the strings
ADDITIVE_WITHIN = 0.05
SHARE_FLOOR = 0.01  # smaller shares are left out of tables, and a smaller lead is none
MAX_TOKENS = 2**14
"""Of corrupt strings that are run at once."""
NO_EFFECT = 1e-4  # total effects below this many logits are rounding: all shares are then 0


class Way(StrEnum):
    """What a route is called, or a whole cell, or a network."""

    TEXTBOOK = "textbook diagonal"  # x_t stays at t, where a layer-1 head reads it
    OFFSET = "offset"  # it is carried to another input or to [EoI], and read there
    STATE = "carried by a state position"  # to a position after [EoI] or the predicting row itself
    ACCUMULATED = "accumulated"  # a whole cell: the answer depends on the other inputs as well
    STRAIGHT = "straight from its row"  # s_{t-1} stays in the stream of the row that holds it
    ATTENTION = "by attention to its row"  # s_{t-1} is read by, or steers, a layer-1 head
    NO_ROUTE = "no route"  # a whole cell: the answer follows in fewer strings than FOLLOW_SHARE
    MIXED = "mixed"  # none of the above holds half


@dataclass(frozen=True)
class Cell:
    """All routes of x_t, or of s_{t-1}, to the prediction of s_t in strings of one length.

    Attributes:
        n_strings: strings that the means below are over.
        share: of each route, patched alone.
        ways: what each route is called.
        together: share of all routes of a name, patched at once.
        effect: what the whole corruption takes from the right answer against the foil, in logits.
        follows: share of strings that are right, and answer the foil once the token is changed.
        agreement: share of strings in which the route that does most on average does most.
        reliance: share of strings whose answer changes when x_j alone does, for j = 1 .. t (1 .. L
            without chain of thought); None for s_{t-1}.
    """

    length: int
    t: int
    variable: Variable
    n_strings: int
    routes: tuple[Route, ...]
    share: Float[Tensor, "route"]
    ways: tuple[Way, ...]
    together: dict[Way, float]
    effect: float
    follows: float
    agreement: float
    reliance: Float[Tensor, "input"] | None = None

    @property
    def accumulated(self) -> bool:
        """Whether the answer relies on the other inputs at least half as much as on x_t."""
        if self.reliance is None or len(self.reliance) == 1:
            return False
        own = self.reliance[self.t - 1]
        return bool((self.reliance.sum() - own) / (len(self.reliance) - 1) >= own / 2)

    @property
    def residual(self) -> float:
        """What the shares of single routes leave of 1: the work of routes together."""
        return 1 - float(self.share.sum())

    @property
    def additive(self) -> bool:
        return abs(self.residual) <= ADDITIVE_WITHIN

    @property
    def shares(self) -> dict[Way, float]:
        """`together`, or 1 for a name that goes to the whole cell."""
        if self.follows < FOLLOW_SHARE:
            return {Way.NO_ROUTE: 1.0}
        return {Way.ACCUMULATED: 1.0} if self.accumulated else self.together

    @property
    def name(self) -> Way:
        return _name(self.shares)


@dataclass(frozen=True)
class Summary:
    """Means over the cells of one variable, at lengths >= `attention.MIN_LENGTH` if there are any.

    Attributes:
        n_cells: 0 where no change of the variable changes an answer; all else is then 0.
        shares: mean share of each name.
        name: that of the largest share, if it is half or more.
        heads: what single routes through each layer-1 head do, in cells that have a route (as below).
        residual: what the shares of single routes leave of 1.
        non_additive: share of cells in which that is more than `ADDITIVE_WITHIN`.
        effect: of the whole corruption, in logits.
        agreement: share of strings that agree on the strongest route.
        stable: share of cells in which at least `attention.SAME_KEY_SHARE` of the strings do.
    """

    variable: Variable
    n_cells: int
    shares: dict[Way, float]
    name: Way
    heads: tuple[float, ...]
    residual: float
    non_additive: float
    effect: float
    agreement: float
    stable: float

    def __str__(self) -> str:
        text = {"x": "x_t", "s": "s_{t-1}"}[self.variable]
        if not self.n_cells:
            return f"{text}: no other value changes an answer"
        ways = [f"{way} {share:.2f}" for way, share in self.shares.items() if abs(share) >= SHARE_FLOOR]
        text += f": {self.name} ({', '.join(ways)})"
        if self.shares.get(Way.NO_ROUTE) == 1:
            return text
        heads = ", ".join(f"L1H{head} {share:.2f}" for head, share in enumerate(self.heads))
        text += f"; alone, {heads}; stable in {self.stable:.0%} of cells"
        if self.non_additive:
            text += f"; not additive in {self.non_additive:.0%} (single routes leave {self.residual:.2f} of 1)"
        return text


@dataclass(frozen=True)
class RouteMap:
    """All cells of one network on one task. `str(route_map)` says what they come to."""

    task: Task
    layout: Layout
    n_heads: int
    cells: tuple[Cell, ...]

    def summary(self, variable: Variable = "x") -> Summary:
        cells = _long([cell for cell in self.cells if cell.variable == variable])
        shares = _mean_shares(cells)
        routed = [cell for cell in cells if cell.follows >= FOLLOW_SHARE]

        def through(cell: Cell, head: int) -> float:
            return float(cell.share[[route.head == head for route in cell.routes]].sum())

        return Summary(
            variable=variable,
            n_cells=len(cells),
            shares=shares,
            name=_name(shares),
            heads=tuple(_mean(through(cell, head) for cell in routed) for head in range(self.n_heads)),
            residual=_mean(cell.residual for cell in routed),
            non_additive=_mean(not cell.additive for cell in routed),
            effect=_mean(cell.effect for cell in routed),
            agreement=_mean(cell.agreement for cell in routed),
            stable=_mean(cell.agreement >= SAME_KEY_SHARE for cell in routed),
        )

    def frame(self) -> pd.DataFrame:
        """One row a route whose share is at least `SHARE_FLOOR` in size; `cell` names the whole cell."""
        place, measured = ["length", "t", "variable"], ["effect", "follows", "agreement", "residual", "additive"]
        hop_columns = ["first_hop", "carrier", "carrier_label", "second_hop", "key", "share", "way", "cell"]
        rows = []
        for cell in self.cells:
            of_cell, labels = [getattr(cell, name) for name in place + measured], self.layout.labels(cell.length)
            for route, share, way in zip(cell.routes, cell.share.tolist(), cell.ways, strict=True):
                (first, second), key = route.hops, route.carrier if route.second == "key" else None
                names = str(way), str(cell.name)
                rows.append([*of_cell, first, route.carrier, labels[route.carrier], second, key, share, *names])
        table = pd.DataFrame(rows, columns=[*place, *measured, *hop_columns]).astype({"key": "Int64"})
        return pd.DataFrame(table[table["share"].abs() >= SHARE_FLOOR])[place + hop_columns + measured]

    def __str__(self) -> str:
        variables: tuple[Variable, ...] = ("x", "s") if self.layout.chain_of_thought else ("x",)
        return "\n".join([str(self.task), *(f"  {self.summary(variable)}" for variable in variables)])


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values) if values else 0.0


def _long(cells: Sequence[Cell]) -> Sequence[Cell]:
    """Those of lengths from `MIN_LENGTH` on, or all where there are none."""
    return [cell for cell in cells if cell.length >= MIN_LENGTH] or cells


def _mean_shares(cells: Sequence[Cell]) -> dict[Way, float]:
    """Mean share of each name that has any."""
    shares = {way: _mean(cell.shares.get(way, 0.0) for cell in cells) for way in Way}
    return {way: share for way, share in shares.items() if share}


def _name(shares: dict[Way, float]) -> Way:
    way = max(shares, key=lambda way: shares[way], default=Way.MIXED)
    return way if shares.get(way, 0.0) >= 0.5 else Way.MIXED


def route_map(
    model: Model,
    data: DataConfig,
    generator: torch.Generator,
    n_strings: int = 32,
    lengths: Iterable[int] | None = None,
    task: Task | None = None,
) -> RouteMap:
    """Every route of every cell, from random strings; cells in which none can show anything are left out.

    Without chain of thought the one row that predicts a state is [EoI]; the cell of x_t is then
    its way to s_L there.

    Args:
        model: two layers, any number of heads.
        data: what it was trained on: tasks, layout, vocabulary.
        generator: source of the strings and of the changed tokens, on the CPU.
        n_strings: strings of each length.
        lengths: which ones; None: the data's.
        task: one of the data's; None: its first.

    Raises:
        ValueError: the model has not two layers or reads too few positions, the task is not one of
            the data's, or there is no string.
    """
    task, layout = task or data.tasks[0], data.layout

    def cell(swap: Swap, clean: Trace, corrupt: Trace) -> Cell:
        lean = _lean_cell(model, layout, swap, clean, corrupt)
        margins = patch_routes(model, swap, clean, corrupt)
        before, effect = swap.margin(clean.logits[:, swap.row]), lean.effect
        share, done = _share(swap, before - margins, effect), (before - margins) * math.copysign(1, effect)
        strongest = done[share.argmax()] >= done.max(0).values - SHARE_FLOOR * abs(effect)
        routes = tuple(routes_of(swap, model.config.n_heads))
        ways = tuple(_way(route, swap, layout) for route in routes)
        return replace(lean, routes=routes, share=share, ways=ways, agreement=float(swap.mean(strongest)))

    cells = _cells(model, data, generator, n_strings, lengths, task, ("x", "s"), cell)
    return RouteMap(task, layout, model.config.n_heads, tuple(cells))


def way_shares(
    model: Model,
    data: DataConfig,
    generator: torch.Generator,
    n_strings: int = 32,
    lengths: Iterable[int] | None = None,
    task: Task | None = None,
) -> dict[Way, float]:
    """`route_map(...).summary("x").shares` in a fraction of the time, as no route is patched alone.

    Args, errors: those of `route_map`.
    """
    cell = partial(_lean_cell, model, data.layout)
    return _mean_shares(_long(_cells(model, data, generator, n_strings, lengths, task or data.tasks[0], ("x",), cell)))


def _cells(
    model: Model,
    data: DataConfig,
    generator: torch.Generator,
    n_strings: int,
    lengths: Iterable[int] | None,
    task: Task,
    variables: Sequence[Variable],
    cell_of: Callable[[Swap, Trace, Trace], Cell],
) -> list[Cell]:
    """What `cell_of` makes of every swap of these variables, x_t first, and of the clean and the corrupt run."""
    layout, words = data.layout, data.vocabulary
    lengths, n_ctx = list(data.lengths if lengths is None else lengths), len(model.params["pos_embed.W_pos"])
    if model.config.n_layers != 2:
        raise ValueError(f"n_layers = {model.config.n_layers}: routes are defined for two layers")
    if task not in data.tasks:
        raise ValueError(f"task = {task}: must be one of {' '.join(map(str, data.tasks))}")
    if n_strings < 1:
        raise ValueError(f"n_strings = {n_strings}: must be at least 1")
    for length in lengths:
        if length < 1 or layout.n_read(length) > n_ctx:
            raise ValueError(f"length = {length}: must be at least 1 and fit into the model's {n_ctx} positions")
    first = torch.full((n_strings,), words.task_token(task) if data.task_token else words.beginning)
    cells: list[Cell] = []
    for length in lengths:
        inputs = torch.randint(task.first_input, task.n_inputs, (n_strings, length), generator=generator)
        n_inputs, states = torch.full((n_strings,), length), task.states(inputs)
        tokens = layout.assemble(first, inputs, states, n_inputs, words.end_of_input, words.end_of_states)
        tokens = tokens[:, : layout.n_read(length)].to(model.params["embed.W_E"].device)
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        n_unscored = layout.scored(length)[0]
        clean = trace(model, tokens, positions.expand(tokens.shape), n_unscored)
        found, moved = [], []
        swaps = [s for s in make_swaps(task, layout, inputs, tokens, generator) if s.variable in variables]
        at_once = max(1, MAX_TOKENS // tokens.numel())
        for start in range(0, len(swaps), at_once):
            some = swaps[start : start + at_once]
            given = torch.cat([swap.tokens for swap in some])
            corrupts = trace(model, given, positions.expand(given.shape), n_unscored)
            for i, swap in enumerate(some):
                corrupt = corrupts[i * n_strings : (i + 1) * n_strings]
                moved.append(swap.mean((corrupt.logits.argmax(-1) != clean.logits.argmax(-1)).T).cpu())
                found.append((swap.row, cell_of(swap, clean, corrupt)))
        reliance = torch.stack(moved[:length])  # [input, pos]
        for row, cell in found:
            if cell.variable == "x":
                cell = replace(cell, reliance=reliance[: cell.t if layout.chain_of_thought else None, row])
            cells += [cell] if cell.n_strings else []
    return cells


def _share(swap: Swap, done: Float[Tensor, "*rest batch"], effect: float) -> Float[Tensor, "*rest"]:
    """Of the effect, on the CPU."""
    mean = swap.mean(done).cpu()
    return mean / effect if abs(effect) >= NO_EFFECT else torch.zeros_like(mean)


def _lean_cell(model: Model, layout: Layout, swap: Swap, clean: Trace, corrupt: Trace) -> Cell:
    """What routes of each name do together, and none alone."""
    before, after = clean.logits[:, swap.row], corrupt.logits[:, swap.row]
    whole = swap.margin(before)
    effect = float(swap.mean(whole - swap.margin(after)))
    members: dict[Way, list[Route]] = {}
    for route in routes_of(swap, model.config.n_heads):
        members.setdefault(_way(route, swap, layout), []).append(route)
    margins = patch_together(model, swap, clean, corrupt, list(members.values()))
    return Cell(
        length=swap.length,
        t=swap.t,
        variable=swap.variable,
        n_strings=int(swap.valid.sum()),
        routes=(),
        share=torch.zeros(0),
        ways=(),
        together=dict(zip(members, _share(swap, whole - margins, effect).tolist(), strict=True)),
        effect=effect,
        follows=float(swap.mean((before.argmax(-1) == swap.target) & (after.argmax(-1) == swap.foil))),
        agreement=math.nan,
    )


def _way(route: Route, swap: Swap, layout: Layout) -> Way:
    if swap.variable == "s":
        return Way.STRAIGHT if route.second == "residual" else Way.ATTENTION
    if route.carrier == swap.source:
        return Way.TEXTBOOK
    after_input = route.carrier > layout.end_of_input(swap.length)
    return Way.STATE if after_input or route.carrier == swap.row else Way.OFFSET
