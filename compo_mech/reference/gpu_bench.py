"""What a device does with one network to thousands: checks, seconds a step, and seeds of a recipe to their end."""

import itertools
import math
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from rich.console import Console

from compo_mech.cli.command import Count, NThreads
from compo_mech.cli.errors import one_line_errors
from compo_mech.cli.output import check_out, say, write_table
from compo_mech.cli.tables import print_table
from compo_mech.data.stream import TrainingStream
from compo_mech.evaluation.sets import eval_sets
from compo_mech.evaluation.stacked import measure_each
from compo_mech.launch.ensemble import new_members
from compo_mech.launch.run import new_state
from compo_mech.launch.settings import check_device
from compo_mech.reference.gpu_checks import checks
from compo_mech.reference.step_bench import matrix_rate, operations_of, wait
from compo_mech.runs import recipes
from compo_mech.runs.config import RunConfig
from compo_mech.studies.outcomes import ends, summary
from compo_mech.training import loop

if TYPE_CHECKING:
    import pandas as pd

Part = Literal["checks", "steps", "seeds"]
Precision = Literal["highest", "high"]
PRODUCTS: dict[Precision, str] = {"highest": "float32", "high": "TF32"}
N_WARM = 9
"""Steps before any are timed: each of the three shapes of batch comes three times, see `CapturedSteps`."""
N_TIMED = 12
N_BLOCKS = 3


def gpu_bench(
    parts: Annotated[tuple[Part, ...], Field(min_length=1)] = ("checks", "steps", "seeds"),
    sizes: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 64, 256, 1000, 4000),
    n_seeds: Count = 1000,
    n_at_once: Count = 1000,
    n_steps: Count | None = None,
    precisions: Annotated[tuple[Precision, ...], Field(min_length=1)] = ("highest",),
    n_threads: NThreads = 1,
    device: str = "cuda",
    out: Path | None = None,
) -> None:
    """The default recipe of parity.

    Args:
        parts: which of the three.
        sizes: networks that are trained at once, of which steps are timed.
        n_seeds: trained to their end.
        n_at_once: of those, in one stack.
        n_steps: of training; None: the recipe's.
        precisions: of matrix products: float32, or TF32 where the device has it.
        n_threads: of the CPU.
        device: as torch names it.
        out: where the table of seeds is written, as .csv; None: nowhere.
    """
    import pandas as pd

    with one_line_errors():
        check_device(device)
        if "high" in precisions and not device.startswith("cuda"):
            raise ValueError(f"precisions = high: goes with a GPU, and device is {device}")
        if out is not None:
            check_out(out, ".csv")
    torch.set_num_threads(n_threads)
    config, console = recipes.parity(), Console()
    if n_steps is not None:
        config = config.model_copy(update={"train": config.train.model_copy(update={"n_steps": n_steps})})
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else f"{n_threads} thread(s)"
    say(console, f"torch {torch.__version__}, {device}, {name}, {sys.platform}")
    if "checks" in parts:
        found = [(*check, check.holds) for check in checks(config, device)]
        print_table(console, pd.DataFrame(found, columns=["check", "difference", "allowed", "holds"]), ".0e")
    if "steps" in parts:
        print_table(console, pd.DataFrame(steps_table(config, sizes, precisions, device)), ".3g")
    if "seeds" in parts:
        tables = []
        for precision in precisions:
            tables.append(seeds_table(config, n_seeds, n_at_once, precision, device, console))
            print_table(console, ends(tables[-1]))
        if out is not None:
            write_table(out, pd.concat(tables), "%.4g")
            say(console, f"wrote {out}")


def steps_table(
    config: RunConfig, sizes: Sequence[int], precisions: Sequence[Precision], device: str
) -> Iterator[dict[str, object]]:
    """Rows of seconds a step, arithmetic and memory, for each number of networks at once and each precision; what does
    not fit has none."""
    operations = step_operations(config)
    for precision in precisions:
        torch.set_float32_matmul_precision(precision)
        peak = matrix_rate(device)
        for n in sizes:
            row: dict[str, object] = {"at once": n, "products": PRODUCTS[precision]}
            try:
                seconds, memory = step_seconds(config, n, device)
            except torch.OutOfMemoryError:
                seconds = memory = math.nan
            rate = n * operations / seconds
            row |= {"ms a step": seconds * 1e3, "µs a network": seconds / n * 1e6, "TFLOP/s": rate / 1e12}
            yield row | {"of peak": rate / peak, "GB": memory / 1e9}
    torch.set_float32_matmul_precision("highest")


def step_operations(config: RunConfig) -> float:
    """Multiplications and additions in the matrix products of one network's step, averaged over three."""
    state, stream = new_state(config, "cpu"), TrainingStream(config.data, 0)
    training = loop.train(state, stream, config.model, config.optim, config.train)
    next(training)
    return operations_of(lambda: list(itertools.islice(training, 3))) / 3


def step_seconds(config: RunConfig, n: int, device: str) -> tuple[float, float]:
    """Median seconds a step of `n` networks at once, and the most memory taken (bytes; NaN where it is not told)."""
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    longer = config.train.model_copy(update={"n_steps": 10**9})
    training = loop.train(
        new_members(config, range(n), device),
        TrainingStream(config.data, range(n), device),
        config.model,
        config.optim,
        longer,
    )
    times = []
    for n_steps in (N_WARM, *[N_TIMED] * N_BLOCKS):
        begun = time.perf_counter()
        for _ in itertools.islice(training, n_steps):
            pass
        wait(device)
        times.append((time.perf_counter() - begun) / n_steps)
    return statistics.median(times[1:]), float(torch.cuda.max_memory_allocated(device)) if on_gpu else math.nan


def seeds_table(
    config: RunConfig, n_seeds: int, n_at_once: int, precision: Precision, device: str, console: Console
) -> "pd.DataFrame":
    """Train seeds to their end and measure them: one row a seed."""
    import pandas as pd

    torch.set_float32_matmul_precision(precision)
    sets, found = eval_sets(config.data, config.n_test_strings, device), []
    begun, training = time.perf_counter(), 0.0
    for start in range(0, n_seeds, n_at_once):
        seeds = range(start, min(start + n_at_once, n_seeds))
        started = time.perf_counter()
        members = new_members(config, seeds, device)
        stream = TrainingStream(config.data, seeds, device)
        for _ in loop.train(members, stream, config.model, config.optim, config.train):
            pass
        wait(device)
        training += time.perf_counter() - started
        measured = summary(measure_each(members.params, config.model, config.data, sets))
        found.append(pd.DataFrame({"seed": seeds, "products": PRODUCTS[precision]} | measured))
    seconds = time.perf_counter() - begun
    torch.set_float32_matmul_precision("highest")
    what = f"{n_seeds} seeds of the default recipe, {config.train.n_steps} steps, {PRODUCTS[precision]}"
    say(console, f"{what}: {seconds:.0f} s, training {training:.0f}")
    return pd.concat(found, ignore_index=True)
