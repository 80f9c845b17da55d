"""Many networks that differ in their seed alone, trained at once as stacked parameters [member, ...].

Each member has a generator of its own and draws from it what it would draw alone, so that it follows
the same network trained by `train.train` up to rounding. No disk, no printing, no waiting for the
device.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.packing import Packing
from compo_mech.data.splits import is_test_string
from compo_mech.data.stream import N_CANDIDATES, Batch, TrainingStream
from compo_mech.data.tasks import run_tables
from compo_mech.model.config import ModelConfig
from compo_mech.model.forward import forward
from compo_mech.model.params import Model, Params, gradient_masks
from compo_mech.training import loop
from compo_mech.training.loop import TrainConfig, TrainState
from compo_mech.training.optim import OptimConfig, make_optimizers


@dataclass
class Ensemble:
    """All that a step of all members changes.

    Attributes:
        step: steps done, the same for all.
        params: stacked leaves [member, ...] that are updated in place.
        optimizers: of the stacked parameters; what they remember is stacked as well.
        generators: one a member.
        config, optim: what every member has.
    """

    step: int
    params: Params
    optimizers: list[torch.optim.Optimizer]
    generators: list[torch.Generator]
    config: ModelConfig
    optim: OptimConfig

    def __len__(self) -> int:
        return len(self.generators)

    def member(self, i: int) -> TrainState:
        """One member as a state of its own, which shares nothing with the ensemble."""
        params = {name: param.detach()[i].clone() for name, param in self.params.items()}
        state = loop.start(params, self.config, self.optim, _copied(self.generators[i]))
        remembered = loop.optimizer_tensors(self.params, self.optimizers)
        # Adam's step count is one number for all
        own = {name: tensor[i] if tensor.ndim else tensor for name, tensor in remembered.items()}
        loop.load_optimizer_tensors(state.params, state.optimizers, own)
        state.step = self.step
        return state

    def finite(self) -> Bool[Tensor, "member"]:
        """Whether every parameter of a member is finite."""
        return torch.stack([param.detach().isfinite().flatten(1).all(1) for param in self.params.values()]).all(0)


def gather(states: Sequence[TrainState], config: ModelConfig, optim: OptimConfig) -> Ensemble:
    """The states as members of an ensemble, which shares nothing with them; `Ensemble.member` takes them out again.

    Args:
        states: at the same step, of networks of the same shapes.
        config, optim: what they were started with.

    Raises:
        ValueError: there is none, or they are at different steps.
    """
    steps = sorted({state.step for state in states})
    if len(steps) != 1:
        raise ValueError(f"step = {' '.join(map(str, steps))}: members of an ensemble must be at the same step")
    params = {name: torch.stack([state.params[name].detach() for state in states]) for name in states[0].params}
    optimizers = make_optimizers(optim, config, params)
    remembered = [loop.optimizer_tensors(state.params, state.optimizers) for state in states]
    stacked = {
        name: torch.stack([of_one[name] for of_one in remembered]) if tensor.ndim else tensor
        for name, tensor in remembered[0].items()
    }
    loop.load_optimizer_tensors(params, optimizers, stacked)
    generators = [_copied(state.generator) for state in states]
    return Ensemble(steps[0], params, optimizers, generators, config, optim)


def _copied(generator: torch.Generator) -> torch.Generator:
    return torch.Generator(generator.device).set_state(generator.get_state())


class Streams(TrainingStream):
    """The training streams of several seeds. Lengths, and with them index shapes, are the same for all."""

    def __init__(self, config: DataConfig, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        super().__init__(config, seeds[0], device)
        self._of_members: Tensor | None = None
        if self.strings is not None:
            others = (self._fixed_strings(seed) for seed in seeds[1:])
            self._of_members = torch.stack([self.strings, *(strings for strings in others if strings is not None)])

    def batches(
        self, step: int, generators: Sequence[torch.Generator]
    ) -> tuple[Int[Tensor, "member batch pos"], Int[Tensor, "member batch"], Float[Tensor, "member batch"], Packing]:
        """Tokens, tasks and loss weights of this step (from 1), equal to each seed's `batch`; and the packing of all.

        Only the numbers are drawn member by member; all else is done once for the rows of all.
        """
        of_one, packing = self._plan(step)
        n = packing.batch_size
        member = torch.arange(len(generators), device=self.device).repeat_interleave(n)
        lengths = of_one.repeat(len(generators))
        task = torch.cat([self._draw_tasks(step, n, generator) for generator in generators])
        if self.config.order == "shortest_first":
            assert self._of_members is not None
            index, start = self._place_in_epoch(step)
            inputs = self._of_members[:, 0, index, start : start + n, : self.config.lengths[index]].flatten(0, 1)
            weight = torch.ones(len(task), device=self.device)
        elif self._of_members is not None:
            n_strings = self._of_members.shape[3]
            pick = torch.cat([torch.randint(0, n_strings, (n,), generator=g, device=self.device) for g in generators])
            inputs = self._of_members[member, task, lengths - self.config.min_length, pick]
            weight = torch.ones(len(task), device=self.device)
        else:
            longest = max(length for length, k in zip(self.config.lengths, self.counts(step), strict=False) if k)
            shape = (n, N_CANDIDATES, longest)
            uniform = torch.cat([torch.rand(shape, generator=g, device=self.device) for g in generators])
            inputs, weight = self._chosen(task, lengths, uniform)
        weight = weight * self._task_loss[task] * self._length_loss[lengths]
        states = run_tables(self._tables, task, inputs)
        first = self._first_token[task]
        tokens = self.layout.assemble(first, inputs, states, lengths, self.end_of_input, self.end_of_states)
        rows = (len(generators), n)
        return tokens.unflatten(0, rows), task.unflatten(0, rows), weight.unflatten(0, rows), packing

    def _chosen(
        self, task: Int[Tensor, "row"], lengths: Int[Tensor, "row"], uniform: Float[Tensor, "row candidate length"]
    ) -> tuple[Int[Tensor, "row length"], Float[Tensor, "row"]]:
        """The first candidate of each row that is no test string, and 0 where all of them are."""
        first = self._first_input[task][:, None, None]
        n_drawn = self._n_inputs[task][:, None, None] - first
        candidates = first + (uniform * n_drawn).long().clamp(max=n_drawn - 1)
        split = self._is_split[task, lengths][:, None]
        allowed = ~(is_test_string(candidates, lengths[:, None].expand(-1, N_CANDIDATES)) & split)
        pick = allowed.to(torch.uint8).argmax(1)
        rows = torch.arange(len(task), device=self.device)
        return candidates[rows, pick], allowed[rows, pick].float()


def train_together(
    ensemble: Ensemble, streams: Streams, schedule: TrainConfig
) -> Iterator[tuple[int, Float[Tensor, "member"]]]:
    """Steps from `ensemble.step` to the end, updating it; yields the step and the members' losses (nats).

    The losses stay on their device: reading them is what makes the loop wait. A member whose
    numbers are not finite does not touch the others'.
    """
    config, optim, params = ensemble.config, ensemble.optim, ensemble.params
    masks = gradient_masks(config, params)
    free = [param for param in params.values() if param.requires_grad]
    for step in range(ensemble.step + 1, schedule.n_steps + 1):
        tokens, task, weight, packing = streams.batches(step, ensemble.generators)
        drawn = [loop.draw_noise(packing, config.d_model, schedule, g) for g in ensemble.generators]
        noise = {name: torch.stack([of_one[name] for of_one in drawn]) for name in drawn[0]}
        losses = _losses(params, config, tokens, task, weight, packing, noise)
        for param in free:
            param.grad = None
        losses.sum().backward()  # a member's parameters see its own loss alone
        for name, mask in masks.items():
            grad = params[name].grad
            if grad is not None:
                grad.mul_(mask)
        if optim.max_grad_norm is not None:
            _clip_each(free, optim.max_grad_norm)
        loop.update(ensemble.optimizers, optim.lr * optim.lr_factor(step, schedule.n_steps))
        ensemble.step = step
        yield step, losses.detach()


def _losses(
    params: Params,
    config: ModelConfig,
    tokens: Int[Tensor, "member batch pos"],
    task: Int[Tensor, "member batch"],
    weight: Float[Tensor, "member batch"],
    packing: Packing,
    noise: dict[str, Any],
) -> Float[Tensor, "member"]:
    def of_one(params: Params, tokens: Tensor, task: Tensor, weight: Tensor, noise: dict[str, Any]) -> Tensor:
        logits = forward(Model(params, config), tokens, packing, **noise)
        return loop.row_loss(logits, Batch(tokens, task, weight, packing))

    return torch.func.vmap(of_one)(params, tokens, task, weight, noise)


def _clip_each(params: list[Tensor], max_norm: float) -> None:
    """torch.nn.utils.clip_grad_norm_ on each member's gradients by themselves."""
    grads = [param.grad for param in params if param.grad is not None]
    norms = torch.stack([grad.flatten(1).norm(dim=1) for grad in grads]).norm(dim=0)
    factor = (max_norm / (norms + 1e-6)).clamp(max=1)
    for grad in grads:
        grad.mul_(factor.view(-1, *[1] * (grad.ndim - 1)))
