"""Rows of tasks: leak-free splits, mixtures, curricula, loss weights, batches.

A string of inputs is a test string or a training string by a stable hash of itself, whatever the
task or the seed, so that no training stream and no training set ever holds a test string. Lengths
with fewer than `MIN_SPLIT` strings are too short to split: all their strings serve for both.
"""

import itertools
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import BeforeValidator, Field, PlainSerializer, model_validator
from torch import Tensor

from compo_mech.layout import Layout, Packing
from compo_mech.settings import Settings, Spelled
from compo_mech.tasks import Parity, Task, TaskField, run_tables, stack_tables
from compo_mech.vocabulary import Vocabulary

MIN_SPLIT = 64
"""Lengths with fewer strings than this are not split."""

N_CANDIDATES = 16
"""Strings drawn for each training row, of which the first that is no test string is taken."""

Weights = tuple[Annotated[float, Field(ge=0)], ...]


class Stage(Spelled):
    """One stage of a curriculum: for `n_steps` steps these settings replace those of the data."""

    name: ClassVar[str] = "stage"
    n_steps: int = Field(gt=0, description="steps that the stage lasts")
    max_length: int | None = Field(default=None, gt=0, description="longest string; None: as in the data")
    task_weights: Weights | None = Field(default=None, description="one weight a task; None: as in the data")
    length_weights: Weights | None = Field(default=None, description="one weight a length; None: as in the data")


StageField = Annotated[
    Stage,
    BeforeValidator(lambda given: Stage.read(given) if isinstance(given, str) else given),
    PlainSerializer(str),
]


class DataConfig(Settings):
    """What is trained on: tasks, lengths, their mixture over time, and the size of a batch."""

    tasks: tuple[TaskField, ...] = Field(default=(Parity(),), description="tasks, e.g. parity 'polynomial(modulus=7)'")
    task_weights: Weights | None = Field(default=None, description="share of each task; None: equal")
    task_loss_weights: Weights | None = Field(default=None, description="loss weight of each task's rows; None: 1")
    min_length: int = Field(default=1, gt=0, description="shortest string of inputs")
    max_length: int = Field(default=12, gt=0, description="longest string of inputs")
    length_weights: Weights | None = Field(default=None, description="share of each length; None: equal")
    length_loss_weights: Weights | None = Field(default=None, description="loss weight of each length's rows; None: 1")
    chain_of_thought: bool = Field(default=True, description="write out every state, or only the last")
    task_token: bool = Field(default=True, description="begin rows with the task's own token, or with [BoS]")
    batch_size: int = Field(default=64, gt=0, description="rows a step")
    n_train_strings: int | None = Field(
        default=None, gt=0, description="fixed training set of n strings a length; None: fresh strings for ever"
    )
    order: Literal["mixed", "shortest_first"] = Field(
        default="mixed", description="mix lengths in each batch, or one length a batch, shortest first, every epoch"
    )
    curriculum: tuple[StageField, ...] = Field(
        default=(),
        description="stages run in turn before the data's own settings, e.g. 'stage(n_steps=500, max_length=4)'",
    )

    @property
    def lengths(self) -> range:
        return range(self.min_length, self.max_length + 1)

    @property
    def drawn_lengths(self) -> tuple[int, ...]:
        """Lengths of the data's own mixture: what only a stage has, or nothing, is left out."""
        weights = self.length_weights or [1.0] * len(self.lengths)
        return tuple(length for length, weight in zip(self.lengths, weights, strict=True) if weight > 0)

    @property
    def measured_tasks(self) -> tuple[TaskField, ...]:
        """Tasks of the data's own mixture: what is only mixed in by a stage is not measured."""
        weights = self.task_weights or [1.0] * len(self.tasks)
        return tuple(task for task, weight in zip(self.tasks, weights, strict=True) if weight > 0)

    @property
    def layout(self) -> Layout:
        return Layout(self.chain_of_thought)

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.tasks)

    @model_validator(mode="after")
    def _consistent(self) -> "DataConfig":
        if not self.tasks:
            raise ValueError("tasks = (): at least one task is needed")
        if len(set(map(str, self.tasks))) < len(self.tasks):
            raise ValueError(f"tasks = {' '.join(map(str, self.tasks))}: each task may be named once")
        if self.min_length > self.max_length:
            raise ValueError(f"min_length = {self.min_length}: must be at most max_length = {self.max_length}")
        for name in ("task_weights", "task_loss_weights", "length_weights", "length_loss_weights"):
            self._check_weights(name, getattr(self, name))
        if self.order == "shortest_first" and self.n_train_strings is None:
            raise ValueError("order = shortest_first: needs a fixed training set, n_train_strings")
        if self.order == "shortest_first" and (len(self.tasks) > 1 or self.curriculum or self.length_weights):
            raise ValueError("order = shortest_first: goes with one task, equal lengths and no curriculum")
        for i, stage in enumerate(self.curriculum):
            if stage.max_length is not None and not self.min_length <= stage.max_length <= self.max_length:
                raise ValueError(
                    f"curriculum.{i}.max_length = {stage.max_length}: must be {self.min_length} .. {self.max_length}"
                )
            self._check_weights(f"curriculum.{i}.task_weights", stage.task_weights)
            n_lengths = (stage.max_length or self.max_length) - self.min_length + 1
            self._check_weights(f"curriculum.{i}.length_weights", stage.length_weights, n_lengths)
        return self

    def _check_weights(self, name: str, weights: Weights | None, n_lengths: int | None = None) -> None:
        if weights is None:
            return
        n = len(self.tasks) if "task" in name else n_lengths or len(self.lengths)
        if len(weights) != n:
            raise ValueError(f"{name} = {weights}: needs one weight for each of {n}")
        if not 0 < sum(weights) < math.inf:
            raise ValueError(f"{name} = {weights}: must sum to something positive and finite")


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


