"""Training batches as a function of the step and of a generator."""

import itertools
import math
from collections import OrderedDict
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.data.config import DataConfig, Stage, Weights
from compo_mech.data.packing import Packing
from compo_mech.data.splits import is_split, is_test_string, train_strings
from compo_mech.data.tasks import run_tables, stack_tables

N_CANDIDATES = 16
"""Strings drawn for each training row, of which the first that is no test string is taken."""


@dataclass(frozen=True)
class Batch:
    """Rows padded with [EoS], what to score in them, and how much each counts.

    Attributes:
        tokens: whole rows, the first [EoS] included.
        task: index of each row's task.
        weight: loss weight of each row.
        packing: which positions are read and which are scored.
    """

    tokens: Int[Tensor, "batch pos"]
    task: Int[Tensor, "batch"]
    weight: Float[Tensor, "batch"]
    packing: Packing

    @property
    def targets(self) -> Int[Tensor, "scored"]:
        """The token that each scored row must predict."""
        return self.tokens[self.packing.scored_row, self.packing.scored_position + 1]


class TrainingStream:
    """Training batches as a function of the step and of a generator: nothing else to remember.

    Lengths are spread over the batch in exact proportion to their weights (systematic sampling
    whose offset moves by the golden ratio each step), so that a step's lengths, and with them all
    index shapes, depend on the step alone. Tasks and strings are drawn from the generator.
    """

    def __init__(self, config: DataConfig, seed: int, device: torch.device | str = "cpu") -> None:
        self.config, self.device, self.layout = config, torch.device(device), config.layout
        vocabulary = config.vocabulary
        self.end_of_input, self.end_of_states = vocabulary.end_of_input, vocabulary.end_of_states
        first = [vocabulary.task_token(t) if config.task_token else vocabulary.beginning for t in config.tasks]
        self._first_token = torch.tensor(first, device=device)
        self._tables = stack_tables(config.tasks).to(device)
        self._first_input = torch.tensor([t.first_input for t in config.tasks], device=device)
        self._n_inputs = torch.tensor([t.n_inputs for t in config.tasks], device=device)
        split = [[is_split(t, length) for length in range(config.max_length + 1)] for t in config.tasks]
        self._is_split = torch.tensor(split, device=device)
        self._task_loss = torch.tensor(config.task_loss_weights or [1.0] * len(config.tasks), device=device)
        by_length = list(config.length_loss_weights or [1.0] * len(config.lengths))
        self._length_loss = torch.tensor([0.0] * config.min_length + by_length, device=device)
        self.strings = self._fixed_strings(seed)
        self._bounds: dict[Weights | None, Tensor] = {}
        self._plans: OrderedDict[tuple[int, ...], tuple[Tensor, Packing]] = OrderedDict()

    def _fixed_strings(self, seed: int) -> Int[Tensor, "task n_lengths string max_length"] | None:
        n, config = self.config.n_train_strings, self.config
        if n is None:
            return None
        generator = torch.Generator().manual_seed(seed)
        strings = torch.zeros(len(config.tasks), len(config.lengths), n, config.max_length, dtype=torch.long)
        for i, task in enumerate(config.tasks):
            for j, length in enumerate(config.lengths):
                strings[i, j, :, :length] = train_strings(task, length, n, generator)
        return strings.to(self.device)

    def stage(self, step: int) -> Stage | None:
        """The stage of the curriculum that holds at this step (from 1), if any."""
        end = 0
        for stage in self.config.curriculum:
            end += stage.n_steps
            if step <= end:
                return stage
        return None

    def counts(self, step: int) -> tuple[int, ...]:
        """How many rows of each length, from the shortest on, there are at this step (from 1)."""
        config, stage = self.config, self.stage(step)
        if config.order == "shortest_first":
            index, start = self._place_in_epoch(step)
            n_left = min(config.batch_size, (config.n_train_strings or 0) - start)
            return tuple(n_left if i == index else 0 for i in range(len(config.lengths)))
        max_length = stage.max_length if stage and stage.max_length else config.max_length
        weights = stage.length_weights if stage and stage.length_weights else config.length_weights
        n_lengths = max_length - config.min_length + 1
        weights = weights[:n_lengths] if weights and sum(weights[:n_lengths]) > 0 else [1.0] * n_lengths
        bounds = list(itertools.accumulate(weights))
        # row r lies at (r + offset) / batch_size of the way along the weights
        offset = step * (math.sqrt(5) - 1) / 2 % 1
        ends = [max(0, math.ceil(bound / bounds[-1] * config.batch_size - offset)) for bound in bounds]
        ends = [config.batch_size if bound == bounds[-1] else end for bound, end in zip(bounds, ends, strict=True)]
        return tuple(end - begin for begin, end in itertools.pairwise([0, *ends]))

    def lengths(self, step: int) -> list[int]:
        """Length of every row at this step (from 1), in ascending order."""
        counted = zip(self.config.lengths, self.counts(step), strict=False)
        return [length for length, n in counted for _ in range(n)]

    def batch(self, step: int, generator: torch.Generator) -> Batch:
        """The batch of this step (from 1). The generator lives on the stream's device."""
        lengths, packing = self._plan(step)
        task = self._draw_tasks(step, packing.batch_size, generator)
        if self.config.order == "shortest_first":
            inputs, weight = self._in_order(step), torch.ones(packing.batch_size, device=self.device)
        elif self.strings is not None:
            inputs, weight = self._from_fixed(task, lengths, generator)
        else:
            longest = max(length for length, n in zip(self.config.lengths, self.counts(step), strict=False) if n)
            inputs, weight = self._fresh(task, lengths, longest, generator)
        weight = weight * self._task_loss[task] * self._length_loss[lengths]
        states = run_tables(self._tables, task, inputs)
        first = self._first_token[task]
        tokens = self.layout.assemble(first, inputs, states, lengths, self.end_of_input, self.end_of_states)
        return Batch(tokens, task, weight, packing)

    def _plan(self, step: int) -> tuple[Tensor, Packing]:
        """Lengths and packing of a step; steps with the same counts share them."""
        counts = self.counts(step)
        if counts not in self._plans:
            if len(self._plans) == 64:
                self._plans.popitem(last=False)
            lengths = self.lengths(step)
            packing = Packing.of_lengths(self.layout, lengths, self.device)
            self._plans[counts] = torch.tensor(lengths, device=self.device), packing
        return self._plans[counts]

    def _draw_tasks(self, step: int, n: int, generator: torch.Generator) -> Int[Tensor, "batch"]:
        if len(self.config.tasks) == 1:
            return torch.zeros(n, dtype=torch.long, device=self.device)
        stage = self.stage(step)
        weights = stage.task_weights if stage and stage.task_weights else self.config.task_weights
        if weights not in self._bounds:
            bounds = torch.tensor(weights or [1.0] * len(self.config.tasks)).cumsum(0)
            self._bounds[weights] = (bounds / bounds[-1]).to(self.device)
        uniform = torch.rand(n, generator=generator, device=self.device)
        return torch.bucketize(uniform, self._bounds[weights], right=True).clamp(max=len(self.config.tasks) - 1)

    def _fresh(
        self, task: Tensor, lengths: Tensor, max_length: int, generator: torch.Generator
    ) -> tuple[Int[Tensor, "batch max_length"], Float[Tensor, "batch"]]:
        """Fresh training strings. A row all of whose candidates are test strings weighs nothing."""
        shape = (len(task), N_CANDIDATES, max_length)
        first = self._first_input[task][:, None, None]
        n_drawn = self._n_inputs[task][:, None, None] - first
        uniform = torch.rand(shape, generator=generator, device=self.device)
        candidates = first + (uniform * n_drawn).long().clamp(max=n_drawn - 1)
        split = self._is_split[task, lengths][:, None]
        allowed = ~(is_test_string(candidates, lengths[:, None].expand(-1, N_CANDIDATES)) & split)
        pick = allowed.to(torch.uint8).argmax(1)  # the first allowed one
        rows = torch.arange(len(task), device=self.device)
        return candidates[rows, pick], allowed[rows, pick].float()

    def _from_fixed(
        self, task: Tensor, lengths: Tensor, generator: torch.Generator
    ) -> tuple[Int[Tensor, "batch max_length"], Float[Tensor, "batch"]]:
        assert self.strings is not None
        n = self.strings.shape[2]
        pick = torch.randint(0, n, (len(task),), generator=generator, device=self.device)
        chosen = self.strings[task, lengths - self.config.min_length, pick]
        return chosen, torch.ones(len(task), device=self.device)

    def _in_order(self, step: int) -> Int[Tensor, "batch length"]:
        assert self.strings is not None
        index, start = self._place_in_epoch(step)
        return self.strings[0, index, start : start + self.config.batch_size, : self.config.lengths[index]]

    def _place_in_epoch(self, step: int) -> tuple[int, int]:
        """Which length's turn it is in the shortest-first order, and at which of its strings."""
        n_batches = math.ceil((self.config.n_train_strings or 0) / self.config.batch_size)
        index = (step - 1) % (n_batches * len(self.config.lengths))
        return index // n_batches, index % n_batches * self.config.batch_size
