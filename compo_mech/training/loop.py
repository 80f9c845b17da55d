"""The training loop, a generator of (step, loss), of one network or of many. No disk, no printing, no waiting."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from compo_mech.data.mixed_stream import MixedStream
from compo_mech.data.packing import Packing
from compo_mech.data.stream import Batch, TrainingStream
from compo_mech.model.config import ModelConfig
from compo_mech.model.forward import forward
from compo_mech.model.params import Model, Params, gradient_masks
from compo_mech.products import fast_products
from compo_mech.settings import Settings
from compo_mech.training.captured import CapturedSteps, Drawn, Noise
from compo_mech.training.optim import (
    OptimConfig,
    load_optimizer_tensors,
    make_optimizers,
    optimizer_tensors,
    step_each,
)
from compo_mech.training.schedule import learning_rate, learning_rates


class TrainConfig(Settings):
    """How long, with which noise, and when snapshots are taken."""

    n_steps: int = Field(default=2400, gt=0, le=10**12, description="steps of training")
    embed_dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout at the embedding")
    label_noise: float = Field(
        default=0.0, ge=0, lt=1, description="share of the scored tokens whose label is drawn at random from all values"
    )
    max_position_shift: int = Field(
        default=0, ge=0, le=10**12, description="each training row's position ids start at a random 0 .. n"
    )
    snapshot_every: int = Field(
        default=200, gt=0, le=10**12, description="steps between snapshots after those at 0, 1, 2, 4, 8 ..."
    )


@dataclass
class TrainState:
    """All that a step changes.

    Attributes:
        step: steps done.
        params: leaves that are updated in place.
        optimizers: with their state.
        generator: the source of strings, tasks, position shifts and dropout.
    """

    step: int
    params: Params
    optimizers: list[torch.optim.Optimizer]
    generator: torch.Generator

    @property
    def source(self) -> torch.Generator:
        return self.generator

    def tensors(self) -> dict[str, Tensor]:
        """Everything but the parameters, as tensors by name."""
        return {"generator": self.generator.get_state()} | optimizer_tensors(self.params, self.optimizers)

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`, on optimisers of the same configuration."""
        self.generator.set_state(tensors["generator"])
        load_optimizer_tensors(self.params, self.optimizers, tensors)


def start(params: Params, config: ModelConfig, optim: OptimConfig, generator: torch.Generator) -> TrainState:
    """The state before the first step."""
    return TrainState(0, params, make_optimizers(optim, config, params), generator)


@runtime_checkable
class Trainable(Protocol):
    """What steps update: the state of one network, or that of many with stacked parameters."""

    step: int
    params: Params
    optimizers: list[torch.optim.Optimizer]

    @property
    def source(self) -> torch.Generator | Sequence[torch.Generator]:
        """What batches and noise are drawn from: one generator, or one a member."""
        ...


Source = torch.Generator | Sequence[torch.Generator]
"""One generator, or one a member."""
Optim = OptimConfig | Sequence[OptimConfig]
"""What all have, or one a member, which may differ in learning rate, its course, and weight decay."""
Schedule = TrainConfig | Sequence[TrainConfig]
"""What all have, or one a member, which may differ in label noise."""


def train(
    state: Trainable, stream: TrainingStream | MixedStream, config: ModelConfig, optim: Optim, schedule: Schedule
) -> Iterator[tuple[int, Float[Tensor, "*member"]]]:
    """Steps from `state.step` to the end, updating `state`; yields the step and its loss, or every member's (nats).

    The loss stays a tensor on its device: reading it is what makes the loop wait. A member whose
    numbers are not finite does not touch the others'.
    """
    shared, each = (optim, None) if isinstance(optim, OptimConfig) else (optim[0], optim)
    n_steps = (schedule if isinstance(schedule, TrainConfig) else schedule[0]).n_steps
    device = stream.device
    decay = None if each is None else torch.tensor([one.weight_decay for one in each], device=device)

    def update(drawn: Drawn, lr: float | Tensor) -> Float[Tensor, "*member"]:
        if device.type != "cpu":
            return train_step(state, drawn, config, shared, lr, decay)
        with fast_products(config.largest_product(_n_rows(drawn))):
            return train_step(state, drawn, config, shared, lr, decay)

    captured = CapturedSteps(update, device) if device.type == "cuda" and shared.optimizer != "sgd" else None
    for step in range(state.step + 1, n_steps + 1):
        lr = learning_rate(shared, step, n_steps) if each is None else learning_rates(each, step, n_steps)
        draw = functools.partial(_drawn, step, state.source, stream, config, schedule)
        loss = update(draw(), lr) if captured is None else captured(draw, lr)
        state.step = step
        yield step, loss


def _n_rows(drawn: Drawn) -> int:
    """Tokens that are read at once, by all members of a batch."""
    return max(len(batch.packing.row) * batch.tokens.shape[:-2].numel() for batch, _ in drawn)


def _drawn(
    step: int, source: Source, stream: TrainingStream | MixedStream, config: ModelConfig, schedule: Schedule
) -> Drawn:
    """The batches of a step, each with its noise."""
    shared, each = (schedule, None) if isinstance(schedule, TrainConfig) else (schedule[0], schedule)
    parts, start = [], 0
    for batch in stream.batches(step, source):
        some = slice(start, start + len(batch.tokens))
        start = some.stop
        own = source if isinstance(source, torch.Generator) else source[some]
        noise = draw_noise(batch.packing, config.d_model, shared, own)
        share = shared.label_noise if each is None else [one.label_noise for one in each[some]]
        if any(share) if isinstance(share, Sequence) else share:
            noise["label"] = draw_labels(batch.packing, stream.config.vocabulary.n_values, share, own)
        parts.append((batch, noise))
    return parts


