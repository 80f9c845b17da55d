"""How much faster `watch` is than loops over HookedTransformers: they take turns, and their figures must agree.

`watch` asks for accuracy, attention and pattern ablations of all heads (`attention_metrics`), for `interchange_scores`
and for `route_scores`. What it keeps of the routes needs a run for each name of routes; `routes` is the whole map, each
route patched alone as well, which is timed beside the rest and not part of `all`.
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
from typing import TYPE_CHECKING, Annotated, NamedTuple

import torch
from rich.console import Console

from compo_mech.analyses import trajectories
from compo_mech.analyses.watch import fetching_layer, thinned, watch
from compo_mech.cli.command import Count, Positional
from compo_mech.cli.errors import one_line_errors
from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.model.params import Model
from compo_mech.reference.hooked_loops import (
    SEED,
    Figures,
    exchanges,
    loop_attention_metrics,
    loop_interchange_scores,
    loop_route_scores,
    loop_routes,
    swap_quantity,
)
from compo_mech.reference.libraries import ways_of_others
from compo_mech.routes.route_map import route_map
from compo_mech.runs import trajectory
from compo_mech.runs.checkpoints import RunError
from compo_mech.runs.run import Run

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

N_ROUNDS = 3

MEASURES = ("attention_metrics", "interchange_scores", "route_scores")
"""What `watch` asks; `routes` is timed beside them."""


def map_figures(data: DataConfig, task: Task, model: Model) -> Figures:
    """What each route does, in logits: a share of an effect near 0 is rounding."""
    generator = torch.Generator().manual_seed(SEED)
    found = route_map(model, data, generator, trajectories.N_ROUTE_STRINGS, trajectories.route_lengths(data), task)
    return {
        swap_quantity(cell.variable, cell.t, cell.length, route): share * cell.effect
        for cell in found.cells
        for route, share in zip(cell.routes, cell.share.tolist(), strict=True)
    }


def figures(measure: trajectory.NetworkMeasure, model: Model) -> Figures:
    """What a measure finds, as `watch` asks."""
    return {found.quantity: found.value for found in trajectory.answers(measure, model)}


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
        measured = trajectories.attention_metrics(
            run.config.data, task, trajectories.N_STRINGS, Model(run.params(), run.config.model)
        )
        layer = fetching_layer(trajectory.as_table(0, measured))
        if layer is None or run.config.model.n_layers != 2:
            raise RunError(f"run = {path}: must have two layers, one of which fetches x_t")
        return cls(run, task, layer)

    def ours(self) -> dict[str, Callable[[Model], Figures]]:
        data, n = self.run.config.data, trajectories.N_STRINGS
        asked = {
            "attention_metrics": functools.partial(trajectories.attention_metrics, data, self.task, n),
            "interchange_scores": functools.partial(trajectories.interchange_scores, data, self.task, self.layer, SEED),
            "route_scores": functools.partial(trajectories.route_scores, data, self.task, SEED),
        }
        found = {name: functools.partial(figures, measure) for name, measure in asked.items()}
        return found | {"routes": functools.partial(map_figures, data, self.task)}

    def loops(self, careful: bool) -> dict[str, Callable[["HookedTransformer"], Figures]]:
        data, task, n = self.run.config.data, self.task, trajectories.N_STRINGS
        sets, strings = trajectories.test_sets(data, task, n), trajectories.route_strings_of(data, task, SEED)
        pairs = exchanges(data, task, self.layer, self.run.config.model)
        return {
            "attention_metrics": functools.partial(loop_attention_metrics, sets, careful),
            "interchange_scores": functools.partial(loop_interchange_scores, pairs, careful),
            "route_scores": functools.partial(loop_route_scores, data, strings, careful),
            "routes": functools.partial(loop_routes, strings, careful),
        }


def one_thread(bench: Bench, steps: Sequence[int], careful: bool, console: Console) -> None:
    """Each measure by both, one thread each."""
    ours, loops, run = bench.ours(), bench.loops(careful), bench.run
    ways = ways_of_others()
    times: dict[str, list[list[float]]] = {name: [] for name in (*ours, "all")}
    largest, loads = dict.fromkeys(ours, 0.0), []
    for step in steps:
        started = time.perf_counter()
        hooked = run.model(step)
        loads.append(time.perf_counter() - started)
        for name in ours:
            started = time.perf_counter()
            own = ours[name](Model(run.params(step), run.config.model))
            taken = [time.perf_counter() - started]
            for way in ways.values():
                with way():
                    started = time.perf_counter()
                    theirs = loops[name](hooked)
                    taken.append(time.perf_counter() - started)
                shared = own.keys() & theirs.keys()
                assert shared == theirs.keys()
                largest[name] = max(largest[name], *(abs(own[place] - theirs[place]) for place in shared))
            times[name].append(taken)
        every = [sum(taken) for taken in zip(*(times[name][-1] for name in MEASURES), strict=True)]
        times["all"].append([every[0], *(loads[-1] + loop for loop in every[1:])])
    console.print(
        f"{len(steps)} checkpoints, one thread each, a {'careful' if careful else 'plain'} loop; "
        f"to load a HookedTransformer: {1000 * statistics.median(loads):.0f} ms", highlight=False, soft_wrap=True,
    )  # fmt: skip
    for name, found in times.items():
        said = f"  {name}: {1000 * statistics.median(taken[0] for taken in found):.0f} ms a checkpoint"
        for i, way in enumerate(ways, 1):
            loop = statistics.median(taken[i] for taken in found)
            ratio = statistics.median(taken[i] / taken[0] for taken in found)
            said += f"; the loop{way}: {1000 * loop:.0f} ms, {ratio:.1f} times as fast"
        said += f"; largest difference {largest[name]:.1e}" if name in largest else ""
        console.print(said, highlight=False, soft_wrap=True)


def ask_all(path: Path, step: int) -> None:
    """Every measure of one checkpoint, in a process of its own."""
    torch.set_num_threads(1)
    bench, measures = _bench(path)
    params = bench.run.params(step)
    with torch.no_grad():
        for name in MEASURES:
            measures[name](Model(params, bench.run.config.model))


@functools.lru_cache(maxsize=1)
def _bench(path: Path) -> tuple[Bench, dict[str, Callable[[Model], Figures]]]:
    bench = Bench.of(path)
    return bench, bench.ours()


def two_cores(bench: Bench, path: Path, steps: Sequence[int], console: Console) -> None:
    """Everything by both on two cores: ours as two processes of one thread, the loops with torch's two threads."""
    loops = {"a plain loop": bench.loops(careful=False), "a careful loop": bench.loops(careful=True)}
    ratios: dict[str, list[float]] = {name: [] for name in loops}
    steps = steps[len(steps) % 2 :] or steps  # of an odd number one process would wait for the other
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
                    for measure in MEASURES:
                        loop[measure](hooked)
                ratios[name].append((time.perf_counter() - started) / own)
            torch.set_num_threads(1)
    for name, found in ratios.items():
        console.print(
            f"two cores, {name}: {statistics.median(found):.1f} times as fast ({min(found):.1f} .. {max(found):.1f} "
            f"in {N_ROUNDS} rounds)", highlight=False, soft_wrap=True,
        )  # fmt: skip


