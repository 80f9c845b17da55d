"""What `trajectories` measures, the obvious way: a HookedTransformer, its cache, a run with hooks for each ablation.

The slow twin that the fast measures are tested and timed against. Its prompts are what `trajectories` draws. A careful
loop caches no more than it asks for.
"""

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from compo_mech.analyses import trajectories
from compo_mech.causal.interchange import balanced_accuracy
from compo_mech.causal.variables import Interchanges
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.evaluation import head_scores
from compo_mech.evaluation.attention import MIN_LENGTH
from compo_mech.evaluation.sets import EvalSet
from compo_mech.interventions.attention_patterns import work_rows
from compo_mech.interventions.forced_patterns import edit_weights
from compo_mech.model.bridge import hook_to_edit
from compo_mech.model.config import ModelConfig
from compo_mech.model.sites import Site
from compo_mech.routes.paths import Route
from compo_mech.routes.route_map import NO_EFFECT
from compo_mech.routes.summary import FOLLOW_SHARE, RouteName
from compo_mech.routes.swaps import RouteStrings
from compo_mech.runs.trajectory import Quantity

if TYPE_CHECKING:
    from transformer_lens import ActivationCache, HookedTransformer

SEED = 0
"""Of what is drawn."""

Figures = dict[Quantity, float]


class Exchange(NamedTuple):
    """Pairs for one variable at one site, and directions of the placebo."""

    site: Site
    pairs: Interchanges
    direction: Tensor


def exchanges(data: DataConfig, task: Task, layer: int, config: ModelConfig) -> list[Exchange]:
    """Draw what `interchange_scores` draws."""
    generator = torch.Generator().manual_seed(SEED)
    widths = {"q": config.n_heads * config.head_width, "attn_out": config.d_model, "mlp_out": config.d_model}
    found = []
    for site, pairs in trajectories.swaps_of(data, task, layer, SEED):
        drawn = torch.randn(trajectories.N_SWAPS, widths[site.kind], generator=generator, dtype=torch.float64)
        found.append(Exchange(site, pairs, drawn.float()))
    return found


def cached(
    model: "HookedTransformer", tokens: Tensor, names: Sequence[str], careful: bool
) -> tuple[Tensor, "ActivationCache"]:
    """Logits and activations: all, or, of a careful loop, those that are asked for."""
    logits, cache = model.run_with_cache(tokens, names_filter=list(names) if careful else None)
    return torch.as_tensor(logits), cache


def loop_attention_metrics(sets: Sequence[EvalSet], careful: bool, model: "HookedTransformer") -> Figures:
    """Accuracy, attention, and `loop_pattern_ablations`."""
    sums, right = {}, []
    patterns = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.cfg.n_layers)]
    for test in sets:
        scored = list(test.layout.scored(test.length))
        logits, cache = cached(model, test.read, patterns, careful)
        right.append((logits[:, scored].argmax(-1) == test.targets).all(-1))
        for layer in range(model.cfg.n_layers):
            pattern = cache["pattern", layer][:, :, scored]
            for _, head, name, value in head_scores.layer_measures([pattern], test.layout, test.length, lean=True):
                sums.setdefault(Quantity(name, layer=layer, head=head), []).append(value)
    means = {quantity: sum(values) / len(values) for quantity, values in sums.items()}
    means[Quantity("strings right")] = float(torch.cat(right).float().mean())
    return means | loop_pattern_ablations(sets, model)


