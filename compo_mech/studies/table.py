"""A study's table: a row for each score, whose meaning stands in columns, and one for each run that failed.

Its columns: study, arm, the arms' factors, seed, task, measure, network (trained, control), those of the other labels
of a score (statistic, variable, site, component, position, route, checkpoint) that some score has, value, error. A run
that failed has one row, with an error and without a measure.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from compo_mech.studies.scores import LABELS, RunScore
from compo_mech.studies.study import Study

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("study", "arm", "seed", "task", "measure", "network", "value", "error")
"""Those that every table has."""

RunKey = tuple[str, int]
"""Arm and seed of a run."""


def study_table(
    study: Study, seeds: Sequence[int], scores: Mapping[RunKey, Sequence[RunScore]], errors: Mapping[RunKey, str]
) -> "pd.DataFrame":
    """The table of a study, by arms and seeds in their order.

    Raises:
        ValueError: a factor has the name of another column.
    """
    import pandas as pd

    rows = []
    for name, arm in study.arms.items():
        if taken := set(arm.factors) & {*COLUMNS, *LABELS}:
            raise ValueError(f"factors = {min(taken)}: must not be named as another column of the table")
        for seed in seeds:
            run = {"study": study.name, "arm": name, **arm.factors, "seed": seed}
            if (name, seed) in errors:
                rows.append({**run, "error": errors[name, seed]})
            rows += [{**run, **score.columns(), "error": None} for score in scores.get((name, seed), ())]
    factors = dict.fromkeys(factor for arm in study.arms.values() for factor in arm.factors)
    columns = ["study", "arm", *factors, "seed", "task", "measure", *LABELS, "value", "error"]
    table = pd.DataFrame(rows, columns=columns)
    return table.drop(columns=[label for label in LABELS[1:] if table[label].isna().all()])


def failed_runs(table: "pd.DataFrame") -> "pd.DataFrame":
    """Its rows of runs that failed, one a run."""
    import pandas as pd

    return pd.DataFrame(table[table["error"].notna()])


def score_rows(table: "pd.DataFrame", measure: str, labels: Mapping[str, str] | None = None) -> "pd.DataFrame":
    """Its rows of one measure, of both networks, with these labels and no others."""
    import pandas as pd

    rows = table[table["measure"] == measure]
    for label in LABELS[1:]:
        wanted = (labels or {}).get(label)
        if label in rows:
            rows = rows[rows[label].isna() if wanted is None else rows[label] == wanted]
        elif wanted is not None:
            return pd.DataFrame(rows.iloc[:0])
    return pd.DataFrame(rows)


def trained_rows(table: "pd.DataFrame") -> "pd.DataFrame":
    """Its rows of trained networks."""
    import pandas as pd

    return pd.DataFrame(table[table["network"] == "trained"])
