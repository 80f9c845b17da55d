"""Measurements as long rows, and how rows are chosen from a table of them."""

import functools
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch

from compo_mech.model.finite import check_finite

if TYPE_CHECKING:
    import pandas as pd

CONTROL = "control"
"""Split of the rows measured on the randomly initialised control of the same configuration."""

TRAIN = "train"
"""Split of the training loss, and of accuracy on the training strings where they are a fixed set."""


class Row(NamedTuple):
    """One measured number. What does not apply is None: no head for accuracy, no length for a mean."""

    split: str
    task: str
    length: int | None
    layer: int | None
    head: int | None
    metric: str
    value: float


def select(metrics: "pd.DataFrame", **wanted: object) -> "pd.DataFrame":
    """Select the rows of a table of measurements in which each named column holds the wanted value."""
    if not wanted:
        return metrics
    return metrics.loc[functools.reduce(operator.and_, (metrics[column] == value for column, value in wanted.items()))]


def of_lengths(metrics: "pd.DataFrame", lengths: Sequence[int]) -> "pd.DataFrame":
    """Select the rows of these lengths, such as `DataConfig.drawn_lengths`, and those of no length."""
    return metrics.loc[metrics["length"].isna() | metrics["length"].isin(lengths)]


def measured(metrics: "pd.DataFrame", task: str) -> "pd.DataFrame":
    """Select the rows of one task, without the control's and those of the training strings."""
    return metrics.loc[(metrics["task"] == task) & ~metrics["split"].isin((CONTROL, TRAIN))]


def highest(table: "pd.DataFrame", column: str) -> "pd.Series":
    """Return the row in which a column is highest.

    Raises:
        NotFinite: a value is not finite, so that none is the highest; the message names its site or layer.

    >>> import pandas as pd
    >>> highest(pd.DataFrame({"site": ["q1", "z1"], "iia": [0.9, 0.6]}), "iia")["site"]
    'q1'
    """
    values = torch.tensor(table[column].to_numpy(dtype=float))
    for bad in (~values.isfinite()).nonzero()[:, 0].tolist():
        row = table.iloc[bad].dropna()
        named = f" at {row['site']}" if "site" in row else f" of layer {row['layer']}" if "layer" in row else ""
        check_finite(f"{column}{named}", values)
    return table.sort_values(column).iloc[-1]
