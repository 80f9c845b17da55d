"""Iterative tasks: a start state and a rule `s_t = step(s_{t-1}, x_t)`. A task is its rule.

States and inputs are the integers from 0; every rule works on tensors and on plain integers. A task is spelled as it is
constructed, `parity` or `polynomial(modulus=7)`: on the command line, in `config.json` and in reports alike.
"""

import math
from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Int
from pydantic import BeforeValidator, Field, PlainSerializer, model_validator
from torch import Tensor

from compo_mech.data.rule import checked_inputs, rule_table
from compo_mech.data.tables import permutation_products, run_tables
from compo_mech.settings import Spelled

MAX_VALUES = 2048
"""States of a task whose number is a setting: its rule is written out, which takes the square of them."""


class Task(Spelled, ABC):
    """One iterative task.

    A subclass gives `name`, `n_states` and `step`; the inputs and the start only where they differ from the defaults
    here: as many inputs as states, and 0 before the first input. `--import MODULE` makes one of your own known to any
    command.

    Example:
        >>> from compo_mech.data import Task
        >>> Task.read("polynomial(modulus=7)").step(1, 3)
        4
    """

    name: ClassVar[str]
    elsewhere: ClassVar[str] = ", or be defined in a module that --import names"

    @property
    @abstractmethod
    def n_states(self) -> int:
        """States are 0 .. n_states - 1."""

    @property
    def n_inputs(self) -> int:
        """Inputs are first_input .. n_inputs - 1."""
        return self.n_states

    @property
    def first_input(self) -> int:
        """The smallest input that is drawn."""
        return 0

    @property
    def start_state(self) -> int | None:
        """The state before the first input; None: the first state is the first input."""
        return 0

    @abstractmethod
    def step(self, state: Any, x: Any) -> Any:  # integers, or what a rule written for tensors takes
        """Return the next state, given integers; a rule that takes none is given tensors of no dimension."""

    @classmethod
    def __pydantic_init_subclass__(cls, **options: object) -> None:
        for taken in {"states", "table"} & set(vars(cls)):
            raise ValueError(f"{taken} = of {cls.__qualname__}: must be left alone, since a task is its rule `step`")
        super().__pydantic_init_subclass__(**options)  # which makes its name known

    @property
    def table(self) -> Int[Tensor, "state_or_start input"]:
        """`step` written out; the last row is the step out of the start.

        Raises:
            ValueError: as `checked`.
        """
        return rule_table(self).clone()

    def __hash__(self) -> int:  # frozen, but type checkers do not know it
        return hash(str(self))

    def states(self, inputs: Int[Tensor, "*batch length"]) -> Int[Tensor, "*batch length"]:
        """Return all states of each string of inputs.

        Raises:
            ValueError: something is no input, or they are no tensor of integers.
        """
        inputs = checked_inputs(self, inputs)
        start = torch.zeros(inputs.shape[:-1], dtype=torch.long, device=inputs.device)
        return run_tables(rule_table(self)[None].to(inputs.device), start, inputs)


class Copy(Task):
    """Binary copy: s_t = x_t, of the values `first_value` and the one after it.

    Example:
        >>> from compo_mech.data import Copy
        >>> Copy().states(torch.tensor([[1, 0, 1]])).tolist()
        [[1, 0, 1]]
    """

    name: ClassVar[str] = "copy"
    first_value: int = Field(default=0, ge=0, le=MAX_VALUES, description="the smaller of the two values")

    @property
    def n_states(self) -> int:
        return self.first_value + 2

    @property
    def first_input(self) -> int:
        return self.first_value

    def step(self, state: Any, x: Any) -> Any:
        return x


class Parity(Task):
    """Parity of the bits so far: s_t = s_{t-1} + x_t mod 2.

    Example:
        >>> from compo_mech.data import Parity
        >>> Parity().states(torch.tensor([[1, 0, 1]])).tolist()
        [[1, 1, 0]]
    """

    name: ClassVar[str] = "parity"

    @property
    def n_states(self) -> int:
        return 2

    def step(self, state: Any, x: Any) -> Any:
        return (state + x) % 2


class Polynomial(Task):
    """s_t = a s x + b s + c x + d mod p, by default s x + 1, which does not commute.

    Example:
        >>> from compo_mech.data import Polynomial
        >>> Polynomial(modulus=7).states(torch.tensor([[2, 3, 4]])).tolist()  # 2, then 2 * 3 + 1, then 0 * 4 + 1
        [[2, 0, 1]]
    """

    name: ClassVar[str] = "polynomial"
    modulus: int = Field(default=11, ge=2, le=MAX_VALUES, description="p; states are 0 .. p-1")
    coefficients: tuple[int, int, int, int] = Field(default=(1, 0, 0, 1), description="a, b, c, d")
    zero_inputs: bool = Field(default=False, description="draw x from 0 .. p-1 rather than 1 .. p-1")
    start: Literal["first_input", "zero"] = Field(default="first_input", description="s_1 = x_1, or s_0 = 0")

    @property
    def n_states(self) -> int:
        return self.modulus

    @property
    def start_state(self) -> int | None:
        return None if self.start == "first_input" else 0

    @property
    def first_input(self) -> int:
        return 0 if self.zero_inputs else 1

    def step(self, state: Any, x: Any) -> Any:
        a, b, c, d = (coefficient % self.modulus for coefficient in self.coefficients)  # or tensors overflow
        return (a * state * x + b * state + c * x + d) % self.modulus


