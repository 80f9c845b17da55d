"""How much faster every measure of every checkpoint is than a loop over HookedTransformers with their caches.

python experiments/bench_watching.py runs/parity-seed0

Both ask the same checkpoints the same: attention and accuracy (`looks`), the causal twins of all heads (`worths`),
interchanges (`holdings`) and routes (`ways`). The loop is what a user would write: load the checkpoint into a
HookedTransformer, once for all measures, run with cache, run with hooks for each thing that is replaced, the strings
of a length in one batch. Its prompts are made once; ours draws them anew at each checkpoint. Checkpoints take turns
between the two; the figures must agree.

What `watch` keeps of the ways needs a run for each name of routes. Ours makes the whole map, each route patched alone
as well: `routes` is a loop that does that too.
"""

import functools
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import pandas as pd
import torch
import tyro
from rich.console import Console
from torch import Tensor

from compo_mech import evaluate, watching
from compo_mech.attention import MIN_LENGTH
from compo_mech.causal import balanced
from compo_mech.command_line import fail
from compo_mech.counterfactuals import Swap, make_swaps
from compo_mech.data import DataConfig
from compo_mech.evaluate import EvalSet
from compo_mech.graph import Model
from compo_mech.hooks import Site
from compo_mech.model import ModelConfig
from compo_mech.routes import FOLLOW_SHARE, NO_EFFECT, Route, Way, route_map
from compo_mech.runs import Run, RunError
from compo_mech.tasks import Task
from compo_mech.twins import ideal, uniform, work_rows
from compo_mech.variables import Interchanges, Variable, make_interchanges, uses

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

SEED = 0

Figures = dict[tuple[str, str], float]
"""By measure and site."""


# ------------------------------------------------------------------------------ prompts of the loop


class Exchange(NamedTuple):
    """Pairs for one variable at one site, and directions of the placebo."""

    name: str
    site: Site
    pairs: Interchanges
    direction: Tensor


def exchanges(data: DataConfig, task: Task, layer: int, config: ModelConfig) -> list[Exchange]:
    """What `watching.holdings` draws."""
    generator = torch.Generator().manual_seed(SEED)
    widths = {"q": config.n_heads * config.head_width, "attn_out": config.d_model, "mlp_out": config.d_model}
    plans: list[tuple[str, Variable, Site]] = [
        ("t in the query", "t", Site("q", layer)),
        ("x fetched", "x", Site("attn_out", layer)),
        ("state written", "answer", Site("mlp_out", layer)),
    ]
    found = []
    for name, variable, site in plans:
        if uses(task, variable) and (layer > 0 or variable != "t"):
            pairs = make_interchanges(data, variable, "free", watching.N_SWAPS, generator, task)
            drawn = torch.randn(watching.N_SWAPS, widths[site.kind], generator=generator, dtype=torch.float64)
            found.append(Exchange(name, site, pairs, drawn.float()))
    return found


class Strings(NamedTuple):
    """Strings of one length as they are read, and every swap of one token."""

    tokens: Tensor
    swaps: list[Swap]


