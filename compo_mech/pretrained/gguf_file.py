"""A GGUF file: its fields by name, and its tensors as 32-bit numbers, one at a time.

The package `gguf` knows the format and its quantisations: pip install 'compo_mech[pretrained]'.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.model.finite import check_finite


@dataclass(frozen=True)
class GGUFFile:
    """What a GGUF file holds.

    Attributes:
        path: of the file.
        shapes: of each tensor, rows first, as torch has them.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    _fields: Mapping[str, Any]
    _tensors: Mapping[str, Any]

    def field(self, name: str, default: object = None) -> Any:
        """Return a field's value; the default, unless that is None, where there is no such field.

        Raises:
            ValueError: there is no such field and no default.
        """
        if name in self._fields:
            return self._fields[name].contents()
        if default is None:
            raise ValueError(f"{self.path} = without the field {name}: must be the file of a language model")
        return default

    def field_names(self) -> list[str]:
        """Return the names of all fields."""
        return list(self._fields)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor.

        Raises:
            ValueError: there is no such tensor.
        """
        if name not in self.shapes:
            raise ValueError(f"{self.path} = without the tensor {name}: must be the file of a language model")
        return self.shapes[name]

    def tensor(self, name: str) -> Float[Tensor, "*shape"]:
        """Return a tensor, dequantised.

        Raises:
            ValueError: there is no such tensor, its quantisation is not known, or not all of it are finite numbers.
        """
        from gguf.quants import dequantize

        shape, found = self.shape(name), self._tensors[name]
        try:
            values = dequantize(found.data, found.tensor_type)
        except NotImplementedError:
            kind = found.tensor_type.name
            raise ValueError(f"{self.path}: {name} = {kind}: must be of a quantisation that gguf undoes") from None
        weight = torch.from_numpy(values.astype("float32", copy=True)).view(shape)
        check_finite(f"{self.path}: {name}", weight)
        return weight


def open_gguf(path: str | Path) -> GGUFFile:
    """Read the header of a GGUF file; tensors stay on disk until they are asked for.

    Raises:
        ValueError: there is no such file, it is no GGUF file or a part of one, or the package `gguf` is missing.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"path = {path}: must be a GGUF file")
    try:
        from gguf import GGUFReader
    except ImportError:
        raise ValueError(
            "gguf = not installed: must be, to read such files: pip install 'compo_mech[pretrained]'"
        ) from None
    try:
        reader = GGUFReader(path)
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
        why = str(error).strip("'\"").splitlines() or [type(error).__name__]
        raise ValueError(f"path = {path}: must be a whole GGUF file ({why[0]})") from None
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    shapes = {name: tuple(int(n) for n in reversed(tensor.shape)) for name, tensor in tensors.items()}
    return GGUFFile(path, shapes, reader.fields, tensors)