def loop_pattern_ablations(sets: Sequence[EvalSet], model: "HookedTransformer") -> Figures:
    """Count states that are right with uniform and with idealised patterns of each head, and of each layer."""
    config, found = model.cfg, {}
    groups = [((layer, head),) for layer in range(config.n_layers) for head in range(config.n_heads)]
    if config.n_heads > 1:
        groups += [tuple((layer, head) for head in range(config.n_heads)) for layer in range(config.n_layers)]
    for heads in groups:
        for work in ("lookup", "iteration"):
            right = {"uniform": [], "idealised": []}
            for test in sets:
                n_read = test.read.shape[1]
                rows, keys = work_rows(test.layout, test.length, work)
                edits = {"uniform": dict.fromkeys(rows), "idealised": dict(zip(rows, keys, strict=True))}
                for name, weights in ((name, edit_weights(of.items(), n_read)) for name, of in edits.items()):

                    def put(pattern, hook, rows=rows, weights=weights, heads=heads):
                        for _, head in heads:
                            pattern[:, head, rows] = weights
                        return pattern

                    hook = (f"blocks.{heads[0][0]}.attn.hook_pattern", put)
                    logits = model.run_with_hooks(test.read, fwd_hooks=[hook])
                    predicting = list(test.layout.scored(test.length))[:-1]
                    right[name].append((logits[:, predicting].argmax(-1) == test.targets[:, :-1]).flatten())
            layer, head = heads[0][0], heads[0][1] if len(heads) == 1 else None
            for name, counted in right.items():
                quantity = Quantity(f"{work} pattern ablation", name, layer=layer, head=head)
                found[quantity] = float(torch.cat(counted).float().mean())
    return found


def put_at(where, value):
    """Make a hook that writes a value at some indices."""

    def put(activation, hook):
        activation[where] = value
        return activation

    return put


def add_at(where, value):
    """Make a hook that adds one."""

    def add(activation, hook):
        activation[where] += value
        return activation

    return add


def only_at(where, clean):
    """Make a hook that lets the activation differ from the clean run at some indices alone."""

    def restore(activation, hook):
        restored = clean.clone()
        restored[where] = activation[where]
        return restored

    return restore


def loop_interchange_scores(asked: Sequence[Exchange], careful: bool, model: "HookedTransformer") -> Figures:
    """Interchanges, each beside its placebo."""
    found = {}
    for site, pairs, direction in asked:
        index, at = torch.arange(len(pairs.base)), site.hook_name
        here, there = (index, pairs.base.position), (index, pairs.source.position)
        base = cached(model, pairs.base.tokens, [at], careful)[1][at][here].flatten(1)
        source = cached(model, pairs.source.tokens, [at], careful)[1][at][there].flatten(1)
        sham = base + direction * ((source - base).norm(dim=1) / direction.norm(dim=1))[:, None]
        follows = []
        for value in (source, sham):
            value = value.view(-1, model.cfg.n_heads, model.cfg.d_head) if site.kind == "q" else value
            logits = model.run_with_hooks(pairs.base.tokens, fwd_hooks=[(at, put_at(here, value))])
            follows.append(balanced_accuracy(logits[here].argmax(-1), pairs.answers, pairs.changes))
        values = {"value": follows[0], "placebo": follows[1], "above placebo": follows[0] - follows[1]}
        for name, value in values.items():
            found[Quantity("IIA", name, pairs.variable, pairs.context, site.kind, site.layer)] = value
    return found


POST, Z = "blocks.0.hook_resid_post", "blocks.0.attn.hook_z"
Q, K, V = (f"blocks.1.attn.hook_{x}" for x in "qkv")
OUT, MID = "blocks.1.hook_attn_out", "blocks.1.hook_resid_mid"
KEPT = [POST, Z, Q, K, V]