class Automaton(Task):
    """Any finite automaton: `table[state][input]` is the next state.

    Example:
        >>> from compo_mech.data import Automaton
        >>> Automaton(transitions=((0, 1), (1, 0))).states(torch.tensor([[1, 0, 1]])).tolist()  # parity once more
        [[1, 1, 0]]
    """

    name: ClassVar[str] = "automaton"
    transitions: tuple[tuple[int, ...], ...] = Field(description="transitions[state][input]: next state")
    start: int = Field(default=0, ge=0, description="the state before the first input")

    @model_validator(mode="after")
    def _well_formed(self) -> "Automaton":
        rows = self.transitions
        if not rows or not rows[0] or any(len(row) != len(rows[0]) for row in rows):
            raise ValueError(f"transitions = {rows}: every state needs one next state per input")
        if any(not 0 <= state < len(rows) for row in rows for state in row):
            raise ValueError(f"transitions = {rows}: next states must be 0 .. {len(rows) - 1}")
        if self.start >= len(rows):
            raise ValueError(f"start = {self.start}: must be a state, 0 .. {len(rows) - 1}")
        return self

    @property
    def n_states(self) -> int:
        return len(self.transitions)

    @property
    def n_inputs(self) -> int:
        return len(self.transitions[0])

    @property
    def start_state(self) -> int | None:
        return self.start

    def step(self, state: Any, x: Any) -> Any:
        if isinstance(state, int):
            return self.transitions[state][x]
        return torch.tensor(self.transitions, device=state.device)[state, x]


class Counter(Task):
    """A counter: s_t = s_{t-1} + x_t mod k.

    Example:
        >>> from compo_mech.data import Counter
        >>> Counter(modulus=3).states(torch.tensor([[1, 1, 2]])).tolist()
        [[1, 2, 1]]
    """

    name: ClassVar[str] = "counter"
    modulus: int = Field(default=3, ge=2, le=MAX_VALUES, description="k")

    @property
    def n_states(self) -> int:
        return self.modulus

    def step(self, state: Any, x: Any) -> Any:
        return (state + x) % self.modulus


class Dihedral(Task):
    """Word problem s_t = s_{t-1} x_t of the regular n-gon's symmetries: r + n f rotates by r after f reflections.

    Example:
        >>> from compo_mech.data import Dihedral
        >>> square = Dihedral(n=4)
        >>> square.step(1, 4), square.step(4, 1)  # a turn and a flip do not commute
        (5, 7)
    """

    name: ClassVar[str] = "dihedral"
    n: int = Field(default=4, ge=2, le=MAX_VALUES // 2, description="corners; the group has 2n elements")

    @property
    def n_states(self) -> int:
        return 2 * self.n

    def step(self, state: Any, x: Any) -> Any:
        turn, flip = state % self.n, state // self.n
        return (turn + x % self.n * (1 - 2 * flip)) % self.n + (flip + x // self.n) % 2 * self.n


class Symmetric(Task):
    """Word problem s_t = s_{t-1} x_t of the permutations of n things in lexicographic order, (s x)(i) = s(x(i)).

    Example:
        >>> from compo_mech.data import Symmetric
        >>> int(Symmetric(n=3).step(1, 2))  # 021 after 102 is 201
        4
    """

    name: ClassVar[str] = "symmetric"
    n: int = Field(default=3, ge=2, le=6, description="things permuted; the group has n! elements")

    @property
    def n_states(self) -> int:
        return math.factorial(self.n)

    def step(self, state: Any, x: Any) -> Any:
        products = permutation_products(self.n).to(getattr(state, "device", None))
        return products[state, x].clone()  # with integers a view


TaskField = Annotated[
    Task,
    BeforeValidator(lambda given: checked(Task.read(given) if isinstance(given, str) else given)),
    PlainSerializer(str),
]
"""A task as a setting: a `Task`, or its spelling."""


def checked(given: Any) -> Any:
    """Return what is given. A task's spelling gives the same task back, and its rule gives states.

    Raises:
        ValueError: it does not.
    """
    if isinstance(given, Task):
        for name, value in given:
            try:
                hash(value)
            except TypeError:
                raise ValueError(f"{name} = {value!r} of {given}: must be fixed, such as a tuple") from None
        try:
            again = Task.read(str(given))
        except ValueError as error:
            raise ValueError(f"task = {given}: must be what its spelling gives back, but {error}") from None
        if again != given:
            raise ValueError(f"task = {given}: must be what its spelling gives back, but that is another")
        rule_table(given)
    return given
