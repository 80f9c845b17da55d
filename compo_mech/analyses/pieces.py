"""A long analysis in pieces, each of which can be kept: whoever runs it sees how far it is, and can go on later."""

from collections.abc import Callable
from typing import Protocol, TypeVar, runtime_checkable

Value = TypeVar("Value")


@runtime_checkable
class Keeper(Protocol):
    """What is told of each part of an analysis, and keeps its pieces or has kept them.

    A piece is a number, text, list or dictionary as JSON has them.
    """

    def part(self, what: str, n_pieces: int) -> None:
        """Begin a part of so many pieces."""
        ...

    def piece(self, name: str, compute: Callable[[], Value]) -> Value:
        """Return a piece that is known by its name, or compute it."""
        ...


class Unkept:
    """A keeper that keeps nothing and tells nobody."""

    def part(self, what: str, n_pieces: int) -> None:
        """Nobody is told."""

    def piece(self, name: str, compute: Callable[[], Value]) -> Value:
        return compute()
