"""Cheaper type checks at test time: the shapes of arrays where arrays are annotated, plain beartype elsewhere.

jaxtyping's import hook binds the arguments of every call to their names, to remember the sizes of axes, and
compiles a check anew whenever a function inside a function is made. Most functions here take no array, and
those two together were more than half of the time of the tests. Where there are arrays, a function's first call
in each test is checked: the thousandth call of an inner loop has the shapes of the first.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any, get_args

import jaxtyping
from beartype import beartype

N_MADE = 20
"""A function inside a function is checked the first times that it is made."""

_called: set[Callable[..., Any]] = set()
"""Functions that take arrays and that this test has called."""


def check_anew() -> None:
    """Check the next call of every function again: a test begins."""
    _called.clear()


def first_call(checked: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    """`checked` for the first call in a test, `plain` for the others."""

    @functools.wraps(plain)
    def call(*args: Any, **kwargs: Any) -> Any:
        if plain in _called:
            return plain(*args, **kwargs)
        _called.add(plain)
        return checked(*args, **kwargs)

    return call


def has_arrays(annotation: Any) -> bool:
    """Whether jaxtyping has something to say about an annotation; one in quotes may have."""
    if isinstance(annotation, str):
        return True
    if isinstance(annotation, type) and issubclass(annotation, jaxtyping.AbstractArray):
        return True
    inside = annotation if isinstance(annotation, list) else get_args(annotation)  # a list: what a Callable takes
    return any(has_arrays(argument) for argument in inside if not isinstance(argument, str | int))


def cheaper(jaxtyped: Callable[..., Any]) -> Callable[..., Any]:
    """The decorator that the import hook puts on everything, where its work is worth its time."""
    n_made: Counter[CodeType] = Counter()

    def often_made(function: Any) -> bool:
        if not isinstance(function, FunctionType) or "<locals>" not in function.__qualname__:
            return False
        n_made[function.__code__] += 1
        return n_made[function.__code__] > N_MADE

    def without_arrays(function: Any) -> bool:
        return isinstance(function, FunctionType) and not any(map(has_arrays, function.__annotations__.values()))

    @functools.wraps(jaxtyped)
    def decorator(*, typechecker: Any) -> Callable[[Any], Any]:
        def decorate(target: Any) -> Any:
            if often_made(target):
                return target
            if isinstance(target, type) and dataclasses.is_dataclass(target) and without_arrays(target.__init__):
                target.__init__ = beartype(target.__init__)
                return target
            if without_arrays(target):
                return beartype(target)
            checked = jaxtyped(target, typechecker=typechecker)
            return first_call(checked, target) if isinstance(target, FunctionType) else checked

        return decorate

    return decorator
