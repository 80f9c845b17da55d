"""Optimisers: torch's own, and Muon for stacks of matrices.

Muon runs on the blocks' matrices, AdamW on embeddings, unembedding, gains and biases.
"""

import functools
import inspect
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from compo_mech.model.config import ModelConfig, is_frozen
from compo_mech.model.params import Params
from compo_mech.settings import Settings


class OptimConfig(Settings):
    """How parameters are updated."""

    optimizer: Literal["muon", "adamw", "adam", "sgd"] = Field(
        default="muon", description="muon: Muon on the blocks' matrices and AdamW on the rest"
    )
    lr: float = Field(default=3e-3, gt=0, le=1e18, description="learning rate after warm-up")
    momentum: float = Field(default=0.95, ge=0, lt=1, description="momentum of Muon and SGD")
    betas: tuple[float, float] = Field(default=(0.9, 0.999), description="decay rates of Adam's two averages")
    weight_decay: float = Field(default=0.0, ge=0, le=1e18, description="decoupled weight decay, on matrices only")
    n_warmup_steps: int = Field(
        default=50, ge=0, le=10**12, description="steps over which the learning rate rises from 0"
    )
    decay_share: float = Field(default=0.4, ge=0, le=1, description="last fraction of training, in which it falls to 0")
    max_grad_norm: float | None = Field(
        default=None, gt=0, le=1e18, description="clip gradients to this norm; None: do not"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "OptimConfig":
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas = {self.betas}: both must be in [0, 1)")
        if self.optimizer in ("adam", "sgd") and self.weight_decay:
            raise ValueError(f"weight_decay = {self.weight_decay}: goes with muon and adamw (decoupled) only")
        return self


N_STEPS, COEFFICIENTS = 5, (3.4445, -4.7750, 2.0315)
"""Newton-Schulz steps, and their polynomial of odd powers, as in torch.optim.Muon."""


class Muon(torch.optim.Optimizer):
    """torch.optim.Muon's update for tensors whose last two axes are a matrix.

    Leading axes (heads, ensemble members) are a stack of matrices, each orthogonalised by itself;
    matrices of one shape go through one batched product. The Newton-Schulz iteration has torch's
    coefficients and steps but runs in float32, which is faster on a CPU than torch's bfloat16 and
    differs from it by bfloat16's rounding. The learning rate is scaled by 0.2 sqrt(max(rows,
    columns)), torch's `match_rms_adamw`, and weight decay is decoupled.

    Sources: Jordan et al. 2024 (the iteration); Liu et al. 2025, arXiv 2502.16982 (the scaling).
    """

    def __init__(self, params: list[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # as in torch.optim.Optimizer, whose overloads are untyped
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            params = [param for param in group["params"] if param.grad is not None]
            nesterov = []
            for param in params:
                if not self.state[param]:
                    self.state[param]["momentum_buffer"] = torch.zeros_like(param)
                buffer = self.state[param]["momentum_buffer"].lerp_(param.grad, 1 - momentum)
                nesterov.append(param.grad.lerp(buffer, momentum))
            for param, update in zip(params, orthogonalized(nesterov), strict=True):
                scale = 0.2 * math.sqrt(max(param.shape[-2:]))
                if group["weight_decay"]:
                    param.mul_(1 - lr * group["weight_decay"])
                if isinstance(lr, Tensor):  # on a GPU, where nothing waits to read it
                    param.sub_(update * (lr * scale))
                else:
                    param.add_(update, alpha=-lr * scale)


def orthogonalized(matrices: Sequence[Float[Tensor, "..."]]) -> list[Float[Tensor, "..."]]:
    """Each matrix with its singular values pushed towards 1, by five Newton-Schulz steps.

    A step multiplies from the left by a polynomial of the Gram matrix, and the next Gram matrix is the old one times
    that polynomial twice. Only Gram matrices are therefore iterated, all of one size at once whatever the other side of
    their matrices, and the product of the polynomials is applied in the end.

    Args:
        matrices: in the last two axes of each; axes before those are stacks.

    Example:
        >>> import torch
        >>> from compo_mech.training import orthogonalized
        >>> (found,) = orthogonalized([torch.tensor([[3.0, 0.0], [0.0, 0.5]])])
        >>> bool(((found.diagonal() - 1).abs() < 0.4).all())
        True
    """
    by_shape: dict[torch.Size, list[int]] = {}
    for i, matrix in enumerate(matrices):
        by_shape.setdefault(matrix.shape, []).append(i)
    by_size: dict[int, list[torch.Size]] = {}
    wide: dict[torch.Size, Tensor] = {}
    for shape, places in by_shape.items():
        by_size.setdefault(min(shape[-2:]), []).append(shape)
        stacked = torch.stack([matrices[i] for i in places]).reshape(-1, *shape[-2:])
        wide[shape] = stacked.mT if shape[-2] > shape[-1] else stacked
    found = list(matrices)
    for shapes in by_size.values():
        products = _product_of_steps(torch.cat([torch.bmm(wide[shape], wide[shape].mT) for shape in shapes]))
        for shape, product in zip(shapes, products.split([len(wide[shape]) for shape in shapes]), strict=True):
            evened = torch.bmm(product, wide[shape])
            evened = evened.mT if shape[-2] > shape[-1] else evened
            for place, matrix in zip(by_shape[shape], evened.view(-1, *shape), strict=True):
                found[place] = matrix
    return found


def _product_of_steps(gram: Float[Tensor, "stack rows rows"]) -> Float[Tensor, "stack rows rows"]:
    """What five Newton-Schulz steps multiply matrices by, which begin with dividing them by their norm.

    Args:
        gram: of the matrices themselves; with x of norm 1 and c the last coefficient, sqrt(c) x x^T is iterated, so
            that c need not be multiplied by in each step.
    """
    first, second, third = COEFFICIENTS
    second = second / math.sqrt(third)
    norm = gram.diagonal(dim1=-2, dim2=-1).sum(-1).sqrt().clamp(min=1e-7)[:, None, None]
    gram = gram * (math.sqrt(third) / norm.square())

    def polynomial(gram: Tensor) -> Tensor:
        step = torch.bmm(gram, gram).add_(gram, alpha=second)
        step.diagonal(dim1=-2, dim2=-1).add_(first)
        return step

    product = step = polynomial(gram)
    for _ in range(N_STEPS - 1):
        gram = torch.bmm(step, torch.bmm(step, gram))
        step = polynomial(gram)
        product = torch.bmm(step, product)
    return product / norm


def is_matrix(name: str) -> bool:
    """Whether weight decay applies: embeddings and weight matrices, not gains and biases."""
    return name.split(".")[-1].startswith("W_")


def make_optimizers(optim: OptimConfig, config: ModelConfig, params: Params) -> list[torch.optim.Optimizer]:
    """Optimisers of all parameters that are not frozen, which are made leaves that need gradients."""
    free = {name: param.requires_grad_() for name, param in params.items() if not is_frozen(config, name)}
    on_muon = {n: p for n, p in free.items() if n.startswith("blocks.") and is_matrix(n)}
    if optim.optimizer != "muon":
        on_muon = {}
    rest = {n: p for n, p in free.items() if n not in on_muon}
    groups: list[dict[str, Any]] = [
        {"params": [p for n, p in rest.items() if is_matrix(n)], "weight_decay": optim.weight_decay},
        {"params": [p for n, p in rest.items() if not is_matrix(n)], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    capturable = any(param.is_cuda for param in free.values())
    adam: dict[str, Any] = {"lr": optim.lr, "betas": optim.betas, "capturable": capturable}
    adam["fused"] = all(param.device.type == "cpu" for param in free.values())  # a sixth of the time there
    optimizers: list[torch.optim.Optimizer] = []
    if on_muon:
        muon = _uncompiled(Muon)
        optimizers.append(muon(list(on_muon.values()), optim.lr, optim.momentum, optim.weight_decay))
    if groups and optim.optimizer == "sgd":
        optimizers.append(_uncompiled(torch.optim.SGD)(groups, lr=optim.lr, momentum=optim.momentum))
    elif groups and optim.optimizer == "adam":
        optimizers.append(_uncompiled(torch.optim.Adam)(groups, **adam))
    elif groups:
        optimizers.append(_uncompiled(torch.optim.AdamW)(groups, **adam))
    return optimizers


@functools.cache
def _uncompiled(kind: Any) -> Any:
    """The same kind of optimiser without the wrappers that tell torch's compiler to leave it alone: they import that
    compiler, which takes a second and is not used."""
    bare = {name: inspect.unwrap(getattr(kind, name)) for name in ("add_param_group", "step")}
    return type(kind.__name__, (kind,), bare | {"step": torch.no_grad()(bare["step"])})


@torch.no_grad()
def step_each(
    params: Params,
    optimizers: list[torch.optim.Optimizer],
    lr: Float[Tensor, "member"],
    weight_decay: Float[Tensor, "member"],
) -> None:
    """Take a step of stacked parameters, each member with a learning rate and a decoupled weight decay of its own.

    Every update is its learning rate times what does not depend on it, so optimisers step from 0 with a rate of 1, and
    what they leave there is scaled and added.

    Args:
        params: stacked, with gradients.
        optimizers: of them.
        lr: on any device.
        weight_decay: on the parameters' device.
    """
    lr = lr.to(weight_decay.device)
    before = {name: param.clone() for name, param in params.items() if param.grad is not None}
    for name in before:
        params[name].zero_()
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group |= {"lr": 1.0, "weight_decay": 0.0}
        optimizer.step()
    for name, old in before.items():
        rate, decay = (of_each.view(-1, *[1] * (old.ndim - 1)) for of_each in (lr, weight_decay))
        params[name].mul_(rate).add_(old * (1 - rate * decay) if is_matrix(name) else old)


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
                        # Adam keeps its step count on the CPU, but for parameters on a GPU
                        device = tensor.device if tensor.ndim == 0 and not param.is_cuda else param.device
                        optimizer.state[param][name.removeprefix(prefix)] = tensor.clone().to(device)
