"""Question 5: how do accuracy, speed of learning and cleanliness scale with string length and d_model?

Exponents are of the first step at 99% and of what is left to a clean map, 1 - iteration score, by least squares on
logarithms with intervals by resampling seeds.
"""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from compo_mech import recipes
from compo_mech.metrics import Interval
from compo_mech.settings import changed
from compo_mech.studies.measures import parts_held
from compo_mech.studies.study import MEASURING, Arm, Study

LENGTHS = (4, 8, 12, 16)
DIMENSIONS = (8, 16, 32, 64, 128)
N_RESAMPLES = 2000

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


def exponents(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Exponents a, b of value = c length^a d_model^b, over cells in which more than half of the seeds were solved.

    Args:
        table: of the study.
        seed: of the resampling.

    Returns:
        A row a measure: measure, n_cells, n_runs, length, length_low, length_high, d_model, d_model_low, d_model_high.
        Seeds within each cell are drawn again, 2000 times; 95% intervals are percentiles.
    """
    wide = table.pivot_table(index=["length", "d_model", "seed"], columns="measure", values="value").reset_index()
    wide["unclean"] = 1 - wide["iteration"]
    solved = wide.groupby(["length", "d_model"])["solved"].transform("mean") > 0.5
    kept = wide[solved & (wide["solved"] == 1)]
    generator, rows = np.random.default_rng(seed), []
    for measure in ("first step at 99%", "unclean"):
        own = kept[(kept[measure] > 0) & (kept[measure] < math.inf)]
        cells = [cell[["length", "d_model", measure]].to_numpy() for _, cell in own.groupby(["length", "d_model"])]
        row: dict[str, object] = {"measure": measure, "n_cells": len(cells), "n_runs": len(own)}
        if own["length"].nunique() > 1 and own["d_model"].nunique() > 1:
            drawn = [
                _fit(np.concatenate([cell[generator.integers(0, len(cell), len(cell))] for cell in cells]))
                for _ in range(N_RESAMPLES)
            ]
            low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
            for i, name in enumerate(("length", "d_model")):
                found = Interval(float(_fit(np.concatenate(cells))[i]), float(low[i]), float(high[i]))
                row |= {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}
        rows.append(row)
    return pd.DataFrame(rows)


def _fit(rows: np.ndarray) -> np.ndarray:
    """Exponents of length and d_model."""
    logs = np.log(rows)
    design = np.column_stack([logs[:, :2], np.ones(len(logs))])
    return np.linalg.lstsq(design, logs[:, 2], rcond=None)[0][:2]


def told(table: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    """Tables to be printed after the summary."""
    return {"Exponents": exponents(table)}
