"""Question 5: how do accuracy, speed of learning and cleanliness scale with string length and d_model?

Exponents are of the first steps at 95% and 99%, runs that did not get there counted as longer, and of what is left to a
clean map, 1 - iteration score. Width goes with everything else that follows from d_model: d_head and d_mlp. And a level
that all lengths must reach asks more of more lengths: with 64 strings of each, 99% are all of them.
"""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.special import stdtrit
from torch import Tensor

from compo_mech import recipes
from compo_mech.metrics import Interval
from compo_mech.settings import changed
from compo_mech.studies.measures import parts_held
from compo_mech.studies.study import MEASURING, Arm, Study

LENGTHS = (4, 8, 12, 16)
DIMENSIONS = (8, 16, 32, 64, 128)

_BASE = changed(recipes.parity_alone(), MEASURING)

STUDY = Study(
    name="scaling",
    question="how do accuracy, speed of learning and cleanliness scale with string length and d_model?",
    hypothesis="longer strings take more steps, at least in proportion; narrow networks fail first at long strings, "
    "where positions are many, as t is missing from the query before anything else is; wider ones have cleaner maps",
    primary="first step at 99%",
    arms={
        f"length {length} d_model {d_model}": Arm(
            changed(_BASE, {"data.max_length": length, "model.d_model": d_model}),
            factors={"length": length, "d_model": d_model},
        )
        for length in LENGTHS
        for d_model in DIMENSIONS
    },
    measure=parts_held,
)


LAST_STEP = _BASE.train.n_steps
LEVELS = ("first step at 95%", "first step at 99%")


def exponents(table: pd.DataFrame) -> pd.DataFrame:
    """Exponents a, b of value = c length^a d_model^b, the value's logarithm being normal about it.

    Waits are of all runs, those that had not ended by the last step counted as longer (Tobin 1958); what is left to a
    clean map is of the solved ones.

    Args:
        table: of the study.

    Returns:
        A row a measure: measure, n_runs, n_censored; where there is enough to fit: length, length_low, length_high,
        d_model, d_model_low, d_model_high, by maximum likelihood with intervals from its curvature and Student's t.
    """
    wide = table[table["measure"] != "failed"].pivot_table(
        index=["length", "d_model", "seed"], columns="measure", values="value"
    )
    rows = []
    for measure in (*LEVELS, "unclean"):
        if measure == "unclean" and {"iteration", "solved"} <= set(wide):
            own = (1 - wide["iteration"])[wide["solved"] == 1]
            own = own[own > 0]
        elif measure in wide:
            own = wide[measure]
        else:
            own = pd.Series(dtype=float)
        waited = own == math.inf
        row: dict[str, object] = {"measure": measure, "n_runs": len(own), "n_censored": int(waited.sum())}
        index = own[~waited].index.to_frame() if len(own) else pd.DataFrame(columns=["length", "d_model"])
        if index["length"].nunique() > 1 and index["d_model"].nunique() > 1:
            for name, found in zip(("length", "d_model"), _fit(own), strict=True):
                row |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
        rows.append(row)
    return pd.DataFrame(rows)


def _fit(values: pd.Series) -> list[Interval]:
    """Exponents of length and d_model."""
    places = np.log(values.index.to_frame()[["length", "d_model"]].to_numpy(float))
    design = torch.from_numpy(np.column_stack([places - places.mean(0), np.ones(len(values))]))
    censored = torch.tensor((values == math.inf).to_numpy())
    logs = torch.from_numpy(np.log(values.clip(upper=LAST_STEP).to_numpy(float)))

    def loss(given: Float[Tensor, "4"]) -> Float[Tensor, ""]:
        z = (logs - design @ given[:3]) * torch.exp(-given[3])
        seen = 0.5 * z.square() + given[3]
        return torch.where(censored, -torch.special.log_ndtr(-z), seen).sum()

    start, n = torch.linalg.lstsq(design, logs).solution, len(values)
    spread = (logs - design @ start).std().clamp(min=1e-6).log()
    far = float(stdtrit(n - 3, 0.975)) * math.sqrt(n / (n - 3))  # the spread is by n, not by what is left to it
    if not censored.any():  # least squares, which a search would only come near to
        variance = (logs - design @ start).square().mean() * torch.linalg.inv(design.T @ design).diagonal()
        return _intervals(start, far * variance.sqrt())
    given = torch.cat([start, spread[None]]).requires_grad_()
    search = torch.optim.LBFGS([given], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        value = loss(given)
        value.backward()
        return value

    search.step(closure)  # pyright: ignore[reportArgumentType]
    curvature = torch.autograd.functional.hessian(loss, given.detach())
    deviation = torch.linalg.inv(curvature).diagonal().sqrt()  # pyright: ignore[reportArgumentType]
    return _intervals(given.detach(), far * deviation)


def _intervals(found: Float[Tensor, "n"], half: Float[Tensor, "n"]) -> list[Interval]:
    """Of the first two."""
    return [Interval(mean, mean - h, mean + h) for mean, h in zip(found[:2].tolist(), half[:2].tolist(), strict=True)]


def told(table: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    """Tables to be printed after the summary."""
    return {"Exponents": exponents(table)}
