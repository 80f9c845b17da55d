"""Training speed: (a) a step against HookedTransformer's and plain PyTorch's; (b) time to an iteration head.

python experiments/bench_training.py                 both, about half an hour
python experiments/bench_training.py --parts steps   (a) alone, about a minute
"""

import math
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
import tyro
from rich.console import Console
from rich.table import Table
from torch import nn

from compo_mech.cli.errors import fail
from compo_mech.data.stream import Batch, TrainingStream
from compo_mech.evaluation import measure
from compo_mech.evaluation.sets import eval_sets
from compo_mech.model.config import ModelConfig
from compo_mech.model.forward import forward
from compo_mech.model.hooked import to_hooked
from compo_mech.model.params import Model, init_params
from compo_mech.runs import recipes
from compo_mech.runs.config import RunConfig
from compo_mech.training import loop

ACCURACY, ITERATION, CAP = 0.99, 0.9, 20


@dataclass
class Bench:
    """What to measure."""

    parts: tuple[Literal["steps", "recipes"], ...] = ("steps", "recipes")
    device: str = "cpu"
    n_threads: int = 1
    n_rounds: int = 100
    """rounds of part (a), each of one step of every contender"""
    n_seeds: int = 3
    """seeds of our recipe in part (b); the reference runs on the first"""


class PlainTransformer(nn.Module):
    """The same network as anyone would write it: padded rows, fused attention, every position."""

    def __init__(self, config: ModelConfig, d_vocab: int, n_ctx: int) -> None:
        super().__init__()
        d = config.d_model
        self.n_heads = config.n_heads
        self.tokens, self.positions = nn.Embedding(d_vocab, d), nn.Embedding(n_ctx, d)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "ln1": nn.LayerNorm(d, bias=False),
                    "qkv": nn.Linear(d, 3 * d, bias=False),
                    "out": nn.Linear(d, d, bias=False),
                    "ln2": nn.LayerNorm(d, bias=False),
                    "mlp": nn.Sequential(
                        nn.Linear(d, config.mlp_width, bias=False),
                        nn.GELU(),
                        nn.Linear(config.mlp_width, d, bias=False),
                    ),
                }
            )
            for _ in range(config.n_layers)
        )
        self.norm, self.unembed = nn.LayerNorm(d, bias=False), nn.Linear(d, d_vocab, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            assert isinstance(block, nn.ModuleDict)
            q, k, v = (
                part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
                for part in block["qkv"](block["ln1"](x)).chunk(3, -1)
            )
            z = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + block["out"](z.transpose(1, 2).flatten(2))
            x = x + block["mlp"](block["ln2"](x))
        return self.unembed(self.norm(x))


def padded_loss(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """The training loss from logits at every position of the padded batch."""
    return loop.row_loss(logits[batch.packing.scored_row, batch.packing.scored_position], batch)


def bench_steps(bench: Bench, console: Console) -> None:
    """Forward, loss, backward and the same AdamW update, on the batches of the default recipe."""
    config = recipes.parity()
    generator = torch.Generator(bench.device).manual_seed(0)
    stream = TrainingStream(config.data, 0, bench.device)
    d_vocab, n_ctx = len(config.data.vocabulary), config.n_ctx
    params = init_params(config.model, d_vocab, n_ctx, generator)
    model, hooked = Model(params, config.model), to_hooked(params, config.model)
    plain = PlainTransformer(config.model, d_vocab, n_ctx).to(bench.device)
    leaves = [param.requires_grad_() for param in params.values()]
    contenders = {
        "compo_mech": (leaves, lambda b: loop.row_loss(forward(model, b.tokens, b.packing), b)),
        "plain PyTorch": (
            list(plain.parameters()),
            lambda b: padded_loss(plain(b.tokens[:, : b.packing.n_pos]), b),
        ),
        "HookedTransformer": (
            list(hooked.parameters()),
            lambda b: padded_loss(hooked(b.tokens[:, : b.packing.n_pos]), b),
        ),
    }
    optimizers = {name: torch.optim.AdamW(weights, lr=1e-3) for name, (weights, _) in contenders.items()}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for i in range(bench.n_rounds + 10):
        batch = stream.batch(i + 1, generator)
        for name, (_, loss_of) in contenders.items():
            wait(bench.device)
            start = time.perf_counter()
            optimizers[name].zero_grad()
            loss_of(batch).backward()
            optimizers[name].step()
            wait(bench.device)
            if i >= 10:  # the first rounds warm up
                times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(found) for name, found in times.items()}
    table = Table(title="(a) One training step, median", title_justify="left")
    for column in ("", "ms", "sequences/s", "compo_mech is"):
        table.add_column(column, justify="right")
    for name, seconds in medians.items():
        factor = f"{seconds / medians['compo_mech']:.2f}× as fast"
        table.add_row(name, f"{seconds * 1e3:.2f}", f"{config.data.batch_size / seconds:.0f}", factor)
    console.print(table)


def wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


@dataclass
class Reached:
    """Seconds of training until a level was first measured, and the step; None: not within the cap."""

    accuracy: float | None = None
    accuracy_step: int | None = None
    iteration: float | None = None
    spent: float = 0.0
    steps: int = 0


def time_recipe(config: RunConfig, bench: Bench, n_checks: int, cap: float) -> Reached:
    """Train until accuracy and iteration score are reached, or the cap; measuring is not counted."""
    generator = torch.Generator(bench.device).manual_seed(config.seed)
    params = init_params(config.model, len(config.data.vocabulary), config.n_ctx, generator)
    state = loop.start(params, config.model, config.optim, generator)
    stream = TrainingStream(config.data, config.seed, bench.device)
    sets = eval_sets(config.data, config.n_test_strings, bench.device)
    found, check_every = Reached(), max(1, config.train.n_steps // n_checks)
    start = time.perf_counter()
    for step, _ in loop.train(state, stream, config.model, config.optim, config.train):
        spent = found.spent + time.perf_counter() - start
        if step % check_every and spent < cap and step < config.train.n_steps:
            continue
        wait(bench.device)
        found.spent += time.perf_counter() - start
        found.steps = step
        rows = measure.measure(Model(params, config.model), config.data, sets)
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


def bench_recipes(bench: Bench, console: Console) -> None:
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
    for seed in range(bench.n_seeds):
        config = recipes.parity().model_copy(update={"seed": seed})
        ours.append(time_recipe(config, bench, n_checks=48, cap=math.inf))
        add("ours", seed, ours[-1])
    to_accuracy = statistics.median(math.inf if r.accuracy is None else r.accuracy for r in ours)
    cap = CAP * to_accuracy
    reference = time_recipe(recipes.reference(recipes.parity().data.max_length), bench, n_checks=1000, cap=cap)
    add("reference", 0, reference)
    console.print(table)
    if reference.accuracy is None:
        console.print(f"The reference had not reached accuracy {ACCURACY} after {CAP}× our median: ≥ {CAP}×.")
    else:
        console.print(f"Ours is {reference.accuracy / to_accuracy:.1f}× as fast to accuracy {ACCURACY}.")


def main() -> None:
    bench = tyro.cli(Bench, description=__doc__)
    if bench.device.startswith("cuda") and not torch.cuda.is_available():
        fail(f"device = {bench.device!r}: must be cpu on this machine")
    torch.set_num_threads(bench.n_threads)
    console = Console()
    console.print(f"torch {torch.__version__}, {bench.device}, {bench.n_threads} thread(s), {sys.platform}")
    if "steps" in bench.parts:
        bench_steps(bench, console)
    if "recipes" in bench.parts:
        bench_recipes(bench, console)


if __name__ == "__main__":
    main()
