"""How one head and one MLP are shared by two tasks, as scores of a run."""

from collections.abc import Iterator

from compo_mech.analyses.sharing import Sharing, compare, evidence
from compo_mech.model.params import Model
from compo_mech.runs.stacked_run import AnyRun
from compo_mech.studies import measures
from compo_mech.studies.circuit_scores import heads_needed
from compo_mech.studies.scores import RunScore

PATCHED = ("mlp0", "L0H0.v", "L1H0.q", "L1H0.k", "L1H0.v", "L1H0.z", "mlp1")
"""Components, by what they read or put out, that are asked one by one whether they use the task token."""


def shared_work(run: AnyRun) -> list[RunScore]:
    """`heads_needed`; where two tasks were mixed, how far circuits overlap and where the task token is used."""
    scores = heads_needed(run)
    data, model = run.config.data, Model(run.params(), run.config.model)
    if len(data.measured_tasks) < 2:
        return scores
    shifts, seed = run.config.shifts, run.config.seed
    one, other = (evidence(model, data, task, shifts, seed) for task in data.measured_tasks)
    found = compare(model, data, one, other, run.config.seed)
    scores += [*_overlap(found), *_task_token(found)]
    if found.across is not None:
        for task, followed in zip(data.measured_tasks, found.across, strict=True):
            scores.append(RunScore(measures.X_ACROSS_TASKS, float(followed[1, 0]), str(task), component="L1H0"))
    return scores


def _overlap(found: Sharing) -> Iterator[RunScore]:
    """The Jaccard index of both tasks' circuits (the highest edges where there is no circuit), between two bounds.

    `halves` is that of circuits of two sets of prompts of one task, the mean of both tasks'; `permuted` the upper end
    of its 95% range with the second circuit's edges permuted among those whose reader is of the same kind.
    """
    both, kind = " and ".join(found.names), found.same_kind[0]
    yield RunScore(measures.JACCARD, kind.value, both)
    yield RunScore(measures.JACCARD, sum(half[0] for half in found.halves) / 2, both, statistic="halves")
    yield RunScore(measures.JACCARD, kind.permuted.high, both, statistic="permuted")
    yield RunScore(measures.CIRCUITS_FOUND, float(all(task.found[0].kept for task in found.tasks)), both)


def _task_token(found: Sharing) -> Iterator[RunScore]:
    """Answers that become the other task's when one component is patched, by the task of the row.

    The placebo is a random change of the same size.
    """
    if found.task_token is None:
        return
    table = found.task_token.assign(component=lambda rows: rows["site"].fillna(rows["reader"]))
    asked = (table["kind"] == "reader") | (table["site"] == "L1H0.z")
    for row in table[asked & table["component"].isin(PATCHED)].to_dict("records"):
        score = RunScore(measures.TASK_TOKEN_PATCHING, 0.0, str(row["base"]), component=str(row["component"]))
        yield score._replace(value=float(row["follows"]))
        yield score._replace(value=float(row["control"]), network="control")
        yield score._replace(value=float(row["placebo"]), statistic="placebo")
