"""A device that is not the CPU: a GPU where there is one, else a stand-in.

The stand-in's tensors lie in memory like all others, and are told apart by a mark. Inside `OtherDevice` a function of
torch that is given tensors of both devices raises, as on a GPU; here an index is no exception, nor is a value that is
assigned. Numbers (tensors without an axis) may meet anything.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

HAS_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda", 0) if HAS_GPU else torch.device("cuda")
CPU = torch.device("cpu")
DEVICE_OF = Tensor.device.__get__  # pyright: ignore[reportAttributeAccessIssue]
ANYWHERE = (
    torch._has_compatible_shallow_copy_type,
    Tensor.data.__set__,
    Tensor.copy_,
    Tensor.item,
    Tensor.tolist,
    Tensor.__repr__,
    Tensor.__format__,
)


class OtherDevice(TorchFunctionMode):
    """Where tensors that are moved to `DEVICE`, and all that is computed from them, stay apart from the CPU's."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if HAS_GPU:
            return func(*args, **kwargs)
        if func == DEVICE_OF:
            return DEVICE if _is_there(args[0]) else CPU
        if func is Tensor.cpu:
            return _moved(args[0], CPU)
        if func is Tensor.numpy and _is_there(args[0]):
            raise TypeError("numpy: must be given a tensor of the CPU")
        if func is Tensor.to:
            return _to(args, kwargs)
        given = list(_tensors((args, kwargs)))
        there = any(map(_is_there, given))
        if func not in ANYWHERE and there:
            joins = func in (torch.cat, torch.stack)
            if here := [tensor for tensor in given if not _is_there(tensor) and (tensor.ndim or joins)]:
                raise RuntimeError(
                    f"{func.__name__}: tensors of two devices, of shape {tuple(here[0].shape)} on the CPU"
                )
        if (device := kwargs.get("device")) is not None:
            there = torch.device(device).type == DEVICE.type
            kwargs["device"] = CPU
            if there and kwargs.get("generator") is not None:
                raise RuntimeError(f"{func.__name__}: its generator is the CPU's")
        elif func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], Tensor):
            there = False
        found = func(*args, **kwargs)
        return _marked(found) if there else found


def moved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies of these tensors on the other device."""
    return {name: tensor.to(DEVICE) if HAS_GPU else _moved(tensor, DEVICE) for name, tensor in tensors.items()}


_there: dict[int, StorageWeakRef] = {}
"""Memory that lies on the other device, so that views and parameters made of a tensor lie there too."""


def _is_there(tensor: Tensor) -> bool:
    return not tensor.is_meta and tensor.untyped_storage()._cdata in _there


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    there = device.type == DEVICE.type
    if _is_there(tensor) == there:
        return tensor
    copy = tensor.clone()
    return _marked(copy) if there else copy


def _to(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    tensor, *rest = args
    device = kwargs.pop("device", None)
    for i, word in enumerate(rest):
        if isinstance(word, torch.device | str):
            device = torch.device(rest.pop(i))
            break
        if isinstance(word, Tensor):
            device, rest[i] = DEVICE if _is_there(word) else CPU, word.dtype
            break
    cast = tensor.to(*rest, **kwargs) if rest or kwargs else tensor
    if _is_there(tensor) and cast is not tensor:
        _marked(cast)
    return cast if device is None else _moved(cast, torch.device(device))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _marked(found: Any) -> Any:
    if isinstance(found, Iterator):
        found = list(found)
        return iter(_marked(found))
    for tensor in _tensors(found):
        storage = tensor.untyped_storage()
        _there[storage._cdata] = StorageWeakRef(storage)  # which keeps the address from being used again
    return found
