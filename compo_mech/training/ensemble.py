"""Many networks as stacked parameters [member, ...] that are trained at once.

Each member has a generator of its own and draws from it what it would draw alone, so that `loop.train`
takes it where it takes the same network alone, up to rounding. Beside the seed, members may differ in
initialisation, learning rate and weight decay, and in what they are trained on where shapes are the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Params
from compo_mech.training import loop
from compo_mech.training.loop import Optim, TrainState
from compo_mech.training.optim import OptimConfig, load_optimizer_tensors, make_optimizers, optimizer_tensors


@dataclass
class Ensemble:
    """All that a step of all members changes.

    Attributes:
        step: steps done, the same for all.
        params: stacked leaves [member, ...] that are updated in place.
        optimizers: of the stacked parameters; what they remember is stacked as well.
        generators: one a member.
        config: of every member.
        optim: what every member has, or one a member.
    """

    step: int
    params: Params
    optimizers: list[torch.optim.Optimizer]
    generators: list[torch.Generator]
    config: ModelConfig
    optim: Optim

    def __len__(self) -> int:
        return len(self.generators)

    @property
    def source(self) -> Sequence[torch.Generator]:
        return self.generators

    def member(self, i: int) -> TrainState:
        """One member as a state of its own; its tensors are copies."""
        params = {name: param.detach()[i].clone() for name, param in self.params.items()}
        optim = self.optim if isinstance(self.optim, OptimConfig) else self.optim[i]
        state = loop.start(params, self.config, optim, _copied(self.generators[i]))
        remembered = optimizer_tensors(self.params, self.optimizers)
        # Adam's step count is one number for all
        own = {name: tensor[i] if tensor.ndim else tensor for name, tensor in remembered.items()}
        load_optimizer_tensors(state.params, state.optimizers, own)
        state.step = self.step
        return state

    def tensors(self) -> dict[str, Tensor]:
        """Everything but the parameters, as tensors by name: those of `TrainState`, stacked."""
        generators = torch.stack([generator.get_state() for generator in self.generators])
        return {"generator": generators} | optimizer_tensors(self.params, self.optimizers)

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`, on optimisers of the same configuration."""
        for generator, state in zip(self.generators, tensors["generator"], strict=True):
            generator.set_state(state.clone())  # a row of a file's tensor crashes it
        load_optimizer_tensors(self.params, self.optimizers, tensors)

    def finite(self) -> Bool[Tensor, "member"]:
        """Whether every parameter of a member is finite."""
        return torch.stack([param.detach().isfinite().flatten(1).all(1) for param in self.params.values()]).all(0)


def gather(states: Sequence[TrainState], config: ModelConfig, optim: Optim) -> Ensemble:
    """Stack the states, copied, as members of an ensemble; `Ensemble.member` is the inverse.

    Args:
        states: at the same step, of networks of the same shapes.
        config: that they were started with, but for how they are initialised.
        optim: that they were started with: what all have, or one a state, of one optimiser.

    Raises:
        ValueError: there is none, or they are at different steps.
    """
    steps = sorted({state.step for state in states})
    if len(steps) != 1:
        raise ValueError(f"step = {' '.join(map(str, steps))}: members of an ensemble must be at the same step")
    params = {name: torch.stack([state.params[name].detach() for state in states]) for name in states[0].params}
    optimizers = make_optimizers(optim if isinstance(optim, OptimConfig) else optim[0], config, params)
    remembered = [optimizer_tensors(state.params, state.optimizers) for state in states]
    stacked = {
        name: torch.stack([of_one[name] for of_one in remembered]) if tensor.ndim else tensor
        for name, tensor in remembered[0].items()
    }
    load_optimizer_tensors(params, optimizers, stacked)
    generators = [_copied(state.generator) for state in states]
    return Ensemble(steps[0], params, optimizers, generators, config, optim)


def _copied(generator: torch.Generator) -> torch.Generator:
    return torch.Generator(generator.device).set_state(generator.get_state())
