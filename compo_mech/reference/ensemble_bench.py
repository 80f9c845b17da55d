"""Training speed of many seeds at once against one by one, interleaved."""

import statistics
import sys
import time
from typing import Annotated

import torch
from pydantic import Field
from rich.console import Console
from rich.table import Table

from compo_mech.cli.command import Count, NThreads
from compo_mech.cli.errors import one_line_errors
from compo_mech.data.config import DataConfig
from compo_mech.launch import group_timing
from compo_mech.launch.settings import check_device
from compo_mech.model.config import ModelConfig
from compo_mech.runs.config import RunConfig

N_ALONE = 8
"""Models that are trained one by one for comparison; more take the same time each."""


def measure(config: RunConfig, n: int, device: str, n_rounds: int) -> tuple[float, float]:
    """Median seconds a step and model, one by one and at once, each round a step of both."""
    sizes = {False: min(n, N_ALONE), True: n}
    loops = {at_once: group_timing.throwaway_steps(config, size, device, at_once) for at_once, size in sizes.items()}
    times: dict[bool, list[float]] = {False: [], True: []}
    for round_ in range(n_rounds + 2):
        for at_once, loop in loops.items():
            begun = time.perf_counter()
            next(loop)
            if round_ > 1:  # the first two warm up
                times[at_once].append((time.perf_counter() - begun) / sizes[at_once])
    return statistics.median(times[False]), statistics.median(times[True])


def ensemble_bench(
    sizes: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 8, 64, 256),
    batch_sizes: Annotated[tuple[Count, ...], Field(min_length=1)] = (64, 16),
    d_model: Count = 32,
    max_length: Count = 8,
    n_rounds: Count = 15,
    n_threads: NThreads = 1,
    device: str = "cpu",
) -> None:
    """Parity, two layers, lengths 1 .. max_length, Muon.

    Args:
        sizes: networks at once.
        batch_sizes: rows a step.
        d_model: width of the residual stream.
        max_length: of strings.
        n_rounds: times that each is timed.
        n_threads: of the CPU.
        device: as torch names it.
    """
    with one_line_errors():
        check_device(device)
        configs = [
            RunConfig(
                data=DataConfig(max_length=max_length, batch_size=batch_size),
                model=ModelConfig(d_model=d_model),
                n_threads=n_threads,
            )
            for batch_size in batch_sizes
        ]
    torch.set_num_threads(n_threads)
    console = Console()
    console.print(f"torch {torch.__version__}, {device}, {n_threads} thread(s), {sys.platform}", highlight=False)
    table = Table(title="Milliseconds a step and model", title_justify="left")
    for column in ("batch", "models", "one by one", "at once", "at once is"):
        table.add_column(column, justify="right")
    for batch_size, config in zip(batch_sizes, configs, strict=True):
        for n in sizes:
            alone, at_once = measure(config, n, device, n_rounds)
            figures = (f"{alone * 1e3:.2f}", f"{at_once * 1e3:.2f}", f"{alone / at_once:.2f}× as fast")
            table.add_row(str(batch_size), str(n), *figures)
        best = group_timing.best_group(config, max(sizes), device)
        console.print(f"batch {batch_size}: best group of {max(sizes)} models: {best}", highlight=False)
    console.print(table)
