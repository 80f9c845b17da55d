"""How one head and one MLP are shared by two tasks, as scores of a run."""

from compo_mech.analyses.sharing import compare, evidence
from compo_mech.model.params import Model
from compo_mech.runs.run import Run
from compo_mech.studies.measures import Score, heads_at_work

TURNED = ("mlp0", "L0H0.v", "L1H0.q", "L1H0.k", "L1H0.v", "mlp1")
"""Readers that are asked, each by itself, whether they are told the task."""


def shared_work(run: Run) -> list[Score]:
    """`heads_at_work`; where two tasks were mixed, what they share (see `sharing`) and where the task is told.

    `jaccard` is of the two circuits (`circuits found`: 1 where both were, 0 where their highest edges were taken),
    `jaccard of halves` of two sets of prompts of one task (the mean of both tasks'), `jaccard dealt` the upper end of
    the 95% range with the second circuit's edges dealt at random among those of the same reader kind.

    `turned by mlp1`: share of the answers that become the other task's where MLP 1 alone reads the other task's
    stream, by the task of the row (`placebo`: after a random change of the same size). `L1H0 from the other task`:
    share that follow an x_t whose head output comes from a run of the other task.
    """
    rows = heads_at_work(run)
    data, model = run.config.data, Model(run.params(), run.config.model)
    if len(data.measured_tasks) < 2:
        return rows
    one, other = (evidence(model, data, task, run.config.seed) for task in data.measured_tasks)
    found = compare(model, data, one, other, run.config.seed)
    both, kind = " and ".join(found.names), found.same_kind[0]
    rows += [
        (both, "jaccard", kind.value),
        (both, "jaccard of halves", sum(half[0] for half in found.halves) / 2),
        (both, "jaccard dealt", kind.permuted.high),
        (both, "circuits found", float(all(task.found[0].kept for task in found.tasks))),
    ]
    if found.task_token is not None:
        patched = found.task_token.assign(name=lambda t: t["site"].fillna(t["reader"]))
        asked = (patched["kind"] == "reader") & patched["reader"].isin(TURNED) | (patched["site"] == "L1H0.z")
        for row in patched[asked].to_dict("records"):
            for name, column in (("", "follows"), (", fresh", "control"), (", placebo", "placebo")):
                rows.append((str(row["base"]), f"turned by {row['name']}{name}", float(row[column])))
    if found.across is not None:
        for task, share in zip(data.measured_tasks, found.across, strict=True):
            rows.append((str(task), "L1H0 from the other task", float(share[1, 0])))
    return rows
