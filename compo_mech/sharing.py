"""What two tasks of one network share: heads, edges, circuits, and which parts are told the task.

All evidence is of one task at a time, never pooled over tasks. How far two circuits overlap is said
beside two bounds: how far circuits of two sets of prompts of one task do, and how far a circuit of the
same size does that is dealt at random. Whether an edge differs between the tasks is tested by dealing
all prompts to two groups at random, with the largest difference over all edges as the statistic, so
that the p-value holds however many edges there are. Where the task is told: `task_token.py`.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.circuits import top
from compo_mech.counterfactuals import Pairs
from compo_mech.data import DataConfig
from compo_mech.discovery import Discovery, discover, jaccard, take_rows
from compo_mech.dissection import circuit_pairs
from compo_mech.edges import TOLERANCE
from compo_mech.graph import LOGITS, Edge, Model, all_edges, run_both, run_patched, writers_before
from compo_mech.heads import carried_share
from compo_mech.metrics import Interval
from compo_mech.model import init_params
from compo_mech.task_token import carried_across, told_both_ways
from compo_mech.tasks import Task

N_DEALS = 999
LEVEL = 0.05
"""An edge differs between tasks if its corrected p-value is at most this."""

SMALLEST_GAP = 0.05
"""Nats that a task is taken to have to explain at least, so that little is not divided by nothing."""

Standing = Literal["shared", "shared, of other strength", "only first", "only second", "undecided", "neither"]


# --------------------------------------------------------------------------- edges, row by row


@dataclass(frozen=True)
class RowScores:
    """What each edge is worth on each row of pairs.

    Attributes:
        edges: all of the network's.
        rise: of the cross-entropy when an edge is patched, summed over a row's scored places, in nats.
        gap: the same when the whole input is the corrupt one, with the clean answers.
        n_scored: places of each row.
    """

    edges: tuple[Edge, ...]
    rise: Float[Tensor, "edge row"]
    gap: Float[Tensor, "row"]
    n_scored: Int[Tensor, "row"]

    def shares(self, groups: Float[Tensor, "group row"]) -> Float[Tensor, "group edge"]:
        """Each edge's rise as a share of the gap, over the rows that each group counts."""
        n = groups @ self.n_scored.double()
        gap = (groups @ self.gap / n).clamp(min=SMALLEST_GAP)
        return groups @ self.rise.T / n[:, None] / gap[:, None]

    @property
    def share(self) -> Float[Tensor, "edge"]:
        """The same over all rows."""
        return self.shares(torch.ones(1, len(self.gap), dtype=torch.float64))[0]


@torch.no_grad()
def row_scores(model: Model, pairs: Pairs) -> RowScores:
    """Patch each edge in turn, as `edges.exact` does, and keep the rows apart.

    Raises:
        ValueError: the model cannot read the pairs.
    """
    runs, edges, n = run_both(model, pairs), all_edges(model.config), len(pairs.clean_tokens)
    row = pairs.row.cpu()

    def by_row(logits: Tensor) -> Tensor:
        rise = F.cross_entropy(logits, pairs.target, reduction="none") - base
        return torch.zeros(n, dtype=torch.float64).index_add(0, row, rise.double().cpu())

    base = F.cross_entropy(runs.logits, pairs.target, reduction="none")
    rise = torch.stack([by_row(run_patched(model, pairs, runs, [edge])) for edge in edges])
    into_logits = [Edge(writer, LOGITS) for writer in writers_before(LOGITS, model.config)]
    gap = by_row(run_patched(model, pairs, runs, into_logits))
    return RowScores(tuple(edges), rise, gap, torch.bincount(row, minlength=n))


def joined(one: RowScores, other: RowScores) -> RowScores:
    """The rows of both, one after the other."""
    parts = zip((one.rise, one.gap, one.n_scored), (other.rise, other.gap, other.n_scored), strict=True)
    return RowScores(one.edges, *(torch.cat(part, -1) for part in parts))


