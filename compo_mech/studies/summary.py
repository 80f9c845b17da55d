"""What a study's arms came to over seeds, beside the reference arm."""

import math
import statistics

import pandas as pd

from compo_mech.stats.over_seeds import FRACTIONS, TIMES_TO_EVENT, over_seeds
from compo_mech.studies.study import Study


def summary(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The primary measure of every arm and task, and beside it by how much it differs from the reference arm.

    A run that failed counts as one that never came there, and as not solved; from a mean it is left out.

    Returns:
        Columns arm, task, n (runs that count), n_failed, the primary measure, low, high; with a reference: difference,
        d_low, d_high, over seeds of two runs of one seed each: the mean with Student's interval, or of waits the median
        with its lowest and highest (which for five seeds is an interval of 94%; two that never came do not differ).
    """
    measure, rows = study.primary, []
    of_arms = {
        (str(arm), task): own for (arm, task), own in _with_failed(table, study).groupby(["arm", "task"], sort=False)
    }
    for (arm, task), own in of_arms.items():
        values = own["value"].dropna()
        row: dict[str, object] = {"arm": arm, "task": task, "n": len(values), "n_failed": int(own["failed"].sum())}
        if len(values):
            row |= dict(zip((measure, "low", "high"), over_seeds(measure, values.tolist()), strict=True))
        if study.reference is not None and arm != study.reference and (study.reference, task) in of_arms:
            other = of_arms[study.reference, task].set_index("seed")["value"]
            both = pd.concat([own.set_index("seed")["value"], other], axis=1).dropna().to_numpy().tolist()
            pairs = [0.0 if one == two else one - two for one, two in both]
            if measure in TIMES_TO_EVENT and pairs:
                row |= {"difference": statistics.median(pairs), "d_low": min(pairs), "d_high": max(pairs)}
            elif len(pairs) >= 2:
                difference = over_seeds("difference", pairs)
                row |= dict(zip(("difference", "d_low", "d_high"), difference, strict=True))
        rows.append(row)
    return pd.DataFrame(rows)


def _with_failed(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The rows of the primary measure, with one for each run that failed: infinite, 0 or nan, as befits it."""
    own = table[table["measure"] == study.primary].assign(failed=False)
    stand_in = math.inf if study.primary in TIMES_TO_EVENT else 0.0 if study.primary in FRACTIONS else math.nan
    lost = [
        {"arm": row["arm"], "seed": row["seed"], "task": str(task), "value": stand_in, "failed": True}
        for row in table[table["measure"] == "failed"].to_dict("records")
        for task in study.arms[str(row["arm"])].config.data.measured_tasks
    ]
    whole = pd.concat([own, pd.DataFrame(lost)], ignore_index=True) if lost else own
    order = {arm: i for i, arm in enumerate(study.arms)}
    return whole.sort_values("arm", key=lambda arms: arms.map(order), kind="stable")
