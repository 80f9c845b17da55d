"""Cheaper type checks at test time: the shapes of arrays where arrays are annotated, plain beartype elsewhere.

jaxtyping's import hook binds the arguments of every call to their names, to remember the sizes of axes. Most
functions here take no array, and for them that was more than half of the time of the tests.
"""

import dataclasses
import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any, get_args

import jaxtyping
from beartype import beartype


def has_arrays(annotation: Any) -> bool:
    """Whether jaxtyping has something to say about an annotation; one in quotes may have."""
    if isinstance(annotation, str):
        return True
    if isinstance(annotation, type) and issubclass(annotation, jaxtyping.AbstractArray):
        return True
    inside = annotation if isinstance(annotation, list) else get_args(annotation)  # a list: what a Callable takes
    return any(has_arrays(argument) for argument in inside if not isinstance(argument, str | int))


def cheaper(jaxtyped: Callable[..., Any]) -> Callable[..., Any]:
    """The decorator that the import hook puts on everything, without the binding where there is no array."""

    def without_arrays(function: Any) -> bool:
        return isinstance(function, FunctionType) and not any(map(has_arrays, function.__annotations__.values()))

    @functools.wraps(jaxtyped)
    def decorator(*, typechecker: Any) -> Callable[[Any], Any]:
        def decorate(target: Any) -> Any:
            if isinstance(target, type) and dataclasses.is_dataclass(target) and without_arrays(target.__init__):
                target.__init__ = beartype(target.__init__)
                return target
            return beartype(target) if without_arrays(target) else jaxtyped(target, typechecker=typechecker)

        return decorate

    return decorator
