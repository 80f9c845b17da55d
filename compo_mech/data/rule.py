"""A task's rule written out as a table, and what is wrong with one that gives no states."""

import contextlib
import hashlib
import operator
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

MAX_TABLE = 2**22
"""Pairs of a state and an input that a rule is written out for: 32 MB."""

MAX_ASKED_AGAIN = 2**16
"""Pairs, spread over all, of which a rule is asked twice."""

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
"""What strings of inputs may be stored as."""


@runtime_checkable
class Rule(Hashable, Protocol):
    """What a table needs to know of a task; see `Task`."""

    @property
    def n_states(self) -> int: ...

    @property
    def n_inputs(self) -> int: ...

    @property
    def first_input(self) -> int: ...

    @property
    def start_state(self) -> int | None: ...

    def step(self, state: Any, x: Any) -> Any: ...


@lru_cache
def rule_table(rule: Rule) -> Int[Tensor, "state_or_start input"]:
    """Write out a rule; the last row is the step out of the start. Callers share the table, so they leave it as it is.

    Raises:
        ValueError: the sizes are none, or a step fails, or gives no state, or not always the same.
    """
    check_sizes(rule)
    table = torch.zeros(rule.n_states + 1, rule.n_inputs, dtype=torch.long)
    states, inputs, first = torch.arange(rule.n_states), torch.arange(rule.n_inputs), rule.first_input
    table[:-1, first:] = _steps(rule, states, inputs[first:])
    with contextlib.suppress(ValueError):  # of inputs that are never drawn nothing is asked
        table[:-1, :first] = _steps(rule, states, inputs[:first])
    table[-1] = inputs if rule.start_state is None else table[rule.start_state]
    return table


def rule_checksum(rule: Rule) -> str:
    """Return the SHA-256 of a rule's table and start, by which another rule of the same name is told apart."""
    about = f"{rule.first_input} {rule.start_state} {tuple(rule_table(rule).shape)}".encode()
    return hashlib.sha256(about + rule_table(rule).numpy().tobytes()).hexdigest()


def check_sizes(rule: Rule) -> None:
    """
    Raises:
        ValueError: the numbers of states and inputs, the first input or the start state cannot be.
    """

    def need(name: str, is_good: bool, allowed: str) -> None:
        if not is_good:
            raise ValueError(f"{name} = {getattr(rule, name)!r} of {rule}: must be {allowed}")

    need("n_states", _is_int(rule.n_states) and rule.n_states > 0, "an integer of at least 1")
    need("n_inputs", _is_int(rule.n_inputs) and rule.n_inputs > 0, "an integer of at least 1")
    inputs, states = f"0 .. {rule.n_inputs - 1}", f"0 .. {rule.n_states - 1}"
    need("first_input", _is_int(rule.first_input) and 0 <= rule.first_input < rule.n_inputs, f"an input, {inputs}")
    if rule.start_state is None:
        need("n_inputs", rule.n_inputs <= rule.n_states, f"at most {rule.n_states}: the first input is the first state")
    else:
        need("start_state", _is_int(rule.start_state) and 0 <= rule.start_state < rule.n_states, f"a state, {states}")
    n_pairs = rule.n_states * rule.n_inputs
    if n_pairs > MAX_TABLE:
        raise ValueError(f"tasks = {rule}: its rule has {n_pairs} entries, must have at most {MAX_TABLE}")


def checked_inputs(rule: Rule, given: object) -> Int[Tensor, "*batch length"]:
    """Return strings of inputs as they are.

    Raises:
        ValueError: they are no tensor of integers, or something is no input of the rule.
    """
    if not isinstance(given, Tensor) or not given.ndim or given.dtype not in INTEGERS:
        kind = f"{given.ndim}-d, of {given.dtype}" if isinstance(given, Tensor) else f"a {type(given).__name__}"
        raise ValueError(f"inputs = {kind}: must be a tensor of integers, a string along its last dimension")
    wrong = given[(given < 0) | (given >= rule.n_inputs)]
    if len(wrong):
        raise ValueError(f"inputs = {int(wrong[0])}: must be 0 .. {rule.n_inputs - 1} in {rule}")
    return given.long()


def _steps(rule: Rule, states: Int[Tensor, "state"], inputs: Int[Tensor, "input"]) -> Int[Tensor, "state input"]:
    """The rule of every pair, asked one by one: a rule may look integers up in a set or a dictionary, where a tensor is
    never found, or reckon with larger ones than a tensor holds."""
    pairs = [(state, x) for state in states.tolist() for x in inputs.tolist()]
    found = _asked(rule, pairs)
    again = range(len(pairs))[:: -max(1, len(pairs) // MAX_ASKED_AGAIN)]
    if _asked(rule, [pairs[i] for i in again]) != [found[i] for i in again]:
        raise ValueError(f"step = of {rule}: must depend on nothing but its state and its input")
    for (state, x), new in zip(pairs, found, strict=True):
        if not 0 <= new < rule.n_states:
            raise ValueError(f"step({state}, {x}) = {new} of {rule}: must be a state, 0 .. {rule.n_states - 1}")
    return torch.tensor(found, dtype=torch.long).view(len(states), len(inputs))


def _asked(rule: Rule, pairs: Sequence[tuple[int, int]], number: Callable[[int], int | Tensor] = int) -> list[int]:
    """The next state of each pair; of integers, or, if the rule is written for tensors alone, of those."""
    found = []
    for state, x in pairs:
        where = f"step({state}, {x})"
        try:
            value = rule.step(number(state), number(x))
        except Exception as error:  # any, since it is the user's code
            if number is int and isinstance(error, AttributeError | TypeError):
                with contextlib.suppress(ValueError):
                    return _asked(rule, pairs, torch.tensor)
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ValueError(f"{where} = {reason} of {rule}: must be a state") from None
        given: Any = value.item() if getattr(value, "ndim", None) == 0 else value  # of torch or numpy
        try:
            found.append(operator.index(given))
        except TypeError:
            shown = " ".join(repr(given).split())
            raise ValueError(f"{where} = {shown} of {rule}: must be an integer, a state") from None
    return found


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
