"""The route map: by which routes one token reaches the prediction of s_t, causally.

One token is changed, x_t or s_{t-1}, and every other one held. In two layers its change can reach
the row that predicts s_t only by routes of two hops:

    first hop    it stays at its own position (with all that layer 0 makes of it there), or a
                 layer-0 head carries it to a later position, the *carrier*, where MLP 0 sees it
    second hop   a layer-1 head reads the carrier as a key (by k and v); or, where the carrier is
                 the predicting row itself, as a query (q), or the residual stream passes it on

A route is patched by giving it alone the corrupt run's value and recomputing all that lies downstream: path patching
(Wang et al. 2022, arXiv 2211.00593; Goldowsky-Dill et al. 2023, arXiv 2304.05969), one position at a time. Its fraction
(`share`) is its own effect on the logit difference, divided by the effect of the whole corruption. Two heads that add
the same have half each; where routes are redundant, the fractions do not sum to 1. Attention weights are not read.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.encode import encode
from compo_mech.data.layout import Layout
from compo_mech.data.tasks import Task
from compo_mech.interventions.traces import Trace, trace
from compo_mech.model.finite import check_finite, check_weights, likeliest
from compo_mech.model.params import Model
from compo_mech.routes.paths import Route, patch_routes, patch_together, routes_of
from compo_mech.routes.summary import SHARE_FLOOR, Cell, RouteMap, RouteName, long_cells, mean_shares
from compo_mech.routes.swaps import Swap, SwapVariable, make_swaps

MAX_TOKENS = 2**14
"""How many corrupt strings are run at once."""
NO_EFFECT = 1e-4  # total effects below this many logits are rounding: all fractions are then 0


def route_map(
    model: Model,
    data: DataConfig,
    generator: torch.Generator,
    n_strings: int = 32,
    lengths: Iterable[int] | None = None,
    task: Task | None = None,
) -> RouteMap:
    """Patch every route of every cell, on random strings; cells in which no string is valid are left out.

    Without chain of thought the one row that predicts a state is [EoI]; the cell of x_t is then its route to s_L there.

    Args:
        model: two layers, any number of heads.
        data: what it was trained on: tasks, layout, vocabulary.
        generator: source of the strings and of the changed tokens, on the CPU.
        n_strings: strings of each length.
        lengths: which ones; None: those that training asks about.
        task: one of the data's; None: its first.

    Raises:
        ValueError: the model has not two layers or reads too few positions, the task is not one of
            the data's, or there is no string.
    """
    task, layout = task or data.tasks[0], data.layout

    def cell(swap: Swap, clean: Trace, corrupt: Trace) -> Cell:
        lean = _lean_cell(model, layout, swap, clean, corrupt)
        margins = patch_routes(model, swap, clean, corrupt)
        check_finite("logits with a patched route", margins)
        before, effect = swap.margin(clean.logits[:, swap.row]), lean.effect
        share, done = _share(swap, before - margins, effect), (before - margins) * math.copysign(1, effect)
        strongest = done[share.argmax()] >= done.max(0).values - SHARE_FLOOR * abs(effect)
        routes = tuple(routes_of(swap, model.config.n_heads))
        names = tuple(_route_name(route, swap, layout) for route in routes)
        return replace(lean, routes=routes, share=share, names=names, agreement=float(swap.mean(strongest)))

    cells = _cells(model, data, generator, n_strings, lengths, task, ("x", "s"), cell)
    return RouteMap(task, layout, model.config.n_heads, tuple(cells))


def route_shares(
    model: Model,
    data: DataConfig,
    generator: torch.Generator,
    n_strings: int,
    lengths: Iterable[int],
    task: Task | None = None,
) -> dict[RouteName, float]:
    """Equal to `route_map(...).summary("x").shares`, in much less time, as no route is patched alone.

    Args, errors: those of `route_map`.
    """
    cell = partial(_lean_cell, model, data.layout)
    return mean_shares(
        long_cells(_cells(model, data, generator, n_strings, lengths, task or data.tasks[0], ("x",), cell))
    )


def _cells(
    model: Model,
    data: DataConfig,
    generator: torch.Generator,
    n_strings: int,
    lengths: Iterable[int] | None,
    task: Task,
    variables: Sequence[SwapVariable],
    cell_of: Callable[[Swap, Trace, Trace], Cell],
) -> list[Cell]:
    """Apply `cell_of` to every swap of these variables, x_t first, with its clean and corrupt run."""
    layout = data.layout
    lengths, n_ctx = list(data.drawn_lengths if lengths is None else lengths), model.n_ctx
    if model.config.n_layers != 2:
        raise ValueError(f"n_layers = {model.config.n_layers}: routes are defined for two layers")
    if task not in data.tasks:
        raise ValueError(f"task = {task}: must be one of {' '.join(map(str, data.tasks))}")
    if n_strings < 1:
        raise ValueError(f"n_strings = {n_strings}: must be at least 1")
    for length in lengths:
        if length < 1 or layout.n_read(length) > n_ctx:
            raise ValueError(f"length = {length}: must be at least 1 and fit into the model's {n_ctx} positions")
    check_weights(model)
    cells: list[Cell] = []
    for length in lengths:
        inputs = torch.randint(task.first_input, task.n_inputs, (n_strings, length), generator=generator)
        tokens = encode(data, task, inputs).read.to(model.device)
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        n_unscored = layout.scored(length)[0]
        clean = trace(model, tokens, positions.expand(tokens.shape), n_unscored)
        found, moved, answers = [], [], likeliest(clean.logits)
        swaps = [s for s in make_swaps(task, layout, inputs, tokens, generator) if s.variable in variables]
        at_once = max(1, MAX_TOKENS // tokens.numel())
        for start in range(0, len(swaps), at_once):
            some = swaps[start : start + at_once]
            given = torch.cat([swap.tokens for swap in some])
            corrupts = trace(model, given, positions.expand(given.shape), n_unscored)
            for i, swap in enumerate(some):
                corrupt = corrupts[i * n_strings : (i + 1) * n_strings]
                moved.append(swap.mean((likeliest(corrupt.logits) != answers).T).cpu())
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
    """The joint effect of the routes of each name, none of them patched alone."""
    before, after = clean.logits[:, swap.row], corrupt.logits[:, swap.row]
    check_finite("logits", torch.cat([before, after]))
    whole = swap.margin(before)
    effect = float(swap.mean(whole - swap.margin(after)))
    members: dict[RouteName, list[Route]] = {}
    for route in routes_of(swap, model.config.n_heads):
        members.setdefault(_route_name(route, swap, layout), []).append(route)
    margins = patch_together(model, swap, clean, corrupt, list(members.values()))
    check_finite("logits with patched routes", margins)
    return Cell(
        length=swap.length,
        t=swap.t,
        variable=swap.variable,
        n_strings=int(swap.valid.sum()),
        routes=(),
        share=torch.zeros(0),
        names=(),
        together=dict(zip(members, _share(swap, whole - margins, effect).tolist(), strict=True)),
        effect=effect,
        follows=float(swap.mean((likeliest(before) == swap.target) & (likeliest(after) == swap.foil))),
        agreement=math.nan,
    )


def _route_name(route: Route, swap: Swap, layout: Layout) -> RouteName:
    if swap.variable == "s":
        return RouteName.STRAIGHT if route.second == "residual" else RouteName.ATTENTION
    if route.carrier == swap.source:
        return RouteName.TEXTBOOK
    after_input = route.carrier > layout.end_of_input(swap.length)
    return RouteName.STATE if after_input or route.carrier == swap.row else RouteName.OFFSET
