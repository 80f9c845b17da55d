"""What two tasks of one network share: heads, edges, circuits, and where the task token matters.

All evidence is of one task at a time, never pooled over tasks. The overlap of two circuits is compared with two bounds:
that of circuits of two sets of prompts of one task, and that of a circuit of the same size whose edges are permuted.
Whether an edge differs between the tasks is tested by permuting the prompts' task labels, with the largest difference
over all edges as the statistic, so that the p-value holds however many edges there are. Where the task token matters:
`task_token.py`.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.circuits.discovery import Discovery, discover
from compo_mech.circuits.edge_patches import EdgePatches, RowScores
from compo_mech.circuits.overlap import (
    LEVEL,
    PermutationResult,
    jaccard,
    joined,
    permutation_test,
    permuted_overlap,
    standard_ranks,
)
from compo_mech.circuits.prompts import circuit_pairs, take_rows
from compo_mech.circuits.selection import top
from compo_mech.data.config import DataConfig
from compo_mech.data.shifts import Shifts
from compo_mech.data.tasks import Task
from compo_mech.interventions.edges import Edge
from compo_mech.interventions.head_roles import carried_share
from compo_mech.interventions.task_token import carried_across, patch_task_token_both_ways
from compo_mech.model.params import Model, init_params

if TYPE_CHECKING:
    import pandas as pd

Standing = Literal["shared", "first", "second", "undecided", "neither"]
"""An edge is both tasks', the first's or the second's alone, in one circuit with no difference shown, or in neither."""


@dataclass(frozen=True)
class Evidence:
    """Of one task, on two disjoint sets of prompts of its own.

    Attributes:
        task: whose prompts they are.
        found: what circuit there is, on either set.
        sets: scores of the rows of either set.
        x, end: fraction of the answers that follow the x_t, or the position of [EoI], that a head carries; None: not
            asked.
    """

    task: Task
    found: tuple[Discovery, Discovery]
    sets: tuple[RowScores, RowScores]
    x: Float[Tensor, "layer head"] | None
    end: Float[Tensor, "layer head"] | None


def evidence(model: Model, data: DataConfig, task: Task, shifts: Shifts, seed: int = 0, n_pairs: int = 48) -> Evidence:
    """Circuits, edge scores and heads' shares of one task.

    Args:
        model: the network.
        data: what it was trained on.
        task: one of the data's.
        shifts: of position ids, as in training or as built.
        seed: of all that is drawn.
        n_pairs: clean and corrupt inputs in each of the two sets.
    """
    generator = torch.Generator().manual_seed(seed)
    pairs = circuit_pairs(model, data, 2 * n_pairs, generator, task, shifts)
    sets = [take_rows(pairs, rows) for rows in torch.arange(2 * n_pairs, device=pairs.row.device).chunk(2)]
    passes = [EdgePatches.run(model, prompts) for prompts in sets]
    one, two = (discover(model, prompts, generator, patches=kept) for prompts, kept in zip(sets, passes, strict=True))
    x = end = None
    if data.chain_of_thought:
        x = carried_share(model, data, "x", generator, task=task)[0].cpu()
        if len(data.drawn_lengths) > 1:
            end = carried_share(model, data, "end", generator, task=task)[0].cpu()
    return Evidence(task, (one, two), (passes[0].by_row(), passes[1].by_row()), x, end)


def circuits_of(tasks: Sequence[Evidence]) -> tuple[list[list[frozenset[Edge]]], str]:
    """The circuit of each task on each set of prompts, and how they were chosen.

    Where a set shows none, all are the edges of highest score, as many as the median of those that were found, or a
    third of the network's: circuits of other making are not compared.
    """
    found = [discovery for task in tasks for discovery in task.found]
    if all(discovery.kept for discovery in found):
        return [[discovery.kept for discovery in task.found] for task in tasks], "as discovery keeps them"
    sizes = torch.tensor([len(d.kept) for d in found if d.kept] or [round(found[0].n_edges / 3)])
    n = int(sizes.median())
    chosen = [[top(discovery.scores, n) for discovery in task.found] for task in tasks]
    return chosen, f"the {n} edges of highest score, since not every set of prompts shows a circuit"