def route_lengths(data: DataConfig) -> list[int]:
    """Those of `watching.ways`."""
    return sorted({data.max_length, max(data.min_length, (data.max_length + 1) // 2)})


def route_strings(data: DataConfig, task: Task) -> list[Strings]:
    """What `watching.ways` draws."""
    generator, words, n = torch.Generator().manual_seed(SEED), data.vocabulary, watching.N_ROUTE_STRINGS
    first, found = torch.full((n,), words.task_token(task) if data.task_token else words.beginning), []
    for length in route_lengths(data):
        inputs = torch.randint(task.first_input, task.n_inputs, (n, length), generator=generator)
        lengths, states = torch.full((n,), length), task.states(inputs)
        tokens = data.layout.assemble(first, inputs, states, lengths, words.end_of_input, words.end_of_states)
        tokens = tokens[:, : data.layout.n_read(length)]
        found.append(Strings(tokens, make_swaps(task, data.layout, inputs, tokens, generator)))
    return found


# ------------------------------------------------------------------------------ loops


def loop_looks(sets: Sequence[EvalSet], model: "HookedTransformer") -> Figures:
    sums, right = {}, []
    for test in sets:
        scored = list(test.layout.scored(test.length))
        read = test.tokens[:, : test.layout.n_read(test.length)]
        logits, cache = model.run_with_cache(read, names_filter=lambda name: name.endswith("pattern"))
        right.append((torch.as_tensor(logits)[:, scored].argmax(-1) == test.targets).all(-1))
        for layer in range(model.cfg.n_layers):
            pattern = cache["pattern", layer][:, :, scored]
            for head, name, value in evaluate.layer_measures(pattern, test.layout, test.length, lean=True):
                site = f"L{layer}" if head is None else f"L{layer}H{head}"
                sums.setdefault((name, site), []).append(value)
    means = {place: sum(values) / len(values) for place, values in sums.items()}
    return means | {("strings right", ""): float(torch.cat(right).float().mean())}


def loop_worths(sets: Sequence[EvalSet], model: "HookedTransformer") -> Figures:
    config, found = model.cfg, {}
    groups = [((layer, head),) for layer in range(config.n_layers) for head in range(config.n_heads)]
    if config.n_heads > 1:
        groups += [tuple((layer, head) for head in range(config.n_heads)) for layer in range(config.n_layers)]
    for heads in groups:
        for work in ("lookup", "iteration"):
            right = {"even": [], "ideal": []}
            for test in sets:
                n_read = test.layout.n_read(test.length)
                rows, keys = work_rows(test.layout, test.length, work)
                for name, weights in (("even", uniform(rows, n_read)), ("ideal", ideal(keys, n_read))):

                    def put(pattern, hook, rows=rows, weights=weights, heads=heads):
                        for _, head in heads:
                            pattern[:, head, rows] = weights
                        return pattern

                    hook = (f"blocks.{heads[0][0]}.attn.hook_pattern", put)
                    logits = model.run_with_hooks(test.tokens[:, :n_read], fwd_hooks=[hook])
                    predicting = list(test.layout.scored(test.length))[:-1]
                    right[name].append((logits[:, predicting].argmax(-1) == test.targets[:, :-1]).flatten())
            site = "+".join(f"L{layer}H{head}" for layer, head in heads)
            for name, parts in right.items():
                found[f"right with {name} {work}", site] = float(torch.cat(parts).float().mean())
    return found


def put_at(where, value):
    """A hook that puts a value at some places."""

    def put(activation, hook):
        activation[where] = value
        return activation

    return put


def add_at(where, value):
    """A hook that adds one."""

    def add(activation, hook):
        activation[where] += value
        return activation

    return add


def only_at(where, clean):
    """A hook that lets nothing but some places differ from the clean run."""

    def restore(activation, hook):
        restored = clean.clone()
        restored[where] = activation[where]
        return restored

    return restore


def loop_holdings(asked: Sequence[Exchange], model: "HookedTransformer") -> Figures:
    found = {}
    for name, site, pairs, direction in asked:
        index, at = torch.arange(len(pairs.base)), site.hook_name
        here, there = (index, pairs.base.place), (index, pairs.source.place)
        base = model.run_with_cache(pairs.base.tokens, names_filter=at)[1][at][here].flatten(1)
        source = model.run_with_cache(pairs.source.tokens, names_filter=at)[1][at][there].flatten(1)
        sham = base + direction * ((source - base).norm(dim=1) / direction.norm(dim=1))[:, None]
        follows = []
        for value in (source, sham):
            value = value.view(-1, model.cfg.n_heads, model.cfg.d_head) if site.kind == "q" else value
            logits = model.run_with_hooks(pairs.base.tokens, fwd_hooks=[(at, put_at(here, value))])
            follows.append(balanced(logits[here].argmax(-1), pairs.answers, pairs.changes)[0].mean)
        found |= {(name, str(site)): follows[0], (f"{name}, placebo", str(site)): follows[1]}
        found[f"{name}, above", str(site)] = follows[0] - follows[1]
    return found


POST, Z = "blocks.0.hook_resid_post", "blocks.0.attn.hook_z"
Q, K, V = (f"blocks.1.attn.hook_{x}" for x in "qkv")
OUT, MID = "blocks.1.hook_attn_out", "blocks.1.hook_resid_mid"
KEPT = [POST, Z, Q, K, V]


def loop_ways(data: DataConfig, asked: Sequence[Strings], model: "HookedTransformer") -> Figures:
    cells: list[tuple[int, dict[Way, float]]] = []
    for tokens, swaps in asked:
        logits, clean = model.run_with_cache(tokens, names_filter=KEPT)
        logits, moved = torch.as_tensor(logits), []
        for swap in swaps:
            if swap.variable != "x":
                continue
            new_logits, corrupt = model.run_with_cache(swap.tokens, names_filter=KEPT)
            before, after = logits[:, swap.row], torch.as_tensor(new_logits)[:, swap.row]
            moved.append(swap.mean((torch.as_tensor(new_logits).argmax(-1) != logits.argmax(-1)).T))
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
                Way.TEXTBOOK: [swap.source],
                Way.OFFSET: [place for place in later if place <= end and place != swap.row],
                Way.STATE: [place for place in later if place > end or place == swap.row],
            }
            shares = {}
            for way, places in carriers.items():
                where, row = (slice(None), places), (slice(None), swap.row)
                hooks: list = [(name, put_at(where, corrupt[name][where])) for name in (K, V)]
                if swap.row in places:  # it also asks otherwise, and has its own stream
                    straight = corrupt[POST][row] - clean[POST][row]
                    hooks += [(Q, put_at(row, corrupt[Q][row])), (MID, add_at(row, straight))]
                patched = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, swap.row]
                done = swap.mean(swap.margin(before) - swap.margin(patched))
                shares[way] = float(done / effect) if abs(effect) >= NO_EFFECT else 0.0
            cells.append((swap.length, shares))
    kept = [shares for length, shares in cells if length >= MIN_LENGTH] or [shares for _, shares in cells]
    return {(f"by {way}", ""): statistics.mean(s.get(way, 0.0) for s in kept) for way in watching.CARRIED}


def loop_routes(asked: Sequence[Strings], model: "HookedTransformer") -> Figures:
    found, heads = {}, range(model.cfg.n_heads)
    for tokens, swaps in asked:
        logits, clean = model.run_with_cache(tokens, names_filter=KEPT)
        for swap in swaps:
            if not swap.valid.any():
                continue
            new_logits, corrupt = model.run_with_cache(swap.tokens, names_filter=KEPT)
            before, after = (swap.margin(torch.as_tensor(x)[:, swap.row]) for x in (logits, new_logits))
            effect = swap.mean(before - after)
            hops = [(None, swap.source)]
            hops += [(head, place) for head in heads for place in range(swap.source + 1, swap.row + 1)]
            routes = [Route(*hop, "key", head) for hop in hops for head in heads]
            at_row = [hop for hop in hops if hop[1] == swap.row]
            routes += [Route(*hop, "query", head) for hop in at_row for head in heads]
            routes += [Route(*hop, "residual", None) for hop in at_row]
            for route in routes:
                patched = model.run_with_hooks(tokens, fwd_hooks=route_hooks(route, swap.row, clean, corrupt))
                done = swap.mean(before - swap.margin(patched[:, swap.row]))
                logits_lost = float(done) if abs(effect) >= NO_EFFECT else 0.0
                found[f"{swap.variable}{swap.t} of {swap.length}", str(tuple(route))] = logits_lost
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


# ------------------------------------------------------------------------------ comparison


def map_figures(data: DataConfig, task: Task, model: Model) -> Figures:
    """What each route does, in logits: a share of an effect near 0 is rounding."""
    generator = torch.Generator().manual_seed(SEED)
    found = route_map(model, data, generator, watching.N_ROUTE_STRINGS, route_lengths(data), task)
    return {
        (f"{cell.variable}{cell.t} of {cell.length}", str(tuple(route))): share * cell.effect
        for cell in found.cells
        for route, share in zip(cell.routes, cell.share.tolist(), strict=True)
    }


def figures(measure: watching.Measure, model: Model) -> Figures:
    return {(found.measure, found.site): found.value for found in measure(model)}


def main(path: Annotated[Path, tyro.conf.Positional], n_checkpoints: int = 12) -> None:
    """Compare on checkpoints spread over RUN; then time everything over all of them."""
    console = Console()
    try:
        run = Run.open(path)
        task = run.tasks()[0]
        last = Model(run.params(), run.config.model)
    except RunError as error:
        fail(str(error))
    data, n = run.config.data, watching.N_STRINGS
    looks = functools.partial(watching.looks, data, task, n)
    table = pd.DataFrame(looks(last)).assign(step=0)
    layer = watching.fetching_layer(table)
    if layer is None or run.config.model.n_layers != 2:
        fail(f"run = {path}: must have two layers, one of which fetches x_t")
    sets, strings = watching.test_sets(data, task, n), route_strings(data, task)
    ours: dict[str, Callable[[Model], Figures]] = {
        "looks": functools.partial(figures, looks),
        "worths": functools.partial(figures, functools.partial(watching.worths, data, task, n)),
        "holdings": functools.partial(figures, functools.partial(watching.holdings, data, task, layer, SEED)),
        "ways": functools.partial(figures, functools.partial(watching.ways, data, task, SEED)),
        "routes": functools.partial(map_figures, data, task),
    }
    loops: dict[str, Callable[["HookedTransformer"], Figures]] = {
        "looks": functools.partial(loop_looks, sets),
        "worths": functools.partial(loop_worths, sets),
        "holdings": functools.partial(loop_holdings, exchanges(data, task, layer, run.config.model)),
        "ways": functools.partial(loop_ways, data, strings),
        "routes": functools.partial(loop_routes, strings),
    }
    steps = watching.thinned(run.steps, max(1, len(run.steps) // n_checkpoints))
    torch.set_grad_enabled(False)
    for n_threads in (1, 2):
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in (*ours, "all", "all, each route alone")}
        largest, loads = dict.fromkeys(ours, 0.0), []
        run.model(steps[-1])  # imports
        for step in steps:
            torch.set_num_threads(n_threads)
            started = time.perf_counter()
            hooked = run.model(step)
            load = time.perf_counter() - started
            loads.append(load)
            taken: dict[str, tuple[float, float]] = {}
            for name in ours:
                torch.set_num_threads(1)
                started = time.perf_counter()
                own = ours[name](Model(run.params(step), run.config.model))
                middle = time.perf_counter()
                torch.set_num_threads(n_threads)
                theirs = loops[name](hooked)
                taken[name] = (middle - started, time.perf_counter() - middle)
                shared = own.keys() & theirs.keys()
                assert shared == theirs.keys()
                largest[name] = max(largest[name], *(abs(own[place] - theirs[place]) for place in shared))
            for name, (own_time, loop_time) in taken.items():
                times[name].append((own_time, load + loop_time))
            kept = [taken[name] for name in ours if name != "routes"]  # its map is what `ways` makes
            own_time, loop_time = (sum(part) for part in zip(*kept, strict=True))
            times["all"].append((own_time, load + loop_time))
            times["all, each route alone"].append((own_time, load + loop_time + taken["routes"][1]))
        console.print(
            f"{len(steps)} checkpoints, ours on one thread, the loop on {n_threads}; "
            f"to load a HookedTransformer: {1000 * statistics.median(loads):.0f} ms", highlight=False,
        )  # fmt: skip
        for name, found in times.items():
            own, loop = (statistics.median(part) for part in zip(*found, strict=True))
            ratio = statistics.median(b / a for a, b in found)
            differs = f"; largest difference {largest[name]:.1e}" if name in largest else ""
            console.print(
                f"{name}: {1000 * own:.0f} ms a checkpoint; the loop: {1000 * loop:.0f} ms; {ratio:.1f} times as fast"
                f"{differs}", highlight=False,
            )  # fmt: skip
        console.print(f"largest difference of a figure: {max(largest.values()):.1e}", highlight=False)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "run"
        shutil.copytree(path, copy, ignore=shutil.ignore_patterns("analysis"))
        started = time.perf_counter()
        watching.watch(Run.open(copy), task, n_workers=2)
    seconds = time.perf_counter() - started
    console.print(
        f"everything, {len(run.steps)} checkpoints, two processes: {seconds:.0f} s, "
        f"{200 * seconds / len(run.steps):.0f} s for 200", highlight=False,
    )  # fmt: skip


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
