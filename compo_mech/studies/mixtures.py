"""Parity with other tasks mixed in, and with other weights of lengths, as arms of a study."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from compo_mech.data.tasks import Copy, Parity, Polynomial, Task
from compo_mech.runs.stacked_run import AnyRun
from compo_mech.stats.optimum import optimum
from compo_mech.stats.over_seeds import SeedSummary, over_seeds
from compo_mech.studies import measures
from compo_mech.studies.mix import shared_work
from compo_mech.studies.run_scores import MAIN, run_scores
from compo_mech.studies.scores import RunScore
from compo_mech.studies.study import Arm, Study, short_config
from compo_mech.studies.summary import summary
from compo_mech.studies.table import failed_runs, score_rows, trained_rows

if TYPE_CHECKING:
    import pandas as pd

SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9)
OTHERS: Mapping[str, tuple[Task, tuple[float, ...]]] = {
    "polynomial": (Polynomial(zero_inputs=True), SHARES),
    "copy": (Copy(), SHARES),
    "copy of other values": (Copy(first_value=2), (0.0, 0.5)),
}
"""Tasks mixed in, and their shares of the rows. With a share of 0 their tokens are in the vocabulary and in no row:
other initial weights, and all else as without them."""

NOTHING, EQUALLY = "nothing", "equally often"
JUDGED_BY = (measures.TEXTBOOK, measures.ITERATION, measures.FIRST_STEP_AT_99)
"""By which of parity's measures the best share is told."""

LENGTH_WEIGHTS = {
    "in proportion to length": tuple(map(float, range(1, 9))),
    "in inverse proportion": tuple(1 / n for n in range(1, 9)),
    "the longest half": (1.0,) * 4 + (4.0,) * 4,
}
POWERS = {"in inverse proportion": -1.0, EQUALLY: 0.0, "in proportion to length": 1.0}
"""Weights that are a power of the length."""


OF_BOTH = {
    measures.X_CARRIED, measures.EOI_CARRIED, measures.JACCARD, measures.CIRCUITS_FOUND, measures.TASK_TOKEN_PATCHING,
    measures.X_ACROSS_TASKS,
}  # fmt: skip
"""What is asked where two tasks have as many rows."""


def mixture_scores(run: AnyRun) -> list[RunScore]:
    """`main_scores`; where both tasks have half of the rows also which heads, circuits and components they share."""
    scores = shared_work(run) if run.config.data.task_weights == (0.5, 0.5) else run_scores(run)
    return [score for score in scores if score.measure in MAIN | OF_BOTH]


def share_name(share: float, other: str) -> str:
    """The arm in which this share of the rows is another task's."""
    return f"{share:.0%} {other}"


def mixture_arms() -> Mapping[str, Arm]:
    """Return parity alone, parity with a share of another task, and parity alone with other weights of lengths."""
    alone = {"mixed in": NOTHING, "share": 0.0, "lengths": EQUALLY}
    arms = {"parity alone": Arm(short_config([Parity()]), factors=alone)}
    for name, (task, shares) in OTHERS.items():
        for share in shares:
            config = short_config([Parity(), task], {"data.task_weights": (1 - share, share)})
            arms[share_name(share, name)] = Arm(config, factors=alone | {"mixed in": name, "share": share})
    for name, weights in LENGTH_WEIGHTS.items():
        config = short_config([Parity()], {"data.length_weights": weights})
        arms[f"lengths {name}"] = Arm(config, factors=alone | {"lengths": name})
    return arms


def beside_none(table: "pd.DataFrame") -> "pd.DataFrame":
    """Whether parity has a textbook head more often where rows of another task are mixed in than where its tokens
    alone are in the vocabulary.

    Returns:
        What `summary` gives of parity's rows, by task that is mixed in, beside a share of 0 of it.
    """
    import pandas as pd

    arms, of_parity, found = mixture_arms(), table[table["task"].isna() | (table["task"] == str(Parity()))], []
    for name in OTHERS:
        own = of_parity[of_parity["mixed in"] == name]
        shared = {arm: arms[arm] for arm in dict.fromkeys(own["arm"])}
        none = share_name(0.0, name)
        found.append(summary(own, Study("mixtures", "", "", measures.TEXTBOOK, shared, mixture_scores, reference=none)))
    return pd.concat(found, ignore_index=True)


