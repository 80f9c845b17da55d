"""Rule or table, by behaviour: is the state right at pairs (i, j) that never occurred together in training?

In a run that left some lengths out there are pairs of a row's position i and [EoI]'s position j that no
training string had, though each i, each j and each t occurred in others. A complete table of pairs has no entry for
them; a rule needs none. Without such pairs the two cannot be distinguished.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from compo_mech.causal.row_patching import trace_rows
from compo_mech.causal.rows import Rows, draw_inputs, rows_of
from compo_mech.data.config import DataConfig
from compo_mech.data.stream import TrainingStream
from compo_mech.data.tasks import Task
from compo_mech.interventions.row_traces import RowTrace
from compo_mech.model.finite import likeliest
from compo_mech.model.params import Model
from compo_mech.model.sites import Site
from compo_mech.probing.additivity import share_right
from compo_mech.runs.config import RunConfig
from compo_mech.stats.intervals import ROUNDING, Interval

N_STRINGS = 64
"""Strings of each pair."""

RULE, TABLE = 0.8, 0.5
"""At unseen pairs a rule keeps at least the first fraction of the accuracy that trained pairs have above the best
guess, a table at most the second: without a pointer attention is spread, and some of x_t is in the mean of all
inputs."""

ROOM = 0.1
"""By so much the accuracy at trained pairs must exceed the best guess, or nothing is told of others."""

MIN_PAIRS = 6
"""The fewest unseen pairs that tell anything: all of five lie on one side of a level by chance once in sixteen times,
more often than an interval of 95% is wrong."""

Pair = tuple[int, int]


class Exposure(NamedTuple):
    """Pairs (i, j) that were never trained on although each of i, j and t was, and pairs that were trained on."""

    unseen: frozenset[Pair]
    trained: frozenset[Pair]

    @classmethod
    def of(cls, config: RunConfig) -> "Exposure":
        """Read the exposure from the settings of a run."""
        return cls(unseen_pairs(config), trained_pairs(config, shifted=False))


@dataclass(frozen=True)
class UnseenPairs:
    """Accuracy at pairs that were trained on and at unseen pairs.

    Attributes:
        unseen: the pairs never trained on; of fewer than `MIN_PAIRS` it cannot be told what the network does.
        seen_accuracy, unseen_accuracy: fraction of states that are right, with a bootstrap over pairs.
        guess: accuracy of the best guess of s_t from s_{t-1} without x_t.
        rescued: accuracy at the unseen pairs with the query of a trained pair of the same t patched in, all heads'
            together; None where there is no such pair or no layer 1.
    """

    unseen: tuple[Pair, ...]
    seen_accuracy: Interval
    unseen_accuracy: Interval
    guess: float
    rescued: Interval | None

    @property
    def levels(self) -> tuple[float, float]:
        """Accuracy at unseen pairs from which on it is a rule, and up to which it is a table."""
        room = self.seen_accuracy.mean - self.guess
        return self.guess + RULE * room, self.guess + TABLE * room

    @property
    def verdict(self) -> Literal["rule", "table", "neither", "not able", "cannot be told"]:
        """`not able`: at trained pairs the network does no better than a guess either; `cannot be told`: too few
        pairs are unseen."""
        if self.seen_accuracy.mean - self.guess < ROOM - ROUNDING:
            return "not able"
        if len(self.unseen) < MIN_PAIRS:
            return "cannot be told"
        rule, table = self.levels
        if self.unseen_accuracy.low >= rule - ROUNDING:
            return "rule"
        return "table" if self.unseen_accuracy.high <= table + ROUNDING else "neither"


def trained_pairs(config: RunConfig, shifted: bool) -> frozenset[Pair]:
    """Return every pair (i, j), t >= 2, of a training string, at unshifted positions or, if `shifted`, at all shifts
    trained on."""
    stream, layout = TrainingStream(config.data, config.seed), config.data.layout
    lengths = {length for step in range(1, config.train.n_steps + 1) for length in stream.lengths(step)}
    return frozenset(
        (i + shift, layout.end_of_input(length) + shift)
        for length in lengths
        for i in list(layout.scored(length))[1:-1]
        for shift in range(config.train.max_position_shift + 1 if shifted else 1)
    )


def unseen_pairs(config: RunConfig) -> frozenset[Pair]:
    """Return the pairs of the data's lengths that were never trained on, while each i, each j and each t was in other
    pairs."""
    seen = trained_pairs(config, shifted=True)
    known_i, known_j, known_t = {i for i, _ in seen}, {j for _, j in seen}, {i - j for i, j in seen}
    return frozenset(
        (i, j)
        for i, j in data_pairs(config.data)
        if (i, j) not in seen and i in known_i and j in known_j and i - j in known_t
    )


def data_pairs(data: DataConfig) -> list[Pair]:
    """Return every pair (i, j), t >= 2, of rows that predict a state."""
    ends = ((length, data.layout.end_of_input(length)) for length in data.lengths)
    return [(i, j) for length, j in ends for i in list(data.layout.scored(length))[1:-1]]


@torch.no_grad()
def ask_unseen_pairs(model: Model, data: DataConfig, task: Task, exposure: Exposure, seed: int) -> UnseenPairs | None:
    """Measure accuracy at unseen pairs and at those that were trained on; None where there are none of either.

    Args:
        model: the network.
        data: tasks, lengths and layout.
        task: one of the data's.
        exposure: which pairs were trained on.
        seed: of the strings and the bootstrap.
    """
    generator = torch.Generator().manual_seed(seed)
    layout = data.layout
    every = [(layout.length_of(j), layout.predicted(i, layout.length_of(j))) for i, j in data_pairs(data)]
    every = torch.tensor(every).repeat_interleave(N_STRINGS, 0)
    rows = rows_of(data, task, every, draw_inputs(data, task, len(every), generator))
    rows = rows.to(model.device)
    pairs = list(zip(rows.position.tolist(), rows.end.tolist(), strict=True))
    new = torch.tensor([pair in exposure.unseen for pair in pairs], device=model.device)
    old = torch.tensor([pair in exposure.trained for pair in pairs], device=model.device) & ~new
    if not new.any() or not old.any():
        return None
    found = trace_rows(model, rows)
    right = likeliest(found.logits) == rows.answer
    table = task.table[:, task.first_input :]
    guesses = torch.stack([torch.bincount(row).max() / table.shape[1] for row in table])
    rescued = _rescued(model, rows, found, new, old, generator) if model.config.n_layers > 1 else None
    return UnseenPairs(
        unseen=tuple(sorted(exposure.unseen & set(pairs))),
        seen_accuracy=_over_pairs(right[old], generator),
        unseen_accuracy=_over_pairs(right[new], generator),
        guess=float(guesses[rows.s[new].cpu()].mean()),
        rescued=rescued,
    )


def _rescued(
    model: Model,
    rows: Rows,
    found: RowTrace,
    new: Bool[Tensor, "row"],
    old: Bool[Tensor, "row"],
    generator: torch.Generator,
) -> Interval | None:
    """Accuracy with the query of a trained pair of the same t patched in."""
    site = Site("q", 1)
    query = found.at(site)
    donors = {int(t): query[old & (rows.t == t)] for t in rows.t[new].unique()}
    if not all(map(len, donors.values())):
        return None
    drawn = query.clone()
    for t, queries in donors.items():
        here = new & (rows.t == t)
        drawn[here] = queries[torch.randint(len(queries), (int(here.sum()),), generator=generator).to(queries.device)]
    return share_right(model, rows, found, site, drawn - query, only=new)


def _over_pairs(right: Tensor, generator: torch.Generator, n_boot: int = 1000) -> Interval:
    """Mean over pairs with a bootstrap over pairs; one pair says nothing of how pairs differ."""
    shares = right.cpu().view(-1, N_STRINGS).double().mean(1)
    if len(shares) == 1:
        return Interval(float(shares[0]), 0.0, 1.0)
    drawn = torch.randint(len(shares), (n_boot, len(shares)), generator=generator)
    low, high = Interval.of(shares[drawn].mean(1).tolist())[1:]
    return Interval(float(shares.mean()), low, high)
