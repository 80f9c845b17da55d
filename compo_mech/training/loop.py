"""The training loop, a generator of (step, loss). No disk, no printing, no waiting for the device."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from compo_mech.data.packing import Packing
from compo_mech.data.stream import Batch, TrainingStream
from compo_mech.model.config import ModelConfig
from compo_mech.model.forward import forward
from compo_mech.model.params import Model, Params, gradient_masks
from compo_mech.settings import Settings
from compo_mech.training.optim import OptimConfig, make_optimizers


class TrainConfig(Settings):
    """How long, with which noise, and when snapshots are taken."""

    n_steps: int = Field(default=2400, gt=0, description="steps of training")
    embed_dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout at the embedding")
    max_position_shift: int = Field(
        default=0, ge=0, description="each training row's position ids start at a random 0 .. n"
    )
    snapshot_every: int = Field(
        default=200, gt=0, description="steps between snapshots after those at 0, 1, 2, 4, 8 ..."
    )

    def is_snapshot(self, step: int) -> bool:
        """Snapshots at 0, 1, 2, 4, ... below `snapshot_every`, then evenly, and at the end."""
        if step < self.snapshot_every:
            return step & (step - 1) == 0 or step == self.n_steps
        return step % self.snapshot_every == 0 or step == self.n_steps


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

    def tensors(self) -> dict[str, Tensor]:
        """Everything but the parameters, as tensors by name."""
        return {"generator": self.generator.get_state()} | optimizer_tensors(self.params, self.optimizers)

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`, on optimisers of the same configuration."""
        self.generator.set_state(tensors["generator"])
        load_optimizer_tensors(self.params, self.optimizers, tensors)


def optimizer_tensors(params: Params, optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """What optimisers remember of their parameters, as `optimizer.<which>.<parameter>.<key>`."""
    names = {id(param): name for name, param in params.items()}
    return {
        f"optimizer.{i}.{names[id(param)]}.{key}": value
        for i, optimizer in enumerate(optimizers)
        for param, state in optimizer.state.items()
        for key, value in state.items()
    }


def load_optimizer_tensors(params: Params, optimizers: list[torch.optim.Optimizer], tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`, on optimisers of the same configuration; tensors are copied."""
    names = {id(param): name for name, param in params.items()}
    for i, optimizer in enumerate(optimizers):
        for group in optimizer.param_groups:
            for param in group["params"]:
                prefix = f"optimizer.{i}.{names[id(param)]}."
                for name, tensor in tensors.items():
                    if name.startswith(prefix):
                        # Adam keeps its step count on the CPU
                        device = tensor.device if tensor.ndim == 0 else param.device
                        optimizer.state[param][name.removeprefix(prefix)] = tensor.clone().to(device)


def start(params: Params, config: ModelConfig, optim: OptimConfig, generator: torch.Generator) -> TrainState:
    """The state before the first step."""
    return TrainState(0, params, make_optimizers(optim, config, params), generator)


def row_loss(logits: Float[Tensor, "scored d_vocab"], batch: Batch) -> Float[Tensor, ""]:
    """Mean next-token cross-entropy (nats) over the scored rows, each weighted by its string."""
    weight = batch.weight[batch.packing.scored_row]
    losses = F.cross_entropy(logits, batch.targets, reduction="none")
    return (losses * weight).sum() / weight.sum().clamp(min=torch.finfo(weight.dtype).tiny)


def train(
    state: TrainState, stream: TrainingStream, config: ModelConfig, optim: OptimConfig, schedule: TrainConfig
) -> Iterator[tuple[int, Float[Tensor, ""]]]:
    """Steps from `state.step` to the end, updating `state`; yields the step and its loss.

    The loss stays a tensor on its device: reading it is what makes the loop wait.
    """
    model, masks = Model(state.params, config), gradient_masks(config, state.params)
    free = [param for param in state.params.values() if param.requires_grad]
    for step in range(state.step + 1, schedule.n_steps + 1):
        batch = stream.batch(step, state.generator)
        noise = draw_noise(batch.packing, config.d_model, schedule, state.generator)
        logits = forward(model, batch.tokens, batch.packing, **noise)
        loss = row_loss(logits, batch)
        for param in free:
            param.grad = None
        loss.backward()
        for name, mask in masks.items():
            grad = state.params[name].grad
            if grad is not None:
                grad.mul_(mask)
        if optim.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(free, optim.max_grad_norm)
        update(state.optimizers, optim.lr * optim.lr_factor(step, schedule.n_steps))
        state.step = step
        yield step, loss.detach()


def update(optimizers: list[torch.optim.Optimizer], lr: float) -> None:
    """One step of every optimiser at this learning rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()


def draw_noise(packing: Packing, d_model: int, config: TrainConfig, generator: torch.Generator) -> dict[str, Any]:
    """The random arguments of the forward pass at one step, under their names there."""
    noise: dict[str, Any] = {}
    device = packing.row.device
    if config.max_position_shift:
        bound = config.max_position_shift + 1
        size = (packing.batch_size,)
        noise["position_shift"] = torch.randint(0, bound, size, generator=generator, device=device)
    if config.embed_dropout:
        size = (len(packing.row), d_model)
        kept = torch.rand(size, generator=generator, device=device) >= config.embed_dropout
        noise["embed_mask"] = kept / (1 - config.embed_dropout)
    return noise
