"""The local learning coefficient of a checkpoint: how degenerate the loss is around it.

Singular learning theory's count of effective parameters, half their number where the loss is a
regular bowl and less where directions leave it as it is. It is estimated as Lau et al. 2023
(arXiv 2308.12108) do, from how far above the checkpoint's own loss a sampler settles that is held
near it:

    lambda = n beta (E[L(w)] - L(w*)),    w ~ exp(-n beta L(w) - localization / 2 |w - w*|^2)

The sampler, stochastic gradient Langevin dynamics, is devinterp's: pip install 'compo_mech[llc]'.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from compo_mech.data.config import DataConfig
from compo_mech.data.stream import Batch, TrainingStream
from compo_mech.model.config import is_frozen
from compo_mech.model.forward import forward
from compo_mech.model.params import Model, gradient_masks
from compo_mech.settings import Settings
from compo_mech.training.loop import row_loss


class SamplerConfig(Settings):
    """How the neighbourhood of a checkpoint is sampled.

    Estimates compare between checkpoints only under the same settings: with a weaker pull, which takes n_burnin of
    several 2 / (lr localization) to settle, a network reaches more of its surroundings and the estimate grows.
    `LearningCoefficient.drift` shows whether chains have settled; `lr` is small enough if half of it with twice the
    steps gives the same.
    """

    lr: float = Field(default=1e-5, gt=0, description="step size epsilon of the sampler")
    localization: float = Field(default=1000.0, ge=0, description="strength gamma of the pull towards the checkpoint")
    n_beta: float | None = Field(
        default=None, gt=0, description="inverse temperature times samples; None: n / log n of the scored rows"
    )
    n_chains: int = Field(default=4, ge=2, description="independent chains")
    n_burnin: int = Field(default=600, ge=0, description="steps of a chain before its first draw")
    n_draws: int = Field(default=400, ge=2, description="steps of a chain that are averaged")
    n_strings: int = Field(default=2048, gt=0, description="training strings that the loss is taken over")
    max_position_shift: int = Field(default=0, ge=0, description="position ids start at a random 0 .. n, as trained")


@dataclass(frozen=True)
class LearningCoefficient:
    """An estimate and the draws behind it.

    Attributes:
        traces: n_beta times loss above the checkpoint's, at every draw of every chain.
        loss: of the checkpoint.
        n_beta: inverse temperature times samples.
    """

    traces: Float[Tensor, "chain draw"]
    loss: float
    n_beta: float

    @property
    def chains(self) -> Float[Tensor, "chain"]:
        """One estimate a chain."""
        return self.traces.mean(1)

    @property
    def mean(self) -> float:
        """The estimate. Below 0 the sampler found lower losses: no minimum, so no learning coefficient."""
        return float(self.chains.mean())

    @property
    def std(self) -> float:
        """Standard deviation over chains."""
        return float(self.chains.std())

    @property
    def drift(self) -> float:
        """How much higher the second half of the draws is than the first: about 0 once chains have settled."""
        first, second = self.traces.tensor_split(2, dim=1)
        return float(second.mean() - first.mean())

    def __str__(self) -> str:
        return f"{self.mean:.1f} ± {self.std:.1f}"


def learning_coefficient(
    model: Model,
    data: DataConfig,
    config: SamplerConfig | None = None,
    seed: int = 0,
) -> LearningCoefficient:
    """The local learning coefficient at one checkpoint, for the loss on training strings at scored rows.

    A scored row counts as a sample, so that n times the mean loss is the strings' log-likelihood.
    Strings are of the data's own mixture, without its curriculum. Frozen parameters stay fixed.

    Args:
        model: the network at the checkpoint; it is not changed.
        data: what it was trained on.
        config: of the sampler.
        seed: of strings, their order and noise.

    Raises:
        ValueError: devinterp is missing, positions do not suffice for the shift, or a chain diverged.
    """
    config = config or SamplerConfig()
    n_tokens = data.layout.n_tokens(data.max_length)
    if n_tokens + config.max_position_shift > model.n_ctx:
        raise ValueError(
            f"max_position_shift = {config.max_position_shift}: must leave {n_tokens} of the {model.n_ctx} positions"
        )
    network = _Network(model)
    batches = _batches(data, config, seed, network.device)
    n_samples = sum(len(batch.targets) for batch, _ in batches)
    masks = gradient_masks(model.config, model.params)
    return sample(network, batches, n_samples, config, seed, {network.names.index(n): m for n, m in masks.items()})


def sample(
    module: nn.Module,
    batches: Sequence[object],
    n_samples: int,
    config: SamplerConfig,
    seed: int,
    masks: Mapping[int, Float[Tensor, "..."]] | None = None,
) -> LearningCoefficient:
    """The local learning coefficient of any module that gives the mean loss of a batch.

    The loss of a draw is taken above the checkpoint's on the same batch, which has the same mean as the difference of
    the two means and far less noise. Draws are counted after `n_burnin` steps alone; devinterp's own estimate averages
    over burn-in as well.

    Args:
        module: at its checkpoint; it is not changed.
        batches: what it takes, one after the other, in a new order each time round.
        n_samples: in all batches together, for the default of `n_beta`.
        config: of the sampler.
        seed: of the order of batches and of the noise.
        masks: by the index of a parameter among the module's: 1 where it may be changed.

    Raises:
        ValueError: devinterp is missing, there is no batch or nothing to sample, or a chain diverged.
    """
    try:
        from devinterp.optim import SGMCMC  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError("devinterp = missing: pip install 'compo_mech[llc]'") from None
    if not batches:
        raise ValueError("batches = none: at least one is needed")
    if config.n_beta is None and n_samples < 3:
        raise ValueError(f"n_samples = {n_samples}: must be at least 3, or n_beta be given")
    n_beta = config.n_beta or n_samples / math.log(n_samples)
    module = copy.deepcopy(module)
    parameters = {i: p for i, p in enumerate(module.parameters()) if p.requires_grad}
    if not parameters:
        raise ValueError("parameters = none: at least one must be free to move")
    groups = [{"params": [p], "mask": (masks or {}).get(i)} for i, p in parameters.items()]
    start = [p.detach().clone() for p in parameters.values()]
    with torch.no_grad():
        own = [float(module(batch)) for batch in batches]
    generator = torch.Generator(device=start[0].device).manual_seed(seed)
    traces = torch.zeros(config.n_chains, config.n_draws)
    for chain in range(config.n_chains):
        with torch.no_grad():
            for p, value in zip(parameters.values(), start, strict=True):
                p.copy_(value)
        sampler = SGMCMC.sgld(groups, lr=config.lr, localization=config.localization, nbeta=n_beta)
        n_steps = config.n_burnin + config.n_draws
        for step, above in enumerate(_excess_losses(module, sampler, batches, own, n_steps, generator)):
            if not math.isfinite(above):
                raise ValueError(f"lr = {config.lr}: must be smaller, chain {chain} diverged at step {step}")
            if step >= config.n_burnin:
                traces[chain, step - config.n_burnin] = n_beta * above
    return LearningCoefficient(traces, sum(own) / len(own), n_beta)


def _excess_losses(
    module: nn.Module,
    sampler: Any,  # devinterp's, which may not be there to be named
    batches: Sequence[object],
    own: Sequence[float],
    n_steps: int,
    generator: torch.Generator,
) -> Iterator[float]:
    """Steps of one chain: by how much the loss on a batch is above the checkpoint's own, before each step."""
    order: list[int] = []
    for _ in range(n_steps):
        order = order or torch.randperm(len(batches), generator=generator, device=generator.device).tolist()
        index = order.pop()
        loss = module(batches[index])
        yield float(loss.detach()) - own[index]
        sampler.zero_grad()
        loss.backward()
        sampler.step(noise_generator=generator)