def all_shares(table: "pd.DataFrame") -> "pd.DataFrame":
    """By how much rows of another task change parity's head in the mean over their shares, beside none of them.

    Returns:
        A row a task that is mixed in, and one of all these tasks, for the iteration score and the fraction of textbook
        heads: mixed in, measure, difference, low, high, n_seeds; of each seed the mean over shares (and over tasks)
        less that of a share of 0, and Student's interval over seeds. Seeds of which a run failed are left out.
    """
    import pandas as pd

    parity, rows = str(Parity()), []
    for measure in (measures.TEXTBOOK, measures.ITERATION):
        of_parity = trained_rows(score_rows(table, measure.name))
        of_parity = of_parity[of_parity["task"] == parity]
        by_task = {}
        for name in OTHERS:
            own = of_parity[of_parity["mixed in"] == name].pivot(index="seed", columns="share", values="value")
            whole = own.reindex(columns=OTHERS[name][1]).dropna()
            by_task[name] = whole.drop(columns=0.0).mean(axis=1) - whole[0.0]
        by_task["all of these"] = pd.DataFrame(by_task).dropna().mean(axis=1)
        for name, values in by_task.items():
            if len(values):
                found = over_seeds(SeedSummary.MEAN, values.tolist(), (-1.0, 1.0))
                row = dict(zip(("difference", "low", "high"), found, strict=True))
                rows.append({"mixed in": name, "measure": measure.name} | row | {"n_seeds": len(values)})
    return pd.DataFrame(rows)


def best_shares(table: "pd.DataFrame") -> "pd.DataFrame":
    """Which share of each task is best, none of its rows among them.

    Returns:
        A row a task and measure: mixed in, measure, and what `stats.optimum` gives, best, low, high, n_seeds. A failed
        run counts as one that never learnt, and a share of which all failed is left out.
    """
    import pandas as pd

    found = [_best(table[table["mixed in"] == name], "share").assign(**{"mixed in": name}) for name in OTHERS]
    best = pd.concat(found, ignore_index=True)
    return best[["mixed in", *(column for column in best if column != "mixed in")]]


def best_power(table: "pd.DataFrame") -> "pd.DataFrame":
    """Which power of its length is the best weight of a string: -1, 0 or 1.

    Returns:
        A row a measure, with the other columns of `best_shares`.
    """
    own = table[(table["mixed in"] == NOTHING) & table["lengths"].isin(list(POWERS))]
    return _best(own.assign(power=own["lengths"].map(POWERS)), "power")


def _best(table: "pd.DataFrame", setting: str) -> "pd.DataFrame":
    """Of what values of a setting parity learns best: a row a measure."""
    import pandas as pd

    parity, rows = str(Parity()), []
    for measure in JUDGED_BY:
        of_parity = trained_rows(score_rows(table, measure.name))
        of_parity = of_parity[of_parity["task"] == parity]
        values: dict[float, dict[int, float | None]] = {}
        for at, seed, value in of_parity[[setting, "seed", "value"]].itertuples(index=False, name=None):
            values.setdefault(float(at), {})[int(seed)] = float(value)
        for at, seed in failed_runs(table)[[setting, "seed"]].itertuples(index=False, name=None):
            values.setdefault(float(at), {})[int(seed)] = None
        values = {at: of for at, of in values.items() if any(value is not None for value in of.values())}
        best = optimum(measure.summary, values, torch.Generator().manual_seed(0))
        if best is not None:
            rows.append({"measure": measure.name} | best._asdict())
    return pd.DataFrame(rows)
