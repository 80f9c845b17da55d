"""How much faster every measure of every checkpoint is than a loop over HookedTransformers with their caches.

python experiments/bench_watching.py runs/parity-seed0

Both ask the same checkpoints the same: accuracy, attention and the causal twins of all heads (`looks`), interchanges
(`holdings`) and routes (`ways`). The loop is what a user would write: load the checkpoint into a HookedTransformer,
once for all measures, run with cache, run with hooks for each thing that is replaced, the strings of a length in one
batch. Its prompts are made once; ours draws them anew at each checkpoint. Checkpoints take turns between the two; the
figures must agree. A careful loop caches no more than it asks for.

What `watch` keeps of the ways needs a run for each name of routes; `routes` is the whole map, each route patched alone
as well, which is told beside the rest and not part of `all`.
"""

import concurrent.futures
import functools
import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

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
N_ROUNDS = 3
PARTS = ("looks", "holdings", "ways")
"""What `watch` asks; `routes` is told beside them."""

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


def cached(model: "HookedTransformer", tokens: Tensor, names: Sequence[str], careful: bool) -> tuple[Tensor, Any]:
    """Logits and activations: all, or, of a careful loop, those that are asked for."""
    logits, cache = model.run_with_cache(tokens, names_filter=list(names) if careful else None)
    return torch.as_tensor(logits), cache


def loop_looks(sets: Sequence[EvalSet], careful: bool, model: "HookedTransformer") -> Figures:
    sums, right = {}, []
    patterns = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.cfg.n_layers)]
    for test in sets:
        scored = list(test.layout.scored(test.length))
        read = test.tokens[:, : test.layout.n_read(test.length)]
        logits, cache = cached(model, read, patterns, careful)
        right.append((logits[:, scored].argmax(-1) == test.targets).all(-1))
        for layer in range(model.cfg.n_layers):
            pattern = cache["pattern", layer][:, :, scored]
            for head, name, value in evaluate.layer_measures(pattern, test.layout, test.length, lean=True):
                site = f"L{layer}" if head is None else f"L{layer}H{head}"
                sums.setdefault((name, site), []).append(value)
    means = {place: sum(values) / len(values) for place, values in sums.items()}
    means["strings right", ""] = float(torch.cat(right).float().mean())
    return means | loop_worths(sets, model)


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


def loop_holdings(asked: Sequence[Exchange], careful: bool, model: "HookedTransformer") -> Figures:
    found = {}
    for name, site, pairs, direction in asked:
        index, at = torch.arange(len(pairs.base)), site.hook_name
        here, there = (index, pairs.base.place), (index, pairs.source.place)
        base = cached(model, pairs.base.tokens, [at], careful)[1][at][here].flatten(1)
        source = cached(model, pairs.source.tokens, [at], careful)[1][at][there].flatten(1)
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


def loop_ways(data: DataConfig, asked: Sequence[Strings], careful: bool, model: "HookedTransformer") -> Figures:
    cells: list[tuple[int, dict[Way, float]]] = []
    for tokens, swaps in asked:
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


def loop_routes(asked: Sequence[Strings], careful: bool, model: "HookedTransformer") -> Figures:
    found, heads = {}, range(model.cfg.n_heads)
    for tokens, swaps in asked:
        logits, clean = cached(model, tokens, KEPT, careful)
        for swap in swaps:
            if not swap.valid.any():
                continue
            new_logits, corrupt = cached(model, swap.tokens, KEPT, careful)
            before, after = (swap.margin(x[:, swap.row]) for x in (logits, new_logits))
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


class Bench(NamedTuple):
    """What both are asked of one run."""

    run: Run
    task: Task
    layer: int

    @classmethod
    def of(cls, path: Path) -> "Bench":
        """
        Raises:
            RunError: nothing can be read there, or the network is none of two layers with one that fetches x_t.
        """
        run = Run.open(path)
        task = run.tasks()[0]
        looked = watching.looks(run.config.data, task, watching.N_STRINGS, Model(run.params(), run.config.model))
        layer = watching.fetching_layer(pd.DataFrame(looked).assign(step=0))
        if layer is None or run.config.model.n_layers != 2:
            raise RunError(f"run = {path}: must have two layers, one of which fetches x_t")
        return cls(run, task, layer)

    def ours(self) -> dict[str, Callable[[Model], Figures]]:
        data, n = self.run.config.data, watching.N_STRINGS
        asked = {
            "looks": functools.partial(watching.looks, data, self.task, n),
            "holdings": functools.partial(watching.holdings, data, self.task, self.layer, SEED),
            "ways": functools.partial(watching.ways, data, self.task, SEED),
        }
        found = {name: functools.partial(figures, measure) for name, measure in asked.items()}
        return found | {"routes": functools.partial(map_figures, data, self.task)}

    def loops(self, careful: bool) -> dict[str, Callable[["HookedTransformer"], Figures]]:
        data, task, n = self.run.config.data, self.task, watching.N_STRINGS
        sets, strings = watching.test_sets(data, task, n), route_strings(data, task)
        pairs = exchanges(data, task, self.layer, self.run.config.model)
        return {
            "looks": functools.partial(loop_looks, sets, careful),
            "holdings": functools.partial(loop_holdings, pairs, careful),
            "ways": functools.partial(loop_ways, data, strings, careful),
            "routes": functools.partial(loop_routes, strings, careful),
        }


