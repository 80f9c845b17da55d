"""Speed of one training step: ours, the same network in plain PyTorch, and HookedTransformer's."""

import functools
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from compo_mech.data.stream import Batch, TrainingStream
from compo_mech.model.config import ModelConfig
from compo_mech.model.forward import forward
from compo_mech.model.hooked import to_hooked
from compo_mech.model.params import Model, init_params
from compo_mech.products import fast_products
from compo_mech.reference.libraries import Way, ways_of_others
from compo_mech.runs import recipes
from compo_mech.training import loop

N_WARM = 10
"""Rounds before those that are timed, in which operations are counted."""
Contender = tuple[list[torch.nn.Parameter] | list[torch.Tensor], Callable[[Batch], torch.Tensor], Way]
"""Weights, the loss on a batch, and in what it is timed."""


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


def bench_steps(device: str, n_rounds: int, console: Console) -> None:
    """Forward, loss, backward and the same AdamW update, on the batches of the default recipe."""
    config = recipes.parity()
    generator = torch.Generator(device).manual_seed(0)
    stream = TrainingStream(config.data, 0, device)
    d_vocab, n_ctx = len(config.data.vocabulary), config.n_ctx
    params = init_params(config.model, d_vocab, n_ctx, generator)
    model = Model(params, config.model)
    hooked = to_hooked(model)
    plain = PlainTransformer(config.model, d_vocab, n_ctx).to(device)
    leaves = [param.requires_grad_() for param in params.values()]
    others = {
        "plain PyTorch": (
            list(plain.parameters()),
            lambda b: padded_loss(plain(b.tokens[:, : b.packing.n_pos]), b),
        ),
        "HookedTransformer": (
            list(hooked.parameters()),
            lambda b: padded_loss(hooked(b.tokens[:, : b.packing.n_pos]), b),
        ),
    }
    contenders: dict[str, Contender] = {
        "compo_mech": (leaves, lambda b: loop.row_loss(forward(model, b.tokens, b.packing), b), fast_products)
    }
    for name, other in others.items():
        contenders |= {f"{name}{said}": (*other, way) for said, way in ways_of_others(device).items()}
    fused = device == "cpu"  # as `make_optimizers` has it
    optimizers = {name: torch.optim.AdamW(weights, lr=1e-3, fused=fused) for name, (weights, *_) in contenders.items()}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    operations = dict.fromkeys(contenders, 0.0)
    for i in range(n_rounds + N_WARM):
        batch = stream.batch(i + 1, generator)
        for name, (_, loss_of, way) in contenders.items():
            if i < N_WARM:
                operations[name] += operations_of(functools.partial(_backward, loss_of, batch)) / N_WARM
            with way():
                wait(device)
                start = time.perf_counter()
                optimizers[name].zero_grad()
                _backward(loss_of, batch)
                optimizers[name].step()
                wait(device)
                if i >= N_WARM:
                    times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(found) for name, found in times.items()}
    table = Table(title="(a) One training step, median", title_justify="left")
    for column in ("", "ms", "strings/s", "MFLOP", "of peak", "faster by"):
        table.add_column(column, justify="right")
    with fast_products():
        peak = matrix_rate(device)
    for name, seconds in medians.items():
        factor = f"{seconds / medians['compo_mech']:.2f}×"
        rate, work = f"{config.data.batch_size / seconds:.0f}", operations[name]
        share = f"{work / seconds / peak:.0%}"
        table.add_row(name, f"{seconds * 1e3:.2f}", rate, f"{work / 1e6:.0f}", share, factor)
    console.print(table)
    told = f"of peak: of the {peak / 1e9:.0f} GFLOP/s that one large product reaches; faster by: compo_mech"
    console.print(f"MFLOP: in matrix products; {told}", highlight=False, soft_wrap=True)


def _backward(loss_of: Callable[[Batch], torch.Tensor], batch: Batch) -> None:
    loss_of(batch).backward()


def operations_of(work: Callable[[], object]) -> float:
    """Multiplications and additions in the matrix products of some work, which is done once.

    >>> one, other = torch.ones(2, 3), torch.ones(3, 5)
    >>> operations_of(lambda: one @ other)
    60.0
    """
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # on a CPU no fused one is counted
        work()
    return float(counter.get_total_flops())


def matrix_rate(device: str) -> float:
    """Operations a second of one large matrix product, on random numbers: what the device reaches at most."""
    n = 8192 if device.startswith("cuda") else 1024
    one, other = (torch.randn(n, n, device=device) for _ in range(2))
    times = []
    for _ in range(7):
        wait(device)
        begun = time.perf_counter()
        torch.mm(one, other)
        wait(device)
        times.append(time.perf_counter() - begun)
    return 2 * n**3 / statistics.median(times[2:])


def wait(device: str) -> None:
    """Until the device has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