def label_test(one: RowScores, other: RowScores, generator: torch.Generator, n_deals: int = N_DEALS) -> pd.DataFrame:
    """Does an edge's share of the gap differ between two sets of rows, more than between rows dealt at random?

    Under no difference rows are exchangeable: they are dealt to two groups of the same sizes. Each
    difference is taken in units of its standard deviation over deals, and an edge's p-value is that of
    the largest over all edges (Westfall and Young 1993).

    Args:
        one, other: rows of either task.
        generator: deals.
        n_deals: how often.

    Returns:
        Columns edge, one, other, difference, p; a row an edge.
    """
    every, n_one = joined(one, other), one.rise.shape[1]
    n_rows = every.rise.shape[1]
    first = torch.zeros(n_deals + 1, n_rows, dtype=torch.float64)
    order = torch.rand(n_deals + 1, n_rows, generator=generator).argsort(1)
    order[0] = torch.arange(n_rows)  # as it is
    first.scatter_(1, order[:, :n_one], 1.0)
    difference = every.shares(first) - every.shares(1 - first)
    spread = difference.std(0)
    size = torch.where(spread > TOLERANCE, difference.abs() / spread.clamp(min=TOLERANCE), 0.0)
    largest = size[1:].amax(1)
    n_beyond = (largest[:, None] >= size[0] - TOLERANCE).sum(0)
    columns = {"one": one.share, "other": other.share, "difference": difference[0], "p": (n_beyond + 1) / (n_deals + 1)}
    return pd.DataFrame({"edge": list(every.edges)} | {name: column.tolist() for name, column in columns.items()})


# ------------------------------------------------------------------------- overlap of circuits


@dataclass(frozen=True)
class Chance:
    """A figure beside what it is when edges are dealt at random.

    Attributes:
        value: the figure.
        dealt: its mean and 95% range over deals.
        p: share of deals, the actual one among them, that come up to it.
    """

    value: float
    dealt: Interval
    p: float

    def __str__(self) -> str:
        return f"{self.value:.2f} (dealt at random {self.dealt.low:.2f} .. {self.dealt.high:.2f}, p = {self.p:.3f})"


def standard_ranks(values: Float[Tensor, "edge"]) -> Float[Tensor, "edge"]:
    """Ranks, ties at their mean, about 0 and of length 1: the product of two sums to Spearman's correlation.

    All 0 where the values are constant.
    """
    ranks = torch.tensor(pd.Series(values.tolist()).rank().tolist(), dtype=torch.float64)
    ranks = ranks - ranks.mean()
    return ranks / ranks.norm().clamp(min=TOLERANCE)


def dealt_overlap(
    circuits: tuple[frozenset[Edge], frozenset[Edge]],
    shares: tuple[Float[Tensor, "edge"], Float[Tensor, "edge"]],
    edges: Sequence[Edge],
    generator: torch.Generator,
    n_deals: int = N_DEALS,
    same_kind: bool = False,
) -> tuple[Chance, Chance]:
    """Jaccard overlap of two circuits and rank correlation of their scores, beside deals of the second's edges.

    Args:
        circuits: the two.
        shares: scores of the edges for either task.
        edges: among which they are dealt: those that can be in a circuit at all.
        generator: deals.
        n_deals: how often.
        same_kind: an edge can only become one whose reader is of its kind (q, k, v, mlp, logits).

    Raises:
        ValueError: a circuit has an edge that is not among these.
    """
    if not circuits[0] | circuits[1] <= set(edges):
        raise ValueError("circuits = with other edges: must lie among the edges that are dealt")
    kinds = [edge.reader.kind if same_kind else "" for edge in edges]
    group = torch.tensor([sorted(set(kinds)).index(kind) for kind in kinds]).double()
    home = group.argsort(stable=True)
    drawn = (group + torch.rand(n_deals, len(edges), generator=generator, dtype=torch.float64)).argsort(1)
    deal = torch.empty_like(drawn)
    deal[:, home] = drawn
    deal = torch.cat([torch.arange(len(edges))[None], deal])
    inside = [torch.tensor([edge in circuit for edge in edges]) for circuit in circuits]
    both, either = ((op(inside[0], inside[1][deal])).sum(1) for op in (torch.logical_and, torch.logical_or))
    overlap = torch.where(either > 0, both / either.clamp(min=1), 1.0).double()
    one, other = map(standard_ranks, shares)
    return _chance(overlap), _chance((one * other[deal]).sum(-1))


