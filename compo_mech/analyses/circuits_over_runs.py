"""How alike the circuits of several networks are: in how many each edge is, and how far any two overlap."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.analyses.dissection import Dissection
from compo_mech.interventions.edges import Edge
from compo_mech.stats.intervals import Interval, wilson

if TYPE_CHECKING:
    import pandas as pd

MIN_CIRCUITS = 3
"""Of fewer nothing is said about how alike they are: their runs cannot be drawn anew."""
N_RESAMPLES = 1000
N_PERMUTATIONS = 100


@dataclass(frozen=True)
class CircuitOfRun:
    """What a dissection found of one run's circuit.

    Attributes:
        task: that the network was asked about.
        edges: all that it has.
        kept: those in its circuit; None: it has none, or that cannot be told.
        of_control: whether the randomly initialised control has one.
    """

    task: str
    edges: tuple[Edge, ...]
    kept: frozenset[Edge] | None
    of_control: bool

    @classmethod
    def of(cls, found: Dissection) -> "CircuitOfRun":
        """Return what a dissection says of it."""
        own, control = found.trained.discovery, found.control.discovery
        kept = own.kept if own.verdict == "circuit" else None
        return cls(str(found.task), own.scores.edges, kept, control.verdict == "circuit")


@dataclass(frozen=True)
class CircuitsOverRuns:
    """How alike the circuits of networks of one shape are on one task.

    Attributes:
        task: that they were asked about.
        n_runs, n_of_controls: networks, and those of their controls that have a circuit.
        edges: all that each of the networks has.
        in_circuit: which edges are in each of the circuits there are.
        overlap: Jaccard index of two of these circuits, in the mean over all pairs, with the interval of a bootstrap
            over runs. None: there are too few circuits.
        permuted: the same of circuits of the same sizes, of edges drawn at random: chance.
    """

    task: str
    n_runs: int
    n_of_controls: int
    edges: tuple[Edge, ...]
    in_circuit: Float[Tensor, "circuit edge"]
    overlap: Interval | None
    permuted: Interval | None

    @property
    def sentences(self) -> list[str]:
        """How many have a circuit, beside their controls, and how alike these are, beside chance."""
        n = len(self.in_circuit)
        found = [
            f"{self.task}: {n} of {self.n_runs} networks have a circuit ({wilson(n, self.n_runs)}; "
            f"controls: {self.n_of_controls} of {self.n_runs})."
        ]
        if self.overlap is not None:
            in_all = int((self.in_circuit.sum(0) == n).sum())
            found.append(
                f"Two of their circuits overlap by {self.overlap} (circuits of as many edges at random: "
                f"{self.permuted}); {in_all} of {len(self.edges)} edges are in all of them."
            )
        return found

    def table(self) -> "pd.DataFrame":
        """Return a row an edge: task, writer, reader, in how many circuits it is, of how many, the fraction and its
        interval (Wilson)."""
        import pandas as pd

        n = len(self.in_circuit)
        rows = []
        for edge, k in zip(self.edges, self.in_circuit.sum(0).int().tolist(), strict=True):
            share = wilson(k, n) if n else Interval(*[float("nan")] * 3)
            rows.append((self.task, str(edge.writer), str(edge.reader), k, n, *share))
        columns = ["task", "writer", "reader", "n_circuits_with", "n_circuits", "fraction", "low", "high"]
        return pd.DataFrame(rows, columns=columns)


def circuits_over_runs(found: Sequence[CircuitOfRun], generator: torch.Generator) -> list[CircuitsOverRuns]:
    """Compare the circuits of networks of one shape on one task; several such groups one after the other.

    Args:
        found: of each run and task.
        generator: draws runs and edges.

    >>> from compo_mech import ModelConfig, all_edges
    >>> edges = tuple(all_edges(ModelConfig())[:4])
    >>> runs = [CircuitOfRun("parity", edges, frozenset(edges[:2]), False) for _ in range(3)]
    >>> print(*circuits_over_runs(runs, torch.Generator().manual_seed(0))[0].sentences[1:])
    Two of their circuits overlap by 1.00 (1.00 .. 1.00) (circuits of as many edges at random: 0.39 (0.22 .. 0.56)); \
2 of 4 edges are in all of them.
    """
    groups: dict[tuple[str, frozenset[Edge]], list[CircuitOfRun]] = {}
    for one in found:
        groups.setdefault((one.task, frozenset(one.edges)), []).append(one)
    return [_compared(task, runs[0].edges, runs, generator) for (task, _), runs in groups.items()]


def _compared(
    task: str, edges: tuple[Edge, ...], runs: Sequence[CircuitOfRun], generator: torch.Generator
) -> CircuitsOverRuns:
    kept = [run.kept for run in runs if run.kept is not None]
    inside = torch.tensor([[edge in circuit for edge in edges] for circuit in kept], dtype=torch.float64)
    inside = inside.view(len(kept), len(edges))
    overlap = permuted = None
    if len(kept) >= MIN_CIRCUITS:
        pairs = _overlaps(inside)
        draws = torch.randint(len(kept), (N_RESAMPLES, len(kept)), generator=generator)
        resampled = [value for value in (_mean_of_pairs(pairs, draw) for draw in draws) if value is not None]
        overlap = Interval(_mean(pairs), *Interval.of(resampled)[1:])
        orders = (torch.rand(inside.shape, generator=generator).argsort(1) for _ in range(N_PERMUTATIONS))
        permuted = Interval.of([_mean(_overlaps(inside.gather(1, order))) for order in orders])
    n_of_controls = sum(run.of_control for run in runs)
    return CircuitsOverRuns(task, len(runs), n_of_controls, edges, inside, overlap, permuted)


def _overlaps(inside: Float[Tensor, "circuit edge"]) -> Float[Tensor, "circuit circuit"]:
    """The Jaccard index of every two circuits: 1 of two that are empty."""
    shared, size = inside @ inside.T, inside.sum(1)
    either = size[:, None] + size - shared
    return torch.where(either > 0, shared / either, 1.0)


def _mean(pairs: Float[Tensor, "circuit circuit"]) -> float:
    """The mean over pairs of two circuits."""
    one, other = torch.triu_indices(len(pairs), len(pairs), 1)
    return float(pairs[one, other].mean())


def _mean_of_pairs(pairs: Float[Tensor, "circuit circuit"], draw: Tensor) -> float | None:
    """The mean over pairs of runs that were drawn; a run drawn twice is no pair of two. None: one alone was drawn."""
    distinct = draw[:, None] != draw
    return float(pairs[draw][:, draw][distinct].mean()) if distinct.any() else None
