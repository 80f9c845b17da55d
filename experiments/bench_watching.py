"""How much faster every measure of every checkpoint is than a loop over HookedTransformers with their caches.

python experiments/bench_watching.py runs/parity-seed0

Both ask the same checkpoints the same: attention and accuracy (`looks`), and the causal twins of all heads
(`worths`). The loop is what a user would write: load the checkpoint, run with cache, run with a hook for each pattern
that is replaced. Checkpoints take turns between the two; the figures must agree.
"""

import functools
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console

from compo_mech import evaluate, watching
from compo_mech.graph import Model
from compo_mech.launch import fail
from compo_mech.runs import Run, RunError
from compo_mech.twins import ideal, uniform, work_rows


def loop_looks(run: Run, step: int, sets) -> dict[tuple[str, str], float]:
    model, sums, right = run.model(step), {}, []
    for test in sets:
        scored = list(test.layout.scored(test.length))
        with torch.no_grad():
            read = test.tokens[:, : test.layout.n_read(test.length)]
            logits, cache = model.run_with_cache(read, return_type="logits")
        right.append((torch.as_tensor(logits)[:, scored].argmax(-1) == test.targets).all(-1))
        for layer in range(model.cfg.n_layers):
            pattern = cache["pattern", layer][:, :, scored]
            for head, name, value in evaluate.layer_measures(pattern, test.layout, test.length, lean=True):
                site = f"L{layer}" if head is None else f"L{layer}H{head}"
                sums.setdefault((name, site), []).append(value)
    means = {place: sum(values) / len(values) for place, values in sums.items()}
    return means | {("strings right", ""): float(torch.cat(right).float().mean())}


def loop_worths(run: Run, step: int, sets) -> dict[tuple[str, str], float]:
    model, found = run.model(step), {}
    config = model.cfg
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
                    with torch.no_grad():
                        logits = model.run_with_hooks(test.tokens[:, :n_read], fwd_hooks=[hook])
                    predicting = list(test.layout.scored(test.length))[:-1]
                    right[name].append((logits[:, predicting].argmax(-1) == test.targets[:, :-1]).flatten())
            site = "+".join(f"L{layer}H{head}" for layer, head in heads)
            for name, parts in right.items():
                found[f"right with {name} {work}", site] = float(torch.cat(parts).float().mean())
    return found


def main(path: Annotated[Path, tyro.conf.Positional], n_checkpoints: int = 12) -> None:
    """Compare on checkpoints spread over RUN; then time everything over all of them."""
    console = Console()
    try:
        run = Run.open(path)
        task = run.tasks()[0]
        run.params()
    except RunError as error:
        fail(str(error))
    data, n = run.config.data, watching.N_STRINGS
    sets = watching.test_sets(data, task, n)
    pairs = {
        "looks": (functools.partial(watching.looks, data, task, n), loop_looks),
        "worths": (functools.partial(watching.worths, data, task, n), loop_worths),
    }
    steps = watching.thinned(run.steps, max(1, len(run.steps) // n_checkpoints))
    for n_threads in (1, 2):
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in pairs}
        largest = 0.0
        torch.set_num_threads(n_threads)
        loop_looks(run, steps[-1], sets)  # imports
        for step in steps:
            for name, (ours, loop) in pairs.items():
                torch.set_num_threads(1)
                started = time.perf_counter()
                own = {(m.measure, m.site): m.value for m in ours(Model(run.params(step), run.config.model))}
                middle = time.perf_counter()
                torch.set_num_threads(n_threads)
                theirs = loop(run, step, sets)
                times[name].append((middle - started, time.perf_counter() - middle))
                largest = max(largest, *(abs(own[place] - theirs[place]) for place in own.keys() & theirs.keys()))
        times["both"] = [(a + c, b + d) for (a, b), (c, d) in zip(times["looks"], times["worths"], strict=True)]
        for name, found in times.items():
            own, loop = (statistics.median(part) for part in zip(*found, strict=True))
            ratio = statistics.median(b / a for a, b in found)
            console.print(
                f"{name}: {1000 * own:.0f} ms a checkpoint, one thread; the loop on {n_threads}: {1000 * loop:.0f} ms; "
                f"{ratio:.1f} times as fast", highlight=False,
            )  # fmt: skip
        console.print(f"largest difference of a figure: {largest:.1e}", highlight=False)
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