@dataclass(frozen=True)
class Sharing:
    """What two tasks share.

    Attributes:
        tasks: evidence of either.
        circuits: of either task on its first set of prompts.
        chosen: how they were.
        anywhere, same_kind: overlap of the circuits and rank correlation of the scores, with the second's edges
            permuted among all edges, and among edges whose reader is of the same kind.
        halves: the same two figures between both sets of prompts of either task: the most that could be seen.
        edges: columns edge, first_share, second_share (of the gap), difference, p, standing, differs; a row an edge.
        task_token: of `patch_task_token_both_ways`; None: it cannot be asked.
        across: shares of `carried_across`, by base task; None: it cannot be asked.
        unasked: why not.
    """

    tasks: tuple[Evidence, Evidence]
    circuits: tuple[frozenset[Edge], frozenset[Edge]]
    chosen: str
    anywhere: tuple[PermutationResult, PermutationResult]
    same_kind: tuple[PermutationResult, PermutationResult]
    halves: tuple[tuple[float, float], tuple[float, float]]
    edges: "pd.DataFrame"
    task_token: "pd.DataFrame | None"
    across: tuple[Float[Tensor, "layer head"], Float[Tensor, "layer head"]] | None
    unasked: str

    @property
    def names(self) -> tuple[str, str]:
        """Of the tasks, as short as tells them apart."""
        one, other = (evidence.task for evidence in self.tasks)
        return (one.name, other.name) if one.name != other.name else (str(one), str(other))

    @property
    def refusals(self) -> dict[str, str]:
        """Why no circuit is judged, by the name of the task where that is so."""
        found = zip(self.names, self.tasks, strict=True)
        return {name: d.reason for name, task in found for d in task.found if d.verdict == "cannot be told"}

    def tables(self) -> "dict[str, pd.DataFrame]":
        """Every result as a tidy table, by name."""
        first, second = self.names
        ends = {end: [str(getattr(edge, end)) for edge in self.edges["edge"]] for end in ("writer", "reader")}
        edges = self.edges.drop(columns="edge").assign(**ends, first=first, second=second)
        edges = edges[[*ends, *(name for name in edges.columns if name not in ends)]]
        tables = {"edges": edges, "overlap": self.overlap(), "heads": self.heads()}
        return tables if self.task_token is None else tables | {"task_token": self.task_token}

    def overlap(self) -> "pd.DataFrame":
        """Jaccard overlap and rank correlation, a row a statistic.

        Columns compared (tasks; or prompts: two sets of one task's), task (whose prompts), permuted_among (any edges;
        or edges of the same_kind of reader), statistic, value, permuted_low, permuted_high, p. Sets of prompts are not
        compared with permutations.
        """
        import pandas as pd

        statistics, rows = ("jaccard", "rank_correlation"), list[dict[str, object]]()
        for name, half in zip(self.names, self.halves, strict=True):
            for statistic, value in zip(statistics, half, strict=True):
                rows.append({"compared": "prompts", "task": name, "statistic": statistic, "value": value})
        for among, found in (("any", self.anywhere), ("same_kind", self.same_kind)):
            for statistic, result in zip(statistics, found, strict=True):
                row: dict[str, object] = {"compared": "tasks", "permuted_among": among, "statistic": statistic}
                row["value"] = result.value
                low, high = result.permuted.low, result.permuted.high
                rows.append(row | {"permuted_low": low, "permuted_high": high, "p": result.p})
        columns = ["compared", "task", "permuted_among", "statistic", "value", "permuted_low", "permuted_high", "p"]
        return pd.DataFrame(rows, columns=pd.Index(columns))

    def heads(self) -> "pd.DataFrame":
        """The share of each variable that each head carries.

        Columns layer, head, task (whose answers follow), variable (x or end), source (same_task or other_task: whose
        run the head's output is taken from), share; a row for each that was asked.
        """
        import pandas as pd

        rows = []
        for i, (task, name) in enumerate(zip(self.tasks, self.names, strict=True)):
            across = None if self.across is None else self.across[i]
            asked = (("x", "same_task", task.x), ("x", "other_task", across), ("end", "same_task", task.end))
            for variable, source, shares in asked:
                for layer, heads in enumerate([] if shares is None else shares.tolist()):
                    for head, share in enumerate(heads):
                        rows.append((layer, head, name, variable, source, share))
        return pd.DataFrame(rows, columns=pd.Index(["layer", "head", "task", "variable", "source", "share"]))


