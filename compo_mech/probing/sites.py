"""Probes and explained variance by site, each beside its controls: what both probe analyses measure."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Task
from compo_mech.interventions.head_roles import carried_share
from compo_mech.model.params import Model
from compo_mech.probing.controls import accuracy, permuted_control
from compo_mech.probing.probes import linear_probe, mlp_probe, numeric_probe
from compo_mech.probing.split import Split
from compo_mech.probing.variance import beyond_additive, group_means

if TYPE_CHECKING:
    import pandas as pd


def iteration_layer(model: Model, data: DataConfig, task: Task, generator: torch.Generator) -> int:
    """The layer after the first whose heads together carry most of x_t.

    Raises:
        ValueError: there is only one layer, or no chain of thought.
    """
    if model.config.n_layers < 2:
        raise ValueError(
            f"n_layers = {model.config.n_layers}: must be at least 2, since a pointer is used a layer later"
        )
    if model.config.n_layers == 2:
        return 1
    _, together = carried_share(model, data, "x", generator, task=task)
    return 1 + int(together[1:].argmax())


def read_sites(
    features: Mapping[str, Float[Tensor, "row _"]],
    split: Split,
    keys: tuple[Int[Tensor, "group"], Int[Tensor, "group"]],
    generator: torch.Generator,
    thorough: bool,
) -> "pd.DataFrame":
    """Decode the label linearly from each site on held-out pairs, beside permuted labels; and say what share of the
    variance between pairs is additive in their members. One row per site.

    Args:
        features: of each site.
        split: labels, pairs and folds.
        keys: both members of each pair.
        generator: of bootstraps, permutations and small MLPs.
        thorough: also probes by a small MLP and by the label as a number.

    Returns:
        Columns site; linear, low, high: accuracy on held-out pairs; permuted, chance_low, chance_high,
        by_chance: of labels permuted among pairs; numeric, mlp: other probes, if thorough; additive,
        label: fractions of the pairs' variance; beyond and of_rest with _low and _high (see
        `variance.Beyond`); within: share of the variance within pairs.
    """
    import pandas as pd

    first, second = keys
    labels, rows = split.group_labels, []
    for site, values in features.items():
        values = values.cpu()
        decoded = accuracy(linear_probe(values, split), split, generator).at()
        control = permuted_control(
            lambda permuted, values=values: linear_probe(values, permuted), split, generator, 8 if thorough else 3
        )
        chance = control.chance.at()
        row = {"site": site, "linear": decoded.mean, "low": decoded.low, "high": decoded.high}
        row |= {"permuted": float(control.accuracy), "chance_low": chance.low, "chance_high": chance.high}
        row["by_chance"] = bool(control.by_chance)
        if thorough:
            row["numeric"] = accuracy(numeric_probe(values, split), split, generator).at().mean
            row["mlp"] = accuracy(mlp_probe(values, split, generator), split, generator).at().mean
        means = group_means(values, split.groups)
        shares = beyond_additive(means.means, labels, first, second, generator)
        row |= {"additive": float(shares.additive), "label": float(shares.label), "within": float(means.within)}
        for name, intervals in (("beyond", shares.beyond), ("of_rest", shares.of_rest)):
            value = (float("nan"),) * 3 if intervals is None else intervals.at()
            row |= {name: value[0], f"{name}_low": value[1], f"{name}_high": value[2]}
        rows.append(row)
    return pd.DataFrame(rows)
