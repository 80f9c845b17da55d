"""Training batches as a function of the step and of a generator."""

import itertools
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.data.config import DataConfig, Stage, Weights
from compo_mech.data.encode import Encoder
from compo_mech.data.packing import Packing
from compo_mech.data.splits import is_split, is_test_string, train_strings
from compo_mech.data.tables import run_tables, stack_tables

N_CANDIDATES = 16
"""Strings drawn for each training row, of which the first that is no test string is taken."""


@dataclass(frozen=True)
class Batch:
    """Rows padded with [EoS], what to score in them, and how much each counts.

    Batches of several seeds are stacked along a leading axis; what they read and score is the same for all.

    Attributes:
        tokens: whole rows, the first [EoS] included.
        task: index of each row's task.
        weight: loss weight of each row.
        packing: which positions are read and which are scored.

    Example:
        >>> from compo_mech.data import DataConfig, TrainingStream
        >>> stream = TrainingStream(DataConfig(max_length=2, batch_size=4), seeds=0)
        >>> batch = stream.batch(1, torch.Generator().manual_seed(0))
        >>> batch.tokens.shape, batch.targets.shape  # two strings of length 1, two of 2
        (torch.Size([4, 7]), torch.Size([10]))
    """

    tokens: Int[Tensor, "*member batch n_tokens"]
    task: Int[Tensor, "*member batch"]
    weight: Float[Tensor, "*member batch"]
    packing: Packing

    @property
    def targets(self) -> Int[Tensor, "*member scored"]:
        """The token that each scored row must predict."""
        return self.tokens[..., self.packing.scored_row, self.packing.scored_position + 1]


class _Plan(NamedTuple):
    """What the lengths of a step decide: they, ascending, what is read and scored of rows of them, and the longest."""

    lengths: Int[Tensor, "row"]
    packing: Packing
    longest: int


