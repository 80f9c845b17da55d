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
from jaxtyping import Bool, Float
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.layout import Layout
from compo_mech.data.tasks import Task
from compo_mech.interventions.traces import Trace, trace
from compo_mech.model import blocks
from compo_mech.model.finite import check_finite, check_weights, likeliest
from compo_mech.model.params import Model
from compo_mech.routes.anew import run_anew
from compo_mech.routes.paths import Reads, Route, Way, patch_routes, patched_reads, routes_of
from compo_mech.routes.summary import SHARE_FLOOR, Cell, RouteMap, RouteName, long_cells, mean_shares
from compo_mech.routes.swaps import Answers, RouteStrings, Swap, SwapVariable, route_strings

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
    task, lengths = task or data.tasks[0], list(data.drawn_lengths if lengths is None else lengths)
    _check(model, data.layout, lengths)
    strings = route_strings(data, task, lengths, n_strings, generator, model.device)
    cells = _cells(model, data.layout, strings, ("x", "s"), partial(_mapped, model, data.layout))
    return RouteMap(task, data.layout, model.config.n_heads, tuple(cells))


def route_shares(model: Model, layout: Layout, strings: Sequence[RouteStrings]) -> dict[RouteName, float]:
    """Equal to `route_map(...).summary("x").shares`, in much less time, as no route is patched alone.

    Args:
        model: two layers, any number of heads.
        layout: of the strings.
        strings: as `route_strings` draws them, on the model's device.

    Raises:
        ValueError: the model has not two layers or reads too few positions.
    """
    _check(model, layout, [some.length for some in strings])
    cells = _cells(model, layout, strings, ("x",), partial(_shared, model, layout))
    return mean_shares(long_cells(cells))


def _check(model: Model, layout: Layout, lengths: Iterable[int]) -> None:
    if model.config.n_layers != 2:
        raise ValueError(f"n_layers = {model.config.n_layers}: routes are defined for two layers")
    blocks.check_causal(model)
    for length in lengths:
        if length < 1 or layout.n_read(length) > model.n_ctx:
            raise ValueError(f"length = {length}: must be at least 1 and fit into the model's {model.n_ctx} positions")
    check_weights(model)


OfSwaps = Callable[[Sequence[Swap], Trace, int], tuple[list[Cell], Bool[Tensor, "swap batch pos"]]]
"""From swaps of one length, the clean run and its first scored row: their cells, and which answers change."""