def compare(model: Model, data: DataConfig, one: Evidence, other: Evidence, seed: int = 0) -> Sharing:
    """Two tasks of one network beside each other.

    Args:
        model: the network.
        data: what it was trained on.
        one, other: evidence of two of its tasks.
        seed: of all that is drawn, and of the control's weights.
    """
    generator = torch.Generator().manual_seed(seed)
    tasks = (one, other)
    circuits, chosen = circuits_of(tasks)
    pairs = (circuits[0][0], circuits[1][0])
    shares = (one.sets[0].share, other.sets[0].share)
    hidden = [{e for e, h in zip(d.scores.edges, d.scores.unidentifiable, strict=True) if h} for d in
              (one.found[0], other.found[0])]  # fmt: skip
    seen = [i for i, edge in enumerate(one.sets[0].edges) if edge not in hidden[0] & hidden[1] - pairs[0] - pairs[1]]
    edges, some = [one.sets[0].edges[i] for i in seen], (shares[0][seen], shares[1][seen])
    halves = [
        (jaccard(*of), float(standard_ranks(task.sets[0].share[seen]) @ standard_ranks(task.sets[1].share[seen])))
        for of, task in zip(circuits, tasks, strict=True)
    ]
    tested = permutation_test(joined(*one.sets), joined(*other.sets), generator)
    standings = [standing(edge, pairs, p, change) for edge, p, change in
                 zip(tested["edge"], tested["p"], tested["difference"], strict=True)]  # fmt: skip
    task_token, across, unasked = None, None, ""
    shape = len(data.vocabulary), model.n_ctx
    weights = init_params(model.config, *shape, torch.Generator().manual_seed(seed))
    device = model.device
    control = Model({name: weight.to(device) for name, weight in weights.items()}, model.config)
    try:
        task_token = patch_task_token_both_ways(model, control, data, one.task, other.task, seed)
    except ValueError as error:  # the tasks or the data do not allow it, which is no fault of the run
        unasked = str(error)
    with suppress(ValueError):  # fewer tasks still leave room for an answer that x' alone explains
        across = (
            carried_across(model, data, one.task, other.task, generator),
            carried_across(model, data, other.task, one.task, generator),
        )
    return Sharing(
        tasks=tasks,
        circuits=pairs,
        chosen=chosen,
        anywhere=permuted_overlap(pairs, some, edges, generator),
        same_kind=permuted_overlap(pairs, some, edges, generator, same_kind=True),
        halves=(halves[0], halves[1]),
        edges=tested.assign(standing=standings, differs=tested["p"] <= LEVEL),
        task_token=task_token,
        across=across,
        unasked=unasked,
    )


def standing(edge: Edge, circuits: tuple[frozenset[Edge], frozenset[Edge]], p: float, difference: float) -> Standing:
    """What can be said of an edge: an edge of one circuit alone is that task's only if its score is higher as well."""
    inside = [edge in circuit for circuit in circuits]
    if not any(inside):
        return "neither"
    if all(inside):
        return "shared"
    if p <= LEVEL and (difference > 0) == inside[0]:
        return "first" if inside[0] else "second"
    return "undecided"
