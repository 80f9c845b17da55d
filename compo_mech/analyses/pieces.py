"""A long analysis in pieces, each of which can be kept: whoever runs it sees how far it is, and can go on later."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

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


def tensors_checksum(tensors: Mapping[str, Tensor]) -> str:
    """Return what two sets of tensors share that have the same names, shapes, types and numbers.

    >>> one, other = torch.tensor([1, 2]), torch.tensor([[1, 2]])
    >>> tensors_checksum({"row": one}) == tensors_checksum({"row": other})
    False
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu()
        digest.update(f"{name}\0{tuple(tensor.shape)}\0{tensor.dtype}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())  # numpy has no bfloat16
    return digest.hexdigest()


class Unkept:
    """A keeper that keeps nothing and tells nobody."""

    def part(self, what: str, n_pieces: int) -> None:
        """Nobody is told."""

    def piece(self, name: str, compute: Callable[[], Value]) -> Value:
        return compute()