class TrainingStream:
    """Training batches of one seed or several, as a function of the step and of generators: nothing else to remember.

    Lengths are spread over the batch in exact proportion to their weights (systematic sampling
    whose offset moves by the golden ratio each step), so that a step's lengths, and with them all
    index shapes, depend on the step alone and are the same for all seeds. Tasks and strings are
    drawn from the generators.

    Args:
        config: what is trained on.
        seeds: of the fixed training sets, if there are any: one, or one a member of an ensemble.
        device: where batches, and the generators, live.

    Example:
        >>> from compo_mech.data import DataConfig, TrainingStream
        >>> stream = TrainingStream(DataConfig(max_length=2, batch_size=5), seeds=0)
        >>> [stream.lengths(step) for step in (1, 2)]
        [[1, 1, 2, 2, 2], [1, 1, 1, 2, 2]]
    """

    def __init__(self, config: DataConfig, seeds: int | Sequence[int], device: torch.device | str = "cpu") -> None:
        self.config, self.device = config, torch.device(device)
        self._encoder = Encoder(config, device)
        self._tables = stack_tables([task.table for task in config.tasks]).to(device)
        self._first_input = torch.tensor([t.first_input for t in config.tasks], device=device)
        self._n_inputs = torch.tensor([t.n_inputs for t in config.tasks], device=device)
        split = [[is_split(t, length) for length in range(config.max_length + 1)] for t in config.tasks]
        self._is_split = torch.tensor(split, device=device)
        self._task_loss = torch.tensor(config.task_loss_weights or [1.0] * len(config.tasks), device=device)
        by_length = list(config.length_loss_weights or [1.0] * len(config.lengths))
        self._length_loss = torch.tensor([0.0] * config.min_length + by_length, device=device)
        self.strings = self._fixed_strings([seeds] if isinstance(seeds, int) else seeds)
        self._bounds: dict[Weights | None, Tensor] = {}
        self._plans: OrderedDict[tuple[int, ...], _Plan] = OrderedDict()

    def _fixed_strings(self, seeds: Sequence[int]) -> Int[Tensor, "member task n_lengths string max_length"] | None:
        n, config = self.config.n_train_strings, self.config
        if n is None:
            return None
        shape = (len(seeds), len(config.tasks), len(config.lengths), n, config.max_length)
        strings = torch.zeros(shape, dtype=torch.long)
        for member, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(seed)
            for i, task in enumerate(config.tasks):
                for j, length in enumerate(config.lengths):
                    strings[member, i, j, :, :length] = train_strings(task, length, n, generator)
        return strings.to(self.device)

    def stage(self, step: int) -> Stage | None:
        """Return the stage of the curriculum that holds at this step (from 1), if any."""
        end = 0
        for stage in self.config.curriculum:
            end += stage.n_steps
            if step <= end:
                return stage
        return None

    def counts(self, step: int) -> tuple[int, ...]:
        """Return how many rows of each length, from the shortest on, there are at this step (from 1)."""
        config, stage = self.config, self.stage(step)
        if config.order == "shortest_first":
            index, start = self._index_in_epoch(step)
            n_left = min(config.batch_size, (config.n_train_strings or 0) - start)
            return tuple(n_left if i == index else 0 for i in range(len(config.lengths)))
        bounds = list(itertools.accumulate(config.weights_in(stage)))
        # row r takes the quantile (r + offset) / batch_size of the weights
        offset = step * (math.sqrt(5) - 1) / 2 % 1
        ends = [max(0, math.ceil(bound / bounds[-1] * config.batch_size - offset)) for bound in bounds]
        ends = [config.batch_size if bound == bounds[-1] else end for bound, end in zip(bounds, ends, strict=True)]
        return tuple(end - begin for begin, end in itertools.pairwise([0, *ends]))

    def lengths(self, step: int) -> list[int]:
        """Return the length of every row at this step (from 1), in ascending order."""
        counted = zip(self.config.lengths, self.counts(step), strict=False)
        return [length for length, n in counted for _ in range(n)]

    def batch(self, step: int, generators: torch.Generator | Sequence[torch.Generator]) -> Batch:
        """Draw the batch of this step (from 1); of several generators, their batches stacked along a leading axis.

        Every generator draws what it would draw alone; all else is done once for the rows of all.

        Args:
            step: from 1.
            generators: on the stream's device: one, or one a seed.
        """
        sources = [generators] if isinstance(generators, torch.Generator) else generators
        plan = self._plan(step)
        packing = plan.packing
        lengths = plan.lengths.repeat(len(sources)) if len(sources) > 1 else plan.lengths
        task = self._draw_tasks(step, packing.batch_size, sources)
        weight = self._task_loss[task] * self._length_loss[lengths]
        if self.config.order == "shortest_first":
            inputs = self._in_order(step)
        elif self.strings is not None:
            inputs = self._from_fixed(task, lengths, sources)
        else:
            inputs, is_allowed = self._fresh(plan.longest, task, lengths, sources)
            weight = is_allowed * weight
        tokens = self._encoder.tokens(task, inputs, run_tables(self._tables, task, inputs), lengths)
        if isinstance(generators, torch.Generator):
            return Batch(tokens, task, weight, packing)
        tokens, task, weight = (part.unflatten(0, (len(sources), -1)) for part in (tokens, task, weight))
        return Batch(tokens, task, weight, packing)

    def batches(self, step: int, generators: torch.Generator | Sequence[torch.Generator]) -> list[Batch]:
        """Draw the batch of this step, as the only one: all members share it."""
        return [self.batch(step, generators)]

    def _plan(self, step: int) -> "_Plan":
        """What the lengths of a step decide; steps with the same counts share it."""
        counts = self.counts(step)
        if counts not in self._plans:
            if len(self._plans) == 64:
                self._plans.popitem(last=False)
            lengths = self.lengths(step)
            packing = Packing.of_lengths(self.config.layout, lengths, self.device)
            self._plans[counts] = _Plan(torch.tensor(lengths, device=self.device), packing, lengths[-1])
        return self._plans[counts]

    def _draw_tasks(self, step: int, n: int, generators: Sequence[torch.Generator]) -> Int[Tensor, "row"]:
        if len(self.config.tasks) == 1:
            return torch.zeros(n * len(generators), dtype=torch.long, device=self.device)
        stage = self.stage(step)
        weights = stage.task_weights if stage and stage.task_weights else self.config.task_weights
        if weights not in self._bounds:
            bounds = torch.tensor(weights or [1.0] * len(self.config.tasks)).cumsum(0)
            self._bounds[weights] = (bounds / bounds[-1]).to(self.device)
        uniform = self._uniform((n,), generators)
        return torch.bucketize(uniform, self._bounds[weights], right=True).clamp(max=len(self.config.tasks) - 1)

    def _fresh(
        self, longest: int, task: Int[Tensor, "row"], lengths: Int[Tensor, "row"], generators: Sequence[torch.Generator]
    ) -> tuple[Int[Tensor, "row longest"], Float[Tensor, "row"]]:
        """Fresh training strings, and 1, or 0 for a row all of whose candidates are test strings."""
        uniform = self._uniform((len(task) // len(generators), N_CANDIDATES, longest), generators)
        first = self._first_input[task][:, None, None]
        n_drawn = (self._n_inputs[task][:, None, None] - first).float()  # numbers of one type multiply at full speed
        candidates = (uniform * n_drawn).clamp(max=n_drawn - 1).long() + first
        split = self._is_split[task, lengths][:, None]
        allowed = ~(is_test_string(candidates, lengths[:, None].expand(-1, N_CANDIDATES)) & split)
        pick = allowed.to(torch.uint8).argmax(1)  # the first allowed one
        rows = torch.arange(len(task), device=self.device)
        return candidates[rows, pick], allowed[rows, pick].float()

    def _from_fixed(
        self, task: Int[Tensor, "row"], lengths: Int[Tensor, "row"], generators: Sequence[torch.Generator]
    ) -> Int[Tensor, "row max_length"]:
        assert self.strings is not None
        n_rows, n_strings = len(task) // len(generators), self.strings.shape[3]
        drawn = [torch.randint(0, n_strings, (n_rows,), generator=g, device=self.device) for g in generators]
        member = torch.arange(len(generators), device=self.device).repeat_interleave(n_rows)
        return self.strings[member, task, lengths - self.config.min_length, torch.cat(drawn)]

    def _in_order(self, step: int) -> Int[Tensor, "row length"]:
        assert self.strings is not None
        index, start = self._index_in_epoch(step)
        shown = slice(start, start + self.config.batch_size)
        return self.strings[:, 0, index, shown, : self.config.lengths[index]].flatten(0, 1)

    def _uniform(self, shape: tuple[int, ...], generators: Sequence[torch.Generator]) -> Float[Tensor, "row *rest"]:
        """Numbers in [0, 1), each generator's rows after those of the one before."""
        return torch.cat([torch.rand(shape, generator=g, device=self.device) for g in generators])

    def _index_in_epoch(self, step: int) -> tuple[int, int]:
        """The length trained on at this step in shortest-first order, and the index of its next string."""
        n_batches = math.ceil((self.config.n_train_strings or 0) / self.config.batch_size)
        index = (step - 1) % (n_batches * len(self.config.lengths))
        return index // n_batches, index % n_batches * self.config.batch_size
