"""Seconds of training until a recipe is right at every length, and until it has an iteration head."""

import math
import statistics
import time
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

from compo_mech.data.stream import TrainingStream
from compo_mech.evaluation.measure import measure
from compo_mech.evaluation.sets import eval_sets
from compo_mech.model.params import Model, init_params
from compo_mech.reference.step_bench import wait
from compo_mech.runs import recipes
from compo_mech.runs.config import RunConfig
from compo_mech.training import loop

ACCURACY, ITERATION, CAP = 0.99, 0.9, 20


@dataclass
class Reached:
    """Seconds of training until a level was first measured, and the step; None: not within the cap."""

    accuracy: float | None = None
    accuracy_step: int | None = None
    iteration: float | None = None
    spent: float = 0.0
    steps: int = 0


def time_recipe(config: RunConfig, device: str, n_checks: int, cap: float) -> Reached:
    """Train until accuracy and iteration score are reached, or the cap; measuring is not counted."""
    generator = torch.Generator(device).manual_seed(config.seed)
    params = init_params(config.model, len(config.data.vocabulary), config.n_ctx, generator)
    state = loop.start(params, config.model, config.optim, generator)
    stream = TrainingStream(config.data, config.seed, device)
    sets = eval_sets(config.data, config.n_test_strings, device)
    found, check_every = Reached(), max(1, config.train.n_steps // n_checks)
    start = time.perf_counter()
    for step, _ in loop.train(state, stream, config.model, config.optim, config.train):
        spent = found.spent + time.perf_counter() - start
        if step % check_every and spent < cap and step < config.train.n_steps:
            continue
        wait(device)
        found.spent += time.perf_counter() - start
        found.steps = step
        rows = measure(Model(params, config.model), config.data, sets)
        accuracy = min(row.value for row in rows if row.metric == "generated_accuracy")
        iteration = max(row.value for row in rows if row.metric == "iteration" and row.split == "mean")
        if accuracy >= ACCURACY and found.accuracy is None:
            found.accuracy, found.accuracy_step = found.spent, step
        if iteration >= ITERATION and found.iteration is None:
            found.iteration = found.spent
        if (found.accuracy is not None and found.iteration is not None) or found.spent >= cap:
            break
        start = time.perf_counter()
    return found


def bench_recipes(device: str, n_seeds: int, console: Console) -> None:
    """Seconds of training to accuracy 0.99 at every length and to an iteration score of 0.9."""
    table = Table(title="(b) Seconds of training (measuring not counted)", title_justify="left")
    for column in ("recipe", "seed", "to accuracy", "at step", "to iteration score", "trained for"):
        table.add_column(column, justify="right")

    def add(name: str, seed: int, found: Reached) -> None:
        texts = ("–" if x is None else f"{x:.1f}" for x in (found.accuracy, found.iteration))
        accuracy, iteration = texts
        step = "–" if found.accuracy_step is None else str(found.accuracy_step)
        table.add_row(name, str(seed), accuracy, step, iteration, f"{found.spent:.0f} s, {found.steps} steps")
        console.print(f"{name}, seed {seed}: {found}", highlight=False)

    ours = []
    for seed in range(n_seeds):
        config = recipes.parity().model_copy(update={"seed": seed})
        ours.append(time_recipe(config, device, n_checks=48, cap=math.inf))
        add("ours", seed, ours[-1])
    to_accuracy = statistics.median(math.inf if r.accuracy is None else r.accuracy for r in ours)
    cap = CAP * to_accuracy
    reference = time_recipe(recipes.reference(recipes.parity().data.max_length), device, n_checks=1000, cap=cap)
    add("reference", 0, reference)
    console.print(table)
    if reference.accuracy is None:
        console.print(f"The reference had not reached accuracy {ACCURACY} after {CAP}× our median: ≥ {CAP}×.")
    else:
        console.print(f"Ours is {reference.accuracy / to_accuracy:.1f}× as fast to accuracy {ACCURACY}.")