def train_step(
    state: Trainable,
    drawn: Drawn,
    config: ModelConfig,
    optim: OptimConfig,
    lr: float | Tensor,
    weight_decay: Float[Tensor, "member"] | None = None,
) -> Float[Tensor, "*member"]:
    """One update of the parameters: loss, gradients, masks, clipping, optimisers. Returns the loss before it.

    Args:
        state: to be updated.
        drawn: the step's batches, which hold all members in their order, each with its noise.
        config: of the networks.
        optim: says to what gradients are clipped.
        lr: learning rate, or with a weight decay a member one a member.
        weight_decay: of each member; None: that of the optimisers.
    """
    free = [param for param in state.params.values() if param.requires_grad]
    loss = _loss_of(state.params, config, drawn)
    for param in free:
        param.grad = None
    loss.sum().backward()  # a member's parameters see its own loss alone
    for name, mask in gradient_masks(config, state.params).items():
        grad = state.params[name].grad
        if grad is not None:
            grad.mul_(mask)
    if optim.max_grad_norm is not None:
        clip = torch.nn.utils.clip_grad_norm_ if loss.ndim == 0 else clip_each
        clip(free, optim.max_grad_norm)
    if weight_decay is not None:
        step_each(state.params, state.optimizers, torch.as_tensor(lr), weight_decay)
        return loss.detach()
    for optimizer in state.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
    return loss.detach()


def _loss_of(params: Params, config: ModelConfig, drawn: Drawn) -> Float[Tensor, "*member"]:
    """The training loss on batches that hold all members in their order."""
    if len(drawn) == 1:
        return batch_loss(params, config, *drawn[0])
    sizes = [len(batch.tokens) for batch, _ in drawn]
    split = {name: param.split(sizes) for name, param in params.items()}
    own = ({name: parts[i] for name, parts in split.items()} for i in range(len(drawn)))
    return torch.cat([batch_loss(some, config, *part) for some, part in zip(own, drawn, strict=True)])


def batch_loss(params: Params, config: ModelConfig, batch: Batch, noise: Noise) -> Float[Tensor, "*member"]:
    """The training loss; of stacked parameters and a stacked batch, every member's."""

    def of_one(params: Params, tokens: Tensor, task: Tensor, weight: Tensor, noise: Noise) -> Tensor:
        shift, mask = noise.get("position_shift"), noise.get("embed_mask")
        logits = forward(Model(params, config), tokens, batch.packing, position_shift=shift, embed_mask=mask)
        return row_loss(logits, Batch(tokens, task, weight, batch.packing), noise.get("label"))

    loss_of = of_one if batch.tokens.ndim == 2 else torch.func.vmap(of_one)
    return loss_of(params, batch.tokens, batch.task, batch.weight, noise)


def row_loss(
    logits: Float[Tensor, "scored d_vocab"], batch: Batch, label: Int[Tensor, "scored"] | None = None
) -> Float[Tensor, ""]:
    """Mean next-token cross-entropy (nats) over the scored rows, each weighted by its string.

    `label` is that of a step's `Noise`.
    """
    weight = batch.weight[batch.packing.scored_row]
    targets = batch.targets if label is None else torch.where(label < 0, batch.targets, label)
    losses = F.cross_entropy(logits, targets, reduction="none")
    return (losses * weight).sum() / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)


def clip_each(params: Sequence[Float[Tensor, "member ..."]], max_norm: float) -> None:
    """Scales down each member's gradients by themselves, as torch.nn.utils.clip_grad_norm_ does one network's."""
    grads = [param.grad for param in params if param.grad is not None]
    norms = torch.stack([grad.flatten(1).norm(dim=1) for grad in grads]).norm(dim=0)
    factor = (max_norm / (norms + 1e-6)).clamp(max=1)
    for grad in grads:
        grad.mul_(factor.view(-1, *[1] * (grad.ndim - 1)))


def draw_each(source: Source, sample: Callable[[torch.Generator], Tensor]) -> Tensor:
    """What is sampled from a generator; of several, stacked."""
    return sample(source) if isinstance(source, torch.Generator) else torch.stack([sample(g) for g in source])


def draw_labels(
    packing: Packing, n_values: int, share: float | Sequence[float], source: Source
) -> Int[Tensor, "*member scored"]:
    """Random labels for a share of the scored tokens, the same for all or one a member, -1 for the others."""
    device, size = packing.row.device, (len(packing.scored_row),)
    if isinstance(share, Sequence):
        assert not isinstance(source, torch.Generator)
        nothing, of_each = torch.full(size, -1, device=device), zip(share, source, strict=True)
        # who has no noise draws nothing, as alone
        return torch.stack([draw_labels(packing, n_values, own, g) if own else nothing for own, g in of_each])
    drawn = draw_each(source, lambda g: torch.rand(size, generator=g, device=device)) < share
    label = draw_each(source, lambda g: torch.randint(0, n_values, size, generator=g, device=device))
    return torch.where(drawn, label, -1)


def draw_noise(packing: Packing, d_model: int, schedule: TrainConfig, source: Source) -> Noise:
    """The random arguments of the forward pass at one step; of several generators, stacked."""
    device, noise = packing.row.device, dict[str, Tensor]()

    if schedule.max_position_shift:
        bound, rows = schedule.max_position_shift + 1, (packing.batch_size,)
        noise["position_shift"] = draw_each(source, lambda g: torch.randint(0, bound, rows, generator=g, device=device))
    if schedule.embed_dropout:
        size = (len(packing.row), d_model)
        kept = draw_each(source, lambda g: torch.rand(size, generator=g, device=device)) >= schedule.embed_dropout
        noise["embed_mask"] = kept / (1 - schedule.embed_dropout)
    return noise
