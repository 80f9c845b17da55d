"""How steps and scores scale with string length and d_model."""

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.runs import recipes
from compo_mech.stats.intervals import Interval
from compo_mech.studies import measures
from compo_mech.studies.table import trained_rows

if TYPE_CHECKING:
    import pandas as pd

LAST_STEP = recipes.parity_alone().train.n_steps
"""Of the runs of the study."""
TIMES = (measures.FIRST_STEP_AT_95, measures.FIRST_STEP_AT_99)
UNCLEAN = "1 - iteration score"
"""What is left to a clean map."""


def exponents(table: "pd.DataFrame") -> "pd.DataFrame":
    """Exponents a, b of value = c length^a d_model^b, the value's logarithm being normal about it.

    Times to an event are of all runs, those censored at the last step counted as longer (Tobin 1958); what is left to a
    clean map is of the solved ones.

    Args:
        table: of the study.

    Returns:
        A row a measure: measure, n_runs, n_censored; where there is enough to fit: length, length_low, length_high,
        d_model, d_model_low, d_model_high, by maximum likelihood with intervals from its curvature and Student's t.
    """
    import pandas as pd

    wide = trained_rows(table).pivot_table(index=["length", "d_model", "seed"], columns="measure", values="value")
    iteration, solved = measures.ITERATION.name, measures.SOLVED.name
    rows = []
    for measure in (*(time.name for time in TIMES), UNCLEAN):
        if measure == UNCLEAN and {iteration, solved} <= set(wide):
            own = (1 - wide[iteration])[wide[solved] == 1]
            own = own[own > 0]
        elif measure in wide:
            own = wide[measure]
        else:
            own = pd.Series(dtype=float)
        censored = own == math.inf
        row: dict[str, object] = {"measure": measure, "n_runs": len(own), "n_censored": int(censored.sum())}
        index = own[~censored].index.to_frame() if len(own) else pd.DataFrame(columns=["length", "d_model"])
        if index["length"].nunique() > 1 and index["d_model"].nunique() > 1:
            for name, found in zip(("length", "d_model"), _fit(own), strict=True):
                row |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
        rows.append(row)
    return pd.DataFrame(rows)


def _fit(values: "pd.Series") -> list[Interval]:
    """Exponents of length and d_model."""
    from scipy.special import stdtrit

    points = np.log(values.index.to_frame()[["length", "d_model"]].to_numpy(float))
    design = torch.from_numpy(np.column_stack([points - points.mean(0), np.ones(len(values))]))
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
