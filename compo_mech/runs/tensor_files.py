"""Tensors in safetensors files, the one format that is read: no pickle is ever loaded."""

import json
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from compo_mech.runs.files import read_plain, write_whole


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and what is said of them into one file, whole or not at all."""
    write_whole(path, tensors_as_bytes(tensors, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return what `write_tensors` wrote.

    Raises:
        ValueError: the file is damaged.
    """
    return tensors_from_bytes(read_plain(path))


def tensors_from_bytes(content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return what is in a safetensors file of this content: tensors, and what is said of them.

    Raises:
        ValueError: it is no such content.
    """
    try:
        tensors = safetensors.torch.load(content)
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from None
    n_header = int.from_bytes(content[:8], "little")
    return tensors, json.loads(content[8 : 8 + n_header]).get("__metadata__", {})


def tensors_as_bytes(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Return the content of a safetensors file."""
    here = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(here, metadata)