class _Network(nn.Module):
    """The functional network as a module: from a batch and the shift of its rows to its loss."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.config, self.names = model.config, list(model.params)
        self.values = nn.ParameterList(
            nn.Parameter(value.detach().clone(), requires_grad=not is_frozen(model.config, name))
            for name, value in model.params.items()
        )

    @property
    def device(self) -> torch.device:
        return self.values[0].device

    def forward(self, given: tuple[Batch, Tensor | None]) -> Float[Tensor, ""]:
        batch, shift = given
        model = Model(dict(zip(self.names, self.values, strict=True)), self.config)
        return row_loss(forward(model, batch.tokens, batch.packing, position_shift=shift), batch)


def _batches(
    data: DataConfig, config: SamplerConfig, seed: int, device: torch.device
) -> list[tuple[Batch, Tensor | None]]:
    """Enough training batches for `n_strings`, and the shift of their rows."""
    plain = data.model_copy(update={"curriculum": (), "order": "mixed"})
    stream = TrainingStream(plain, seed, device)
    generator = torch.Generator(device=device).manual_seed(seed)
    found = []
    for step in range(1, math.ceil(config.n_strings / data.batch_size) + 1):
        batch, shift = stream.batch(step, generator), None
        if config.max_position_shift:
            size, bound = (len(batch.tokens),), config.max_position_shift + 1
            shift = torch.randint(0, bound, size, generator=generator, device=device)
        found.append((batch, shift))
    return found
