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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal, NamedTuple

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.attention import MIN_LENGTH, SAME_KEY_SHARE
from compo_mech.counterfactuals import Swap, Variable, make_swaps
from compo_mech.data import DataConfig
from compo_mech.graph import Model
from compo_mech.layout import Layout
from compo_mech.tasks import Task
from compo_mech.traces import Trace, attn_out_of, logits_of, mlp_out_of, project_qkv, trace

FOLLOW_SHARE = 0.5  # a network that guesses between two answers follows in a quarter of the strings
ADDITIVE_WITHIN = 0.05
SHARE_FLOOR = 0.01  # smaller shares are left out of tables, and a smaller lead is none
NO_EFFECT = 1e-4  # total effects below this many logits are rounding: all shares are then 0

Second = Literal["key", "query", "residual"]


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


class Route(NamedTuple):
    """One way to the predicting row.

    Attributes:
        first: the layer-0 head that carries; None: it stays.
        carrier: position that holds the change after layer 0.
        second: how layer 1 takes it from there.
        head: the layer-1 head; None for `residual`.
    """

    first: int | None
    carrier: int
    second: Second
    head: int | None

    @property
    def hops(self) -> tuple[str, str]:
        """Names such as `stays` or `L0H1`, and `L1H0`, `L1H0.q` or `residual`."""
        second = {"key": f"L1H{self.head}", "query": f"L1H{self.head}.q", "residual": "residual"}
        return "stays" if self.first is None else f"L0H{self.first}", second[self.second]


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
        cells = [cell for cell in self.cells if cell.variable == variable]
        cells = [cell for cell in cells if cell.length >= MIN_LENGTH] or cells
        shares = {way: _mean(cell.shares.get(way, 0.0) for cell in cells) for way in Way}
        routed = [cell for cell in cells if cell.follows >= FOLLOW_SHARE]

        def through(cell: Cell, head: int) -> float:
            return float(cell.share[[route.head == head for route in cell.routes]].sum())

        return Summary(
            variable=variable,
            n_cells=len(cells),
            shares={way: share for way, share in shares.items() if share},
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


def _name(shares: dict[Way, float]) -> Way:
    way = max(shares, key=lambda way: shares[way])
    return way if shares[way] >= 0.5 else Way.MIXED


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
    task, layout, words = task or data.tasks[0], data.layout, data.vocabulary
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
        positions = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape)
        clean = trace(model, tokens, positions)
        found, moved = [], []
        for swap in make_swaps(task, layout, inputs, tokens, generator):
            corrupt = trace(model, swap.tokens, positions)
            moved.append(swap.mean((corrupt.logits.argmax(-1) != clean.logits.argmax(-1)).T).cpu())
            found.append((swap.row, _cell(model, layout, swap, clean, corrupt)))
        reliance = torch.stack(moved[:length])  # [input, pos]
        for row, cell in found:
            if cell.variable == "x":
                cell = replace(cell, reliance=reliance[: cell.t if layout.chain_of_thought else None, row])
            cells += [cell] if cell.n_strings else []
    return RouteMap(task, layout, model.config.n_heads, tuple(cells))


def _cell(model: Model, layout: Layout, swap: Swap, clean: Trace, corrupt: Trace) -> Cell:
    before, after = clean.logits[:, swap.row], corrupt.logits[:, swap.row]
    whole = swap.margin(before)
    effect = float(swap.mean(whole - swap.margin(after)))

    def share_of(margins: Float[Tensor, "*rest batch"]) -> Float[Tensor, "*rest"]:
        mean = swap.mean(whole - margins).cpu()
        return mean / effect if abs(effect) >= NO_EFFECT else torch.zeros_like(mean)

    routes, margins = patch_routes(model, swap, clean, corrupt)
    share, done = share_of(margins), (whole - margins) * math.copysign(1, effect)
    strongest = done[share.argmax()] >= done.max(0).values - SHARE_FLOOR * abs(effect)
    ways = [_way(route, swap, layout) for route in routes]
    members = {way: [route for route, own in zip(routes, ways, strict=True) if own == way] for way in ways}
    return Cell(
        length=swap.length,
        t=swap.t,
        variable=swap.variable,
        n_strings=int(swap.valid.sum()),
        routes=tuple(routes),
        share=share,
        ways=tuple(ways),
        together={w: float(share_of(patch_together(model, swap, clean, corrupt, r))) for w, r in members.items()},
        effect=effect,
        follows=float(swap.mean((before.argmax(-1) == swap.target) & (after.argmax(-1) == swap.foil))),
        agreement=float(swap.mean(strongest)),
    )


