"""The bench of training: one step, and whole recipes."""

import sys
from typing import Annotated, Literal

import torch
from pydantic import Field
from rich.console import Console

from compo_mech.cli.command import Count, NThreads
from compo_mech.cli.errors import one_line_errors
from compo_mech.launch.settings import check_device
from compo_mech.reference.recipe_bench import bench_recipes
from compo_mech.reference.step_bench import bench_steps


def training_bench(
    parts: Annotated[tuple[Literal["steps", "recipes"], ...], Field(min_length=1)] = ("steps", "recipes"),
    device: str = "cpu",
    n_threads: NThreads = 1,
    n_rounds: Count = 100,
    n_seeds: Count = 3,
) -> None:
    """Time training.

    Args:
        parts: what to measure.
        device: cpu, cuda, cuda:1, mps.
        n_threads: of the CPU.
        n_rounds: of part (a), each of one step of every contender.
        n_seeds: of our recipe in part (b); the reference runs on the first.
    """
    with one_line_errors():
        check_device(device)
    torch.set_num_threads(n_threads)
    console = Console()
    console.print(f"torch {torch.__version__}, {device}, {n_threads} thread(s), {sys.platform}")
    if "steps" in parts:
        bench_steps(device, n_rounds, console)
    if "recipes" in parts:
        bench_recipes(device, n_seeds, console)
