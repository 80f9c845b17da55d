"""Rows of a stack's measurements: one row stands for all of its networks."""

import json
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from compo_mech.evaluation.table import Row
from compo_mech.runs.stored import shortened
from compo_mech.runs.tensor_files import tensors_from_bytes


class StackRow(NamedTuple):
    """One measure of every network of a stack.

    Attributes:
        step: at which it was measured.
        what: where and what it is, a row without a value.
        value: of each network; NaN: it is not recorded of that one.
    """

    step: int
    what: Row
    value: Float[np.ndarray, "run"]


def stack_rows(content: bytes) -> list[StackRow]:
    """Read the rows of one snapshot from the content of their file.

    Raises:
        ValueError: it holds no such rows.
    """
    try:
        tensors, told = tensors_from_bytes(content)
        return [
            StackRow(int(at), Row(*what, value=float("nan")), value)
            for (at, *what), value in zip(json.loads(told["rows"]), tensors["value"].numpy(), strict=True)
        ]
    except (LookupError, ValueError, TypeError) as error:
        raise ValueError(shortened(error)) from None
