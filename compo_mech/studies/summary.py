"""What a study's arms came to over seeds, beside the reference arm."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from compo_mech.stats.intervals import Interval
from compo_mech.stats.over_seeds import SeedSummary, over_seeds
from compo_mech.stats.seeds_needed import seeds_to_decide
from compo_mech.stats.verdicts import BySeed, Comparison, compare_arms
from compo_mech.studies.measures import Measure
from compo_mech.studies.study import Study
from compo_mech.studies.table import failed_runs, score_rows, trained_rows

if TYPE_CHECKING:
    import pandas as pd

CENSORED = {SeedSummary.TIME_TO_EVENT: math.inf, SeedSummary.FRACTION: 0.0, SeedSummary.MEAN: math.nan}
"""What a run that failed counts as."""


def summary(table: "pd.DataFrame", study: Study) -> "pd.DataFrame":
    """The primary measure of every arm and task, and beside it by how much it differs from the reference arm.

    A run that failed counts as one in which the event did not come, or as a 0 of a fraction, but never for equality;
    from a mean it is left out.

    Returns:
        Columns arm, task, n (runs that count), n_failed, the primary measure, low, high; with a reference: difference,
        d_low, d_high, over seeds of two runs of one seed each: the mean with Student's interval, or of times and where
        any is infinite the median with the order statistics that hold it (see `stats.over_seeds`), over the seeds of
        which either run was trained and saw the event; nan where these are too few, or half of them lack the event in
        one arm and half in the other; verdict: better, worse, equal within the measure's margin, or undecided,
        corrected for the number of arms (see `stats.verdicts`); why: of an undecided one, what there is too little of,
        if it is not for p values; and n_to_decide: of undecided ones, how many seeds would decide (see
        `stats.seeds_needed`).

    Raises:
        ValueError: the table has an arm that the study has not, or a run twice.
    """
    import pandas as pd

    measure, rows = study.primary, []
    of_arms = {
        (str(arm), str(task)): own
        for (arm, task), own in _with_failed(table, study).groupby(["arm", "task"], sort=False)
    }
    bases = _bases(of_arms, study)
    verdicts = _verdicts(of_arms, study, bases)
    for (arm, task), own in of_arms.items():
        values = own["value"].dropna()
        row: dict[str, object] = {"arm": arm, "task": task, "n": len(values), "n_failed": int(own["failed"].sum())}
        if len(values):
            found = over_seeds(measure.summary, values.tolist(), measure.bounds)
            row |= dict(zip((measure.name, "low", "high"), found, strict=True))
        if (arm, task) in verdicts:
            difference = _difference(own, of_arms[bases[arm, task]], measure)
            row |= dict(zip(("difference", "d_low", "d_high"), difference or (math.nan,) * 3, strict=True))
            row["verdict"], why, row["n_to_decide"] = verdicts[arm, task]
            row |= {"why": why} if why else {}
        rows.append(row)
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["arm", "task", "n", "n_failed", measure.name])


ArmTask = tuple[str, str]


def _bases(of_arms: "Mapping[ArmTask, pd.DataFrame]", study: Study) -> dict[ArmTask, ArmTask]:
    """By arm and task, the arm and task that it is compared with, of those that have runs."""
    if study.pairs:
        tasks = dict(of_arms.keys())
        known = {arm: other for arm, other in study.pairs.items() if {arm, other} <= tasks.keys()}
        return {(arm, tasks[arm]): (other, tasks[other]) for arm, other in known.items()}
    to_reference = {(arm, task): (str(study.reference), task) for arm, task in of_arms if arm != study.reference}
    return {one: base for one, base in to_reference.items() if base in of_arms}


def _verdicts(
    of_arms: "Mapping[ArmTask, pd.DataFrame]", study: Study, bases: Mapping[ArmTask, ArmTask]
) -> dict[ArmTask, tuple[str, str, float]]:
    """The verdict on every arm that is compared, by arm and task, why it is undecided, and how many seeds would decide
    it; corrected for the arms that are compared on a task, or for all pairs."""
    measure = study.primary
    ends = {name: float(arm.config.train.n_steps) for name, arm in study.arms.items()}
    families = [list(bases)] if study.pairs else [
        [one for one in bases if one[1] == task] for task in dict.fromkeys(task for _, task in bases)
    ]  # fmt: skip
    found: dict[ArmTask, tuple[str, str, float]] = {}
    for family in families:
        pairs = {arm: bases[arm, task][0] for arm, task in family}

        def compare(values: Mapping[str, BySeed], pairs: Mapping[str, str] = pairs) -> dict[str, Comparison]:
            generator = torch.Generator().manual_seed(0)
            return compare_arms(measure.summary, values, pairs, measure.margin, ends, generator)

        asked = dict.fromkeys([*(bases[one] for one in family), *family])
        values = {
            one[0]: {
                int(seed): None if failed else float(value)
                for seed, value, failed in of_arms[one][["seed", "value", "failed"]].itertuples(index=False, name=None)
                if failed or not math.isnan(value)
            }
            for one in asked
        }
        compared = compare(values)
        needed = seeds_to_decide(compared, values, compare)
        tasks = dict(family)
        found |= {
            (arm, tasks[arm]): (str(one.verdict), one.why, needed.get(arm, math.nan)) for arm, one in compared.items()
        }
    return found


def _difference(own: "pd.DataFrame", reference: "pd.DataFrame", measure: Measure) -> Interval | None:
    """Of one arm's runs less the reference's, seed by seed; None where it cannot be told."""
    import pandas as pd

    both = pd.concat([arm.set_index("seed")["value"] for arm in (own, reference)], axis=1).dropna()
    lost = [set(arm.loc[arm["failed"], "seed"]) for arm in (own, reference)]
    both = both.drop(index=list(lost[0] & lost[1]), errors="ignore")
    # of two censored runs either may be the sooner
    pairs: Sequence[float] = [one - two for one, two in both.to_numpy().tolist() if one < math.inf or two < math.inf]
    if measure.summary is SeedSummary.TIME_TO_EVENT or math.inf in map(abs, pairs):
        middle = statistics.median(pairs) if pairs else math.nan
        return None if math.isnan(middle) else over_seeds(SeedSummary.TIME_TO_EVENT, pairs)._replace(mean=middle)
    widest = measure.bounds[1] - measure.bounds[0]
    return over_seeds(SeedSummary.MEAN, pairs, (-widest, widest)) if len(pairs) >= 2 else None


def _with_failed(table: "pd.DataFrame", study: Study) -> "pd.DataFrame":
    """The rows of the primary measure, with one for each run that failed: infinite, 0 or nan, as befits it."""
    import pandas as pd

    if unknown := set(table["arm"]) - set(study.arms):
        raise ValueError(f"arm = {min(unknown)}: must be of the study, one of {', '.join(study.arms)}")
    own = trained_rows(score_rows(table, study.primary.name)).assign(failed=False)
    lost = [
        {"arm": row["arm"], "seed": row["seed"], "task": str(task), "value": CENSORED[study.primary.summary],
         "failed": True}
        for row in failed_runs(table).to_dict("records")
        for task in study.arms[str(row["arm"])].config.data.measured_tasks
    ]  # fmt: skip
    whole = pd.concat([own, pd.DataFrame(lost)], ignore_index=True) if lost else own
    twice = whole[whole.duplicated(["arm", "seed", "task"])]
    for row in twice.to_dict("records")[:1]:
        raise ValueError(f"seed = {row['seed']} twice in arm {row['arm']}, task {row['task']}: must be one run each")
    order = {arm: i for i, arm in enumerate(study.arms)}
    return whole.sort_values("arm", key=lambda arms: arms.map(order), kind="stable")