def _cells(
    model: Model,
    layout: Layout,
    strings: Sequence[RouteStrings],
    variables: Sequence[SwapVariable],
    of_swaps: OfSwaps,
) -> list[Cell]:
    """The cells of every swap of these variables, x_t first."""
    cells: list[Cell] = []
    for length, tokens, every in ((some.length, some.tokens, some.swaps) for some in strings):
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        first = layout.scored(length)[0]
        clean = trace(model, tokens, positions.expand(tokens.shape), first)
        swaps = [swap for swap in every if swap.variable in variables]
        found, moved = list[Cell](), list[Tensor]()
        at_once = max(1, MAX_TOKENS // tokens.numel())
        for start in range(0, len(swaps), at_once):
            some = swaps[start : start + at_once]
            new, changed = of_swaps(some, clean, first)
            found += new
            moved.append(Answers.stacked(some).mean(changed.permute(2, 0, 1)).T)  # [swap, pos]
        reliance = torch.cat(moved)[:length].cpu()  # of x_1 .. x_L
        for swap, cell in zip(swaps, found, strict=True):
            if cell.variable == "x":
                cell = replace(cell, reliance=reliance[: cell.t if layout.chain_of_thought else None, swap.row])
            cells += [cell] if cell.n_strings else []
    return cells


def _shared(
    model: Model, layout: Layout, swaps: Sequence[Swap], clean: Trace, first: int
) -> tuple[list[Cell], Bool[Tensor, "swap batch pos"]]:
    """Cells without single routes."""
    anew, answers = run_anew(model, swaps, clean, first), likeliest(clean.logits)
    moved = torch.zeros(len(swaps), *answers.shape, dtype=torch.bool, device=answers.device)
    moved[anew.swap, :, anew.position] = likeliest(anew.logits) != answers[:, anew.position].T
    return _lean_cells(model, layout, swaps, clean, anew.after, anew.reads), moved


def _mapped(
    model: Model, layout: Layout, swaps: Sequence[Swap], clean: Trace, first: int
) -> tuple[list[Cell], Bool[Tensor, "swap batch pos"]]:
    """Cells with every route patched alone as well."""
    tokens, n_heads = torch.cat([swap.tokens for swap in swaps]), model.config.n_heads
    positions, n_strings = torch.arange(tokens.shape[1], device=tokens.device), len(swaps[0].tokens)
    whole = trace(model, tokens, positions.expand(tokens.shape), first)
    runs = [whole[start : start + n_strings] for start in range(0, len(tokens), n_strings)]
    moved = likeliest(whole.logits).unflatten(0, (len(swaps), -1)) != likeliest(clean.logits)
    each = [Reads.of(run, [swap.row]) for run, swap in zip(runs, swaps, strict=True)]
    reads = Reads(*(torch.cat(values) for values in zip(*each, strict=True)))
    after = torch.stack([run.logits[:, swap.row] for run, swap in zip(runs, swaps, strict=True)])
    cells = []
    for swap, corrupt, lean in zip(swaps, runs, _lean_cells(model, layout, swaps, clean, after, reads), strict=True):
        margins = patch_routes(model, swap, clean, corrupt)
        check_finite("logits with a patched route", margins)
        before, effect = swap.margin(clean.logits[:, swap.row]), lean.effect
        share, done = swap.mean(before - margins).cpu(), (before - margins) * math.copysign(1, effect)
        share = share / effect if abs(effect) >= NO_EFFECT else torch.zeros_like(share)
        strongest = done[share.argmax()] >= done.max(0).values - SHARE_FLOOR * abs(effect)
        routes = tuple(routes_of(swap, n_heads))
        names = tuple(_route_name(route, swap, layout) for route in routes)
        cells.append(replace(lean, routes=routes, share=share, names=names, agreement=float(swap.mean(strongest))))
    return cells, moved


def _lean_cells(
    model: Model,
    layout: Layout,
    swaps: Sequence[Swap],
    clean: Trace,
    after: Float[Tensor, "swap batch d_vocab"],
    corrupt: Reads,
) -> list[Cell]:
    """The joint effect of the routes of each name, none of them patched alone, given the corrupt logits at the rows."""
    members = [_members(swap, layout, model.config.n_heads) for swap in swaps]
    names = list(dict.fromkeys(name for own in members for name in own))
    bundles = [[own.get(name, set()) for name in names] for own in members]
    rows, answers = [swap.row for swap in swaps], Answers.stacked(swaps)
    before = clean.logits[:, rows].transpose(0, 1)
    check_finite("logits", torch.cat([before, after]))
    patched = answers.margin(patched_reads(model, rows, Reads.of(clean, rows), corrupt, bundles))
    check_finite("logits with patched routes", patched)
    whole = answers.margin(before)
    effect, done = answers.mean(whole - answers.margin(after)), answers.mean(whole - patched)
    share = torch.where(effect.abs() >= NO_EFFECT, done / effect, 0.0).T.tolist()
    follows = answers.mean((likeliest(before) == answers.target) & (likeliest(after) == answers.foil)).tolist()
    n_strings, effects = answers.valid.sum(-1).tolist(), effect.tolist()
    return [
        Cell(
            length=swap.length,
            t=swap.t,
            variable=swap.variable,
            n_strings=n_strings[i],
            routes=(),
            share=torch.zeros(0),
            names=(),
            together={name: share[i][names.index(name)] for name in own},
            effect=effects[i],
            follows=follows[i],
            agreement=math.nan,
        )
        for i, (swap, own) in enumerate(zip(swaps, members, strict=True))
    ]


def _members(swap: Swap, layout: Layout, n_heads: int) -> dict[RouteName, set[Way]]:
    """What the routes of each name read."""
    found: dict[RouteName, set[Way]] = {}
    for route in routes_of(swap, n_heads):
        found.setdefault(_route_name(route, swap, layout), set()).add((route.carrier, route.second))
    return found


def _route_name(route: Route, swap: Swap, layout: Layout) -> RouteName:
    if swap.variable == "s":
        return RouteName.STRAIGHT if route.second == "residual" else RouteName.ATTENTION
    if route.carrier == swap.source:
        return RouteName.TEXTBOOK
    after_input = route.carrier > layout.end_of_input(swap.length)
    return RouteName.STATE if after_input or route.carrier == swap.row else RouteName.OFFSET