# ------------------------------------------------------------------------------------ splits


def n_strings(task: Task, length: int) -> int:
    """How many strings of inputs of this length there are."""
    return (task.n_inputs - task.first_input) ** length


def is_split(task: Task, length: int) -> bool:
    """Whether the strings of this length are divided into training and test strings."""
    return n_strings(task, length) >= MIN_SPLIT


def string_hash(inputs: Int[Tensor, "*batch max_length"], lengths: Int[Tensor, "*batch"]) -> Int[Tensor, "*batch"]:
    """A stable 31-bit hash of the first `lengths` inputs, the same in every run and on every device."""
    position = torch.arange(inputs.shape[-1], device=inputs.device)
    factors = _mixed(position + 1) | 1
    inside = position < lengths[..., None]
    total = ((inputs + 1) * factors * inside).sum(-1)  # wraps modulo 2^64
    return _mixed(total + lengths * 0x632BE59BD9B4E019) & 0x7FFFFFFF


def is_test_string(inputs: Int[Tensor, "*batch max_length"], lengths: Int[Tensor, "*batch"]) -> Bool[Tensor, "*batch"]:
    """Whether each string falls into the test split, as a quarter of all strings do."""
    return string_hash(inputs, lengths) % 4 == 0


def _mixed(value: Int[Tensor, "*batch"]) -> Int[Tensor, "*batch"]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014), in wrapping 64-bit integers."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15), (31, 1)):
        value = (value ^ ((value >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return value


def all_strings(task: Task, length: int) -> Int[Tensor, "string length"]:
    """Every string of inputs of this length, in lexicographic order."""
    values = range(task.first_input, task.n_inputs)
    return torch.tensor(list(itertools.product(values, repeat=length)), dtype=torch.long)


def test_strings(task: Task, length: int, n: int) -> Int[Tensor, "string length"]:
    """Up to n distinct strings to test on, always the same: all of them where there is no split.

    Raises:
        ValueError: no string of this length is a test string (never at `MIN_SPLIT` strings or more
            of the tasks that come with the package).
    """
    if not is_split(task, length):
        return all_strings(task, length)
    return _distinct_strings(task, length, n, test=True, generator=torch.Generator().manual_seed(0))


def train_strings(task: Task, length: int, n: int, generator: torch.Generator) -> Int[Tensor, "string length"]:
    """A fixed training set: n distinct strings, or, where there are fewer, all of them over and over."""
    if is_split(task, length):
        found = _distinct_strings(task, length, n, test=False, generator=generator)
    else:
        found = all_strings(task, length)
        found = found[torch.randperm(len(found), generator=generator)]
    return found[torch.arange(n) % len(found)]


def _distinct_strings(
    task: Task, length: int, n: int, test: bool, generator: torch.Generator
) -> Int[Tensor, "string length"]:
    lengths = torch.tensor(length)
    if n_strings(task, length) <= max(4096, 8 * n):
        pool = all_strings(task, length)
    else:
        shape = (8 * n + 64, length)
        pool = torch.randint(task.first_input, task.n_inputs, shape, generator=generator)
        pool = torch.unique(pool, dim=0)
    pool = pool[is_test_string(pool, lengths.expand(len(pool))) == test]
    if not len(pool):
        raise ValueError(f"length = {length}: no string of {task} is left for this split")
    return pool[torch.randperm(len(pool), generator=generator)[:n]]


# ----------------------------------------------------------------------------------- batches


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