def _chance(values: Float[Tensor, "deal"]) -> Chance:
    """The first is the actual one."""
    n_beyond = int((values[1:] >= values[0] - TOLERANCE).sum())
    return Chance(float(values[0]), Interval.of(values[1:].tolist()), (n_beyond + 1) / len(values))


# --------------------------------------------------------------------------- one task's evidence


@dataclass(frozen=True)
class Evidence:
    """Of one task, on two disjoint sets of prompts of its own.

    Attributes:
        task: whose prompts they are.
        found: circuit or no circuit, on either set.
        sets: scores of the rows of either set.
        x, end: share of the answers that follow the x_t, or the place of [EoI], that a head carries; None: not asked.
    """

    task: Task
    found: tuple[Discovery, Discovery]
    sets: tuple[RowScores, RowScores]
    x: Float[Tensor, "layer head"] | None
    end: Float[Tensor, "layer head"] | None


def evidence(model: Model, data: DataConfig, task: Task, seed: int = 0, n_pairs: int = 48) -> Evidence:
    """Circuits, edge scores and heads' shares of one task.

    Args:
        model: the network.
        data: what it was trained on.
        task: one of the data's.
        seed: of all that is drawn.
        n_pairs: clean and corrupt inputs in each of the two sets.
    """
    generator = torch.Generator().manual_seed(seed)
    pairs = circuit_pairs(model, data, 2 * n_pairs, generator, task)
    sets = [take_rows(pairs, rows) for rows in torch.arange(2 * n_pairs, device=pairs.row.device).chunk(2)]
    one, two = (discover(model, part, generator) for part in sets)
    x = end = None
    if data.chain_of_thought:
        x = carried_share(model, data, "x", generator, task=task)[0].cpu()
        if len(data.lengths) > 1:
            end = carried_share(model, data, "end", generator, task=task)[0].cpu()
    return Evidence(task, (one, two), (row_scores(model, sets[0]), row_scores(model, sets[1])), x, end)


def circuits_of(tasks: Sequence[Evidence]) -> tuple[list[list[frozenset[Edge]]], str]:
    """The circuit of each task on each set of prompts, and how they were chosen.

    Where a set shows none, all are the edges of highest score, as many as the median of those that
    were found, or a third of the network's: circuits of other making are not compared.
    """
    found = [discovery for task in tasks for discovery in task.found]
    if all(discovery.kept for discovery in found):
        return [[discovery.kept for discovery in task.found] for task in tasks], "as discovery keeps them"
    sizes = torch.tensor([len(d.kept) for d in found if d.kept] or [round(found[0].n_edges / 3)])
    n = int(sizes.median())
    chosen = [[top(discovery.scores, n) for discovery in task.found] for task in tasks]
    return chosen, f"the {n} edges of highest score, since not every set of prompts shows a circuit"


# ------------------------------------------------------------------------------- the comparison