def watching_bench(path: Annotated[Path, Positional], n_checkpoints: Count = 12) -> None:
    """Compare on checkpoints spread over RUN, then time everything over all of them.

    Args:
        path: folder of the run.
        n_checkpoints: how many are compared.
    """
    with one_line_errors():
        compare_speed(path, n_checkpoints, Console())


def compare_speed(path: Path, n_checkpoints: int, console: Console) -> None:
    """Compare on checkpoints spread over a run, then time everything over all of them.

    Raises:
        RunError, ValueError: the run cannot be timed, or not on so many checkpoints.
    """
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    bench = Bench.of(path)
    run = bench.run
    steps = thinned(run.steps, max(1, len(run.steps) // n_checkpoints))
    run.model(steps[-1])  # imports
    for careful in (False, True):
        one_thread(bench, steps, careful, console)
    two_cores(bench, path, steps, console)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "run"
        shutil.copytree(path, copy, ignore=shutil.ignore_patterns("analysis"))
        started = time.perf_counter()
        watch(Run.open(copy), bench.task, n_workers=2)
    seconds = time.perf_counter() - started
    console.print(
        f"everything, {len(run.steps)} checkpoints, two processes: {seconds:.0f} s, "
        f"{200 * seconds / len(run.steps):.0f} s for 200", highlight=False, soft_wrap=True,
    )  # fmt: skip