def one_thread(bench: Bench, steps: Sequence[int], careful: bool, console: Console) -> None:
    """Each measure by both, one thread each."""
    ours, loops, run = bench.ours(), bench.loops(careful), bench.run
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in (*ours, "all")}
    largest, loads = dict.fromkeys(ours, 0.0), []
    for step in steps:
        started = time.perf_counter()
        hooked = run.model(step)
        loads.append(time.perf_counter() - started)
        for name in ours:
            started = time.perf_counter()
            own = ours[name](Model(run.params(step), run.config.model))
            middle = time.perf_counter()
            theirs = loops[name](hooked)
            times[name].append((middle - started, time.perf_counter() - middle))
            shared = own.keys() & theirs.keys()
            assert shared == theirs.keys()
            largest[name] = max(largest[name], *(abs(own[place] - theirs[place]) for place in shared))
        every = [times[name][-1] for name in PARTS]
        times["all"].append((sum(own for own, _ in every), loads[-1] + sum(loop for _, loop in every)))
    console.print(
        f"{len(steps)} checkpoints, one thread each, a {'careful' if careful else 'plain'} loop; "
        f"to load a HookedTransformer: {1000 * statistics.median(loads):.0f} ms", highlight=False, soft_wrap=True,
    )  # fmt: skip
    for name, found in times.items():
        own, loop = (statistics.median(part) for part in zip(*found, strict=True))
        ratio = statistics.median(b / a for a, b in found)
        differs = f"; largest difference {largest[name]:.1e}" if name in largest else ""
        console.print(
            f"  {name}: {1000 * own:.0f} ms a checkpoint; the loop: {1000 * loop:.0f} ms; {ratio:.1f} times as fast"
            f"{differs}", highlight=False, soft_wrap=True,
        )  # fmt: skip


def ask_all(path: Path, step: int) -> None:
    """Every measure of one checkpoint, in a process of its own."""
    torch.set_num_threads(1)
    bench, measures = _bench(path)
    params = bench.run.params(step)
    with torch.no_grad():
        for name in PARTS:
            measures[name](Model(params, bench.run.config.model))


@functools.lru_cache(maxsize=1)
def _bench(path: Path) -> tuple[Bench, dict[str, Callable[[Model], Figures]]]:
    bench = Bench.of(path)
    return bench, bench.ours()


def two_cores(bench: Bench, path: Path, steps: Sequence[int], console: Console) -> None:
    """Everything by both on two cores: ours as two processes of one thread, the loops with torch's two threads."""
    loops = {"a plain loop": bench.loops(careful=False), "a careful loop": bench.loops(careful=True)}
    ratios: dict[str, list[float]] = {name: [] for name in loops}
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, context) as pool:
        ask = functools.partial(ask_all, path)
        list(pool.map(ask, [*steps, *steps][: max(4, len(steps))]))  # both are warm
        for _ in range(N_ROUNDS):
            started = time.perf_counter()
            list(pool.map(ask, steps))
            own = time.perf_counter() - started
            torch.set_num_threads(2)
            for name, loop in loops.items():
                started = time.perf_counter()
                for step in steps:
                    hooked = bench.run.model(step)
                    for part in PARTS:
                        loop[part](hooked)
                ratios[name].append((time.perf_counter() - started) / own)
            torch.set_num_threads(1)
    for name, found in ratios.items():
        console.print(
            f"two cores, {name}: {statistics.median(found):.1f} times as fast ({min(found):.1f} .. {max(found):.1f} "
            f"in {N_ROUNDS} rounds)", highlight=False, soft_wrap=True,
        )  # fmt: skip


def main(path: Annotated[Path, tyro.conf.Positional], n_checkpoints: int = 12) -> None:
    """Compare on checkpoints spread over RUN; then time everything over all of them."""
    console = Console()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    try:
        bench = Bench.of(path)
    except RunError as error:
        fail(str(error))
    run = bench.run
    steps = watching.thinned(run.steps, max(1, len(run.steps) // n_checkpoints))
    run.model(steps[-1])  # imports
    for careful in (False, True):
        one_thread(bench, steps, careful, console)
    two_cores(bench, path, steps, console)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "run"
        shutil.copytree(path, copy, ignore=shutil.ignore_patterns("analysis"))
        started = time.perf_counter()
        watching.watch(Run.open(copy), bench.task, n_workers=2)
    seconds = time.perf_counter() - started
    console.print(
        f"everything, {len(run.steps)} checkpoints, two processes: {seconds:.0f} s, "
        f"{200 * seconds / len(run.steps):.0f} s for 200", highlight=False, soft_wrap=True,
    )  # fmt: skip


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