def loop_route_scores(
    data: DataConfig, asked: Sequence[RouteStrings], careful: bool, model: "HookedTransformer"
) -> Figures:
    """Measure the shares of the routes of x_t, from runs with all routes of a name patched at once.

    Raises:
        ValueError: it is no HookedTransformer, but a bridge, in which an edit at `MID` does not reach the stream.
    """
    hook_to_edit(model, Site("resid_mid", 1))
    cells: list[tuple[int, dict[RouteName, float]]] = []
    for tokens, swaps in ((some.tokens, some.swaps) for some in asked):
        (logits, clean), moved = cached(model, tokens, KEPT, careful), []
        for swap in swaps:
            if swap.variable != "x":
                continue
            new_logits, corrupt = cached(model, swap.tokens, KEPT, careful)
            before, after = logits[:, swap.row], new_logits[:, swap.row]
            moved.append(swap.mean((new_logits.argmax(-1) != logits.argmax(-1)).T))
            reliance = torch.stack(moved)[:, swap.row]
            follows = swap.mean((before.argmax(-1) == swap.target) & (after.argmax(-1) == swap.foil))
            accumulated = len(moved) > 1 and reliance[:-1].mean() >= reliance[-1] / 2
            if not swap.valid.any():
                continue
            if follows < FOLLOW_SHARE or accumulated:
                cells.append((swap.length, {}))
                continue
            effect = swap.mean(swap.margin(before) - swap.margin(after))
            end, later = data.layout.end_of_input(swap.length), range(swap.source + 1, swap.row + 1)
            carriers = {
                RouteName.TEXTBOOK: [swap.source],
                RouteName.OFFSET: [p for p in later if p <= end and p != swap.row],
                RouteName.STATE: [p for p in later if p > end or p == swap.row],
            }
            shares = {}
            for route, positions in carriers.items():
                where, row = (slice(None), positions), (slice(None), swap.row)
                hooks: list = [(name, put_at(where, corrupt[name][where])) for name in (K, V)]
                if swap.row in positions:  # its query and its own stream carry the change as well
                    straight = corrupt[POST][row] - clean[POST][row]
                    hooks += [(Q, put_at(row, corrupt[Q][row])), (MID, add_at(row, straight))]
                patched = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, swap.row]
                done = swap.mean(swap.margin(before) - swap.margin(patched))
                shares[route] = float(done / effect) if abs(effect) >= NO_EFFECT else 0.0
            cells.append((swap.length, shares))
    kept = [shares for length, shares in cells if length >= MIN_LENGTH] or [shares for _, shares in cells]
    return {
        Quantity("route share", str(route)): statistics.mean(s.get(route, 0.0) for s in kept)
        for route in trajectories.CARRIED
    }


def swap_quantity(variable: str, t: int, length: int, route: Route) -> Quantity:
    """Return the quantity of one route's effect for one swap."""
    return Quantity(f"{variable}{t} of {length}", str(tuple(route)), variable)


def loop_routes(asked: Sequence[RouteStrings], careful: bool, model: "HookedTransformer") -> Figures:
    """What each route does alone, in logits. Raises as `loop_route_scores`."""
    hook_to_edit(model, Site("resid_mid", 1))
    found, heads = {}, range(model.cfg.n_heads)
    for tokens, swaps in ((some.tokens, some.swaps) for some in asked):
        logits, clean = cached(model, tokens, KEPT, careful)
        for swap in swaps:
            if not swap.valid.any():
                continue
            new_logits, corrupt = cached(model, swap.tokens, KEPT, careful)
            before, after = (swap.margin(x[:, swap.row]) for x in (logits, new_logits))
            effect = swap.mean(before - after)
            hops = [(None, swap.source)]
            hops += [(head, position) for head in heads for position in range(swap.source + 1, swap.row + 1)]
            routes = [Route(*hop, "key", head) for hop in hops for head in heads]
            at_row = [hop for hop in hops if hop[1] == swap.row]
            routes += [Route(*hop, "query", head) for hop in at_row for head in heads]
            routes += [Route(*hop, "residual", None) for hop in at_row]
            for route in routes:
                patched = model.run_with_hooks(tokens, fwd_hooks=route_hooks(route, swap.row, clean, corrupt))
                done = swap.mean(before - swap.margin(patched[:, swap.row]))
                logits_lost = float(done) if abs(effect) >= NO_EFFECT else 0.0
                found[swap_quantity(swap.variable, swap.t, swap.length, route)] = logits_lost
    return found


def route_hooks(route: Route, row: int, clean, corrupt) -> list:
    """The first hop takes the corrupt value; of what follows, only the second hop sees it."""
    here, nowhere = (slice(None), route.carrier), (slice(None), [])
    if route.first is None:
        hooks: list = [(POST, put_at(here, corrupt[POST][here]))]
    else:
        head = (*here, route.first)
        hooks = [(Z, put_at(head, corrupt[Z][head]))]
    read = {"key": (K, V), "query": (Q,), "residual": ()}[route.second]
    hooks += [(name, only_at((*here, route.head) if name in read else nowhere, clean[name])) for name in (Q, K, V)]
    if route.second != "residual" and route.carrier == row:  # its stream must not go straight on
        heads_out = []
        hooks.append((OUT, lambda out, hook: heads_out.append(out)))
        hooks.append((MID, lambda mid, hook: clean[POST] + heads_out.pop()))
    return hooks