@dataclass(frozen=True)
class Sharing:
    """What two tasks share.

    Attributes:
        tasks: evidence of either.
        circuits: of either task on its first set of prompts.
        chosen: how they were.
        anywhere, same_kind: overlap of the circuits and rank correlation of the scores, beside deals of
            the second's edges over all edges, and among edges whose reader is of the same kind.
        halves: the same two figures between both sets of prompts of either task: the most that could be seen.
        edges: columns edge, one, other (share of the gap), difference, p, standing; a row an edge.
        told: of `told_both_ways`; None: it cannot be asked.
        across: shares of `carried_across`, by base task; None: it cannot be asked.
        unasked: why not.
    """

    tasks: tuple[Evidence, Evidence]
    circuits: tuple[frozenset[Edge], frozenset[Edge]]
    chosen: str
    anywhere: tuple[Chance, Chance]
    same_kind: tuple[Chance, Chance]
    halves: tuple[tuple[float, float], tuple[float, float]]
    edges: pd.DataFrame
    told: pd.DataFrame | None
    across: tuple[Float[Tensor, "layer head"], Float[Tensor, "layer head"]] | None
    unasked: str

    @property
    def names(self) -> tuple[str, str]:
        """Of the tasks, as short as tells them apart."""
        one, other = (evidence.task for evidence in self.tasks)
        return (one.name, other.name) if one.name != other.name else (str(one), str(other))

    def tables(self) -> dict[str, pd.DataFrame]:
        """Every result as a tidy table, by name."""
        first, second = self.names
        edges = self.edges.assign(edge=self.edges["edge"].map(str), first=first, second=second)
        tables = {"edges": edges, "overlap": self.overlap(), "heads": self.heads()}
        return tables if self.told is None else tables | {"told": self.told}

    def overlap(self) -> pd.DataFrame:
        """Columns circuits, jaccard, rank_correlation, and for deals the 95% range and p of both."""
        names = [f"{name}, two sets of prompts" for name in self.names]
        rows: list[dict[str, object]] = [
            {"circuits": name, "jaccard": half[0], "rank_correlation": half[1]}
            for name, half in zip(names, self.halves, strict=True)
        ]
        for name, chances in (("any edges", self.anywhere), ("edges of the same reader kind", self.same_kind)):
            row: dict[str, object] = {"circuits": f"{' and '.join(self.names)}; dealt among {name}"}
            for figure, chance in zip(("jaccard", "rank_correlation"), chances, strict=True):
                row |= {figure: chance.value, f"{figure}_dealt_low": chance.dealt.low,
                        f"{figure}_dealt_high": chance.dealt.high, f"{figure}_p": chance.p}  # fmt: skip
            rows.append(row)
        return pd.DataFrame(rows)

    def heads(self) -> pd.DataFrame:
        """Columns head, then for either task its shares of x_t, of x_t from the other task's run, and of the end."""
        first = self.tasks[0].x
        rows = []
        for layer, head in [] if first is None else [(i, j) for i in range(len(first)) for j in range(first.shape[1])]:
            row: dict[str, object] = {"head": f"L{layer}H{head}"}
            for i, (task, name) in enumerate(zip(self.tasks, self.names, strict=True)):
                across = None if self.across is None else self.across[i]
                for what, share in (("x_t", task.x), ("x_t from the other task", across), ("end", task.end)):
                    row[f"{name}: {what}"] = None if share is None else float(share[layer, head])
            rows.append(row)
        return pd.DataFrame(rows)


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
    tested = label_test(joined(*one.sets), joined(*other.sets), generator)
    standings = [standing(edge, pairs, p, change) for edge, p, change in
                 zip(tested["edge"], tested["p"], tested["difference"], strict=True)]  # fmt: skip
    told, across, unasked = None, None, ""
    shape = len(data.vocabulary), len(model.params["pos_embed.W_pos"])
    weights = init_params(model.config, *shape, torch.Generator().manual_seed(seed))
    device = model.params["embed.W_E"].device
    fresh = Model({name: weight.to(device) for name, weight in weights.items()}, model.config)
    try:
        told = told_both_ways(model, fresh, data, one.task, other.task, seed)
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
        anywhere=dealt_overlap(pairs, some, edges, generator),
        same_kind=dealt_overlap(pairs, some, edges, generator, same_kind=True),
        halves=(halves[0], halves[1]),
        edges=tested.assign(standing=standings),
        told=told,
        across=across,
        unasked=unasked,
    )


def standing(edge: Edge, circuits: tuple[frozenset[Edge], frozenset[Edge]], p: float, difference: float) -> Standing:
    """What can be said of an edge: an edge of one circuit alone is that task's only if its score is higher as well."""
    inside = [edge in circuit for circuit in circuits]
    if not any(inside):
        return "neither"
    if all(inside):
        return "shared, of other strength" if p <= LEVEL else "shared"
    if p <= LEVEL and (difference > 0) == inside[0]:
        return "only first" if inside[0] else "only second"
    return "undecided"
