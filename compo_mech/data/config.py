"""DataConfig: tasks, lengths, their mixture over time, and the size of a batch."""

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from compo_mech.data.layout import Layout
from compo_mech.data.tasks import Parity, TaskField
from compo_mech.data.vocabulary import Vocabulary
from compo_mech.settings import Settings, Spelled

Weights = tuple[Annotated[float, Field(ge=0)], ...]


class Stage(Spelled):
    """One stage of a curriculum: for `n_steps` steps these settings replace those of the data.

    Example:
        >>> from compo_mech.data import DataConfig, Stage
        >>> data = DataConfig(max_length=8, curriculum=(Stage(n_steps=500, max_length=4),))
        >>> str(data.curriculum[0])
        'stage(n_steps=500, max_length=4)'
    """

    name: ClassVar[str] = "stage"
    n_steps: int = Field(gt=0, le=10**12, description="steps that the stage lasts")
    max_length: int | None = Field(default=None, gt=0, description="longest string; None: as in the data")
    task_weights: Weights | None = Field(default=None, description="one weight a task; None: as in the data")
    length_weights: Weights | None = Field(default=None, description="one weight a length; None: as in the data")


StageField = Annotated[
    Stage,
    BeforeValidator(lambda given: Stage.read(given) if isinstance(given, str) else given),
    PlainSerializer(str),
]


class DataConfig(Settings):
    """What is trained on: tasks, lengths, their mixture over time, and the size of a batch.

    Example:
        >>> from compo_mech.data import DataConfig, Parity, Polynomial
        >>> data = DataConfig(tasks=(Parity(), Polynomial(modulus=7)), max_length=3)
        >>> data.lengths, len(data.vocabulary)
        (range(1, 4), 12)
    """

    tasks: tuple[TaskField, ...] = Field(default=(Parity(),), description="tasks, e.g. parity 'polynomial(modulus=7)'")
    task_weights: Weights | None = Field(default=None, description="weight of each task; None: equal")
    task_loss_weights: Weights | None = Field(default=None, description="loss weight of each task's rows; None: 1")
    min_length: int = Field(default=1, gt=0, le=10**12, description="shortest string of inputs")
    max_length: int = Field(default=12, gt=0, le=10**12, description="longest string of inputs")
    length_weights: Weights | None = Field(default=None, description="weight of each length; None: equal")
    length_loss_weights: Weights | None = Field(default=None, description="loss weight of each length's rows; None: 1")
    chain_of_thought: bool = Field(default=True, description="write out every state, or only the last")
    task_token: bool = Field(default=True, description="begin rows with the task's own token, or with [BoS]")
    batch_size: int = Field(default=64, gt=0, le=10**12, description="rows a step")
    n_train_strings: int | None = Field(
        default=None,
        gt=0,
        le=10**12,
        description="fixed training set of n strings per length; None: new strings at every step",
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
        """Lengths that training asks about, and so analyses: those of the data's own mixture that count in the loss.
        What only a stage has, or nothing, is left out."""
        equal = [1.0] * len(self.lengths)
        weights = zip(self.lengths, self.length_weights or equal, self.length_loss_weights or equal, strict=True)
        return tuple(length for length, drawn, counted in weights if drawn > 0 and counted > 0)

    def drawn_length_near(self, length: int) -> int:
        """The drawn length that is nearest to this one; of two, the shorter."""
        return min(self.drawn_lengths, key=lambda drawn: abs(drawn - length))

    def weights_in(self, stage: Stage | None) -> tuple[float, ...]:
        """Weight of each length, from the shortest on, in a stage, or after the last (None)."""
        max_length = stage.max_length if stage and stage.max_length else self.max_length
        weights = stage.length_weights if stage and stage.length_weights else self.length_weights
        n_lengths = max_length - self.min_length + 1
        return tuple(weights[:n_lengths]) if weights and sum(weights[:n_lengths]) > 0 else (1.0,) * n_lengths

    def lengths_within(self, n_steps: int) -> frozenset[int]:
        """Lengths that have a weight at some step of the first n.

        Example:
            >>> from compo_mech.data import DataConfig, Stage
            >>> data = DataConfig(max_length=4, curriculum=(Stage(n_steps=9, max_length=2),))
            >>> [sorted(data.lengths_within(n_steps)) for n_steps in (9, 10)]
            [[1, 2], [1, 2, 3, 4]]
        """
        begun = itertools.accumulate((stage.n_steps for stage in self.curriculum), initial=0)
        reached = [stage for stage, n_before in zip((*self.curriculum, None), begun, strict=True) if n_before < n_steps]
        weights = (zip(self.lengths, self.weights_in(stage), strict=False) for stage in reached)
        return frozenset(length for length, weight in itertools.chain(*weights) if weight > 0)

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

    def without_tasks(self) -> "DataConfig":
        """Return the same data without what belongs to its tasks: their weights, and stages that change nothing else.

        Example:
            >>> from compo_mech.data import Copy, DataConfig, Parity, Stage
            >>> stages = Stage(n_steps=9, task_weights=(1, 1)), Stage(n_steps=9, max_length=4, task_weights=(1, 1))
            >>> data = DataConfig(tasks=(Copy(), Parity()), task_weights=(1, 0), curriculum=stages).without_tasks()
            >>> data.task_weights, *map(str, data.curriculum)
            (None, 'stage(n_steps=9, max_length=4)')
        """
        stages = [stage.model_copy(update={"task_weights": None}) for stage in self.curriculum]
        curriculum = tuple(stage for stage in stages if stage != Stage(n_steps=stage.n_steps))
        weights = {"task_weights": None, "task_loss_weights": None}
        return self.model_copy(update=weights | {"curriculum": curriculum})

    def without_dependents(self, changes: Mapping[str, object]) -> "DataConfig":
        asked: dict[str, Any] = {name: value for name, value in changes.items() if name == "tasks"}
        return self.without_tasks() if asked and DataConfig(**asked).tasks != self.tasks else self

    @model_validator(mode="after")
    def _consistent(self) -> "DataConfig":
        if not self.tasks:
            raise ValueError("tasks = (): at least one task is needed")
        if len(set(map(str, self.tasks))) < len(self.tasks):
            raise ValueError(f"tasks = {' '.join(map(str, self.tasks))}: each task may be named once")
        symbols = self.vocabulary.symbols
        if twice := [symbol for symbol in symbols if symbols.count(symbol) > 1]:
            raise ValueError(f"tasks = {' '.join(map(str, self.tasks))}: must not have the token {twice[0]} for a task")
        if self.min_length > self.max_length:
            raise ValueError(f"min_length = {self.min_length}: must be at most max_length = {self.max_length}")
        for name in ("task_weights", "task_loss_weights", "length_weights", "length_loss_weights"):
            self._check_weights(name, getattr(self, name))
        if (self.length_weights or self.length_loss_weights) and not self.drawn_lengths:
            raise ValueError(f"length_loss_weights = {self.length_loss_weights}: must leave a length that is drawn")
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
        if not 1e-30 < sum(weights) < 1e30:  # they are used in single precision
            raise ValueError(f"{name} = {weights}: must sum to more than 1e-30 and less than 1e30")
