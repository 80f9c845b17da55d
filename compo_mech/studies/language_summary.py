"""What the parts of the language-model study come to: a row a measure, with its interval over prompts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from compo_mech.stats.intervals import Interval

if TYPE_CHECKING:
    import pandas as pd

N_RESAMPLES = 1000
LABELS = ("part", "task", "kind", "form", "length", "network", "step", "measure", "component", "size")
ALL = "all"
COUNTED = (
    *("accuracy", "accuracy, ablated", "carried", "carried alone", "probe"),
    *("answers by content", "answers by position"),
)
"""Measures whose values are counts, of `n`; the others are means already."""


def summary(table: "pd.DataFrame") -> "pd.DataFrame":
    """Return the mean of each measure by all that tells its rows apart, and over forms, with 95% intervals.

    Units, which are prompts or several that share a prefix, are drawn with replacement; what one unit alone has, has no
    interval.

    Args:
        table: of a part, with `unit`, `measure`, `value` and `n`.

    Returns:
        The labels, with `all` for the form where it is over forms; value, low, high, n and n_units.
    """
    import pandas as pd

    labels = [name for name in LABELS if name in table]
    tables = [table]
    if "form" in labels and table["form"].nunique() > 1:
        tables.append(table.assign(form=ALL))
    rows = []
    for of in tables:
        for key, group in of.groupby(labels, dropna=False, sort=False):
            own = dict(zip(labels, key, strict=True))
            found = over_units(group, str(own["measure"]) in COUNTED)
            n_units = group["unit"].nunique()
            limits = {"low": found.low, "high": found.high} if n_units > 1 else {}
            rows.append({**own, "value": found.mean, **limits, "n": group["n"].sum(), "n_units": n_units})
    return pd.DataFrame(rows)


def over_units(group: "pd.DataFrame", is_counted: bool) -> Interval:
    """Return the mean over units, or the fraction of all that was counted, with its bootstrap over units."""
    per_unit = group.assign(n=group["n"] if is_counted else 1.0).groupby("unit")[["value", "n"]].sum()
    values, n = (torch.tensor(per_unit[name].to_numpy(float)) for name in ("value", "n"))
    draws = torch.randint(len(values), (N_RESAMPLES, len(values)), generator=torch.Generator().manual_seed(0))
    drawn = values[draws].sum(1) / n[draws].sum(1).clamp(min=1e-9)
    low, high = drawn.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(float(values.sum() / n.sum()), low, high)


def summaries(tables: "Sequence[pd.DataFrame]") -> "pd.DataFrame":
    """Return the summaries of several parts as one table."""
    import pandas as pd

    found = pd.concat([summary(table) for table in tables], ignore_index=True)
    return found[[name for name in (*LABELS, "value", "low", "high", "n", "n_units") if name in found]]