def _way(route: Route, swap: Swap, layout: Layout) -> Way:
    if swap.variable == "s":
        return Way.STRAIGHT if route.second == "residual" else Way.ATTENTION
    if route.carrier == swap.source:
        return Way.TEXTBOOK
    after_input = route.carrier > layout.end_of_input(swap.length)
    return Way.STATE if after_input or route.carrier == swap.row else Way.OFFSET


@torch.no_grad()
def patch_routes(
    model: Model, swap: Swap, clean: Trace, corrupt: Trace
) -> tuple[list[Route], Float[Tensor, "route batch"]]:
    """Every route, and the margin when it alone carries the corrupt run's value."""
    row, scale = swap.row, math.sqrt(model.config.head_width)
    hops, carried = _after_first_hop(model, swap, clean, corrupt)
    at_row = [i for i, (_, carrier) in enumerate(hops) if carrier == row]
    carriers = torch.tensor([carrier for _, carrier in hops], device=carried.device)
    q, k, v = project_qkv(model, 1, carried)  # [batch, head, hop, d_head]
    asked, keys, values = clean.q[1][:, :, row, None], clean.k[1][:, :, : row + 1], clean.v[1][:, :, : row + 1]
    is_carrier = carriers[:, None] == torch.arange(row + 1, device=carried.device)  # [hop, key]
    scores = torch.where(is_carrier, (asked * k).sum(-1, keepdim=True), asked @ keys.mT) / scale
    pattern = scores.softmax(-1)
    by_key = pattern @ values + (pattern * is_carrier).sum(-1, keepdim=True) * (v - values[:, :, carriers])
    by_query = (q[:, :, at_row] @ keys.mT / scale).softmax(-1) @ values
    change = torch.cat([by_key, by_query], 2) - clean.z[1][:, :, row, None]
    written = (change @ model.params["blocks.1.attn.W_O"]).flatten(1, 2)  # [batch, head × second hop, d_model]
    straight = carried[:, at_row] - clean.resid_post[0][:, row, None]
    mid = clean.resid_mid[1][:, row, None] + torch.cat([written, straight], 1)
    margins = swap.margin(logits_of(model, mid + mlp_out_of(model, 1, mid)).transpose(0, 1))
    routes = []
    for head in range(model.config.n_heads):
        routes += [Route(*hop, "key", head) for hop in hops]
        routes += [Route(*hops[i], "query", head) for i in at_row]
    return [*routes, *(Route(*hops[i], "residual", None) for i in at_row)], margins


def _after_first_hop(
    model: Model, swap: Swap, clean: Trace, corrupt: Trace
) -> tuple[list[tuple[int | None, int]], Float[Tensor, "batch hop d_model"]]:
    """Every (head, carrier), staying first, and the stream at the carrier after layer 0."""
    carriers = slice(swap.source + 1, swap.row + 1)
    change = corrupt.z[0][:, :, carriers] - clean.z[0][:, :, carriers]
    mid = clean.resid_mid[0][:, None, carriers] + change @ model.params["blocks.0.attn.W_O"]
    mid = mid.flatten(1, 2)  # [batch, head × carrier, d_model]
    hops = [(head, c) for head in range(model.config.n_heads) for c in range(carriers.start, carriers.stop)]
    stays = corrupt.resid_post[0][:, swap.source, None]
    return [(None, swap.source), *hops], torch.cat([stays, mid + mlp_out_of(model, 0, mid)], 1)


@torch.no_grad()
def patch_together(
    model: Model, swap: Swap, clean: Trace, corrupt: Trace, routes: Sequence[Route]
) -> Float[Tensor, "batch"]:
    """The margin when all heads take the corrupt run's stream from these carriers in these ways."""
    row, taken = swap.row, {(route.carrier, route.second) for route in routes}
    keys = [carrier for carrier, second in taken if second == "key"]
    k, v = clean.k[1][:, :, : row + 1].clone(), clean.v[1][:, :, : row + 1].clone()
    k[:, :, keys], v[:, :, keys] = corrupt.k[1][:, :, keys], corrupt.v[1][:, :, keys]
    q = (corrupt if (row, "query") in taken else clean).q[1][:, :, row, None]
    stream = (corrupt if (row, "residual") in taken else clean).resid_post[0][:, row, None]
    mid = stream + attn_out_of(model, 1, (q @ k.mT / math.sqrt(model.config.head_width)).softmax(-1) @ v)
    return swap.margin(logits_of(model, mid + mlp_out_of(model, 1, mid))[:, 0])
