"""How alike the circuits of several networks are: in how many each edge is, and how far any two overlap."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.analyses.dissection import Dissection
from compo_mech.circuits.discovery import DiscoveryVerdict
from compo_mech.interventions.edges import Edge
from compo_mech.model.config import ModelConfig
from compo_mech.stats.intervals import Interval, counted, wilson

if TYPE_CHECKING:
    import pandas as pd

MIN_CIRCUITS = 6
"""Of fewer nothing is said about how alike they are: resampled, so few runs give no interval."""
N_RESAMPLES = 1000
N_PERMUTATIONS = 100


@dataclass(frozen=True)
class CircuitOfRun:
    """What a dissection found of one run's circuit.

    Attributes:
        task: that the network was asked about.
        shape: of the network, in words: layers, heads, and what else its edges depend on.
        edges: all that it has.
        effects: of each, patched by itself, in nats; numbers, since a tensor that a process sends keeps a file open.
        verdict: on whether it has a circuit.
        kept: the edges in it; empty where there is none.
        control: the verdict on the randomly initialised control.
    """

    task: str
    shape: str
    edges: tuple[Edge, ...]
    effects: tuple[float, ...]
    verdict: DiscoveryVerdict
    kept: frozenset[Edge]
    control: DiscoveryVerdict

    @classmethod
    def of(cls, found: Dissection) -> "CircuitOfRun":
        """Return what a dissection says of it."""
        own, scores = found.trained.discovery, found.trained.discovery.scores
        kept = own.kept if own.verdict == "circuit" else frozenset()
        control, shape = found.control.discovery.verdict, shape_of(found.model.config)
        return cls(str(found.task), shape, scores.edges, tuple(scores.scores.tolist()), own.verdict, kept, control)


def shape_of(config: ModelConfig) -> str:
    """Return what edges a network has, in words.

    >>> shape_of(ModelConfig()), shape_of(ModelConfig(n_heads=4, n_key_value_heads=2, positional_embedding="rotary"))
    ('2 layers of 1 head', '2 layers of 4 heads, 2 key-value heads, rotary positions')
    """
    words = [f"{counted(config.n_layers, 'layer')} of {counted(config.n_heads, 'head')}"]
    if config.n_kv_heads != config.n_heads:
        words.append(counted(config.n_kv_heads, "key-value head"))
    if config.positional_embedding != "standard":
        words.append("no positions" if config.positional_embedding == "none" else "rotary positions")
    words += ["no MLPs"] * config.attn_only + ["MLPs parallel to attention"] * config.parallel_attn_mlp
    return ", ".join(words)


@dataclass(frozen=True)
class CircuitsOverRuns:
    """How alike the circuits are of networks that have the same edges, on one task.

    Attributes:
        runs: the networks.
        in_circuit: which edges are in each of the circuits there are.
        overlap: Jaccard index of two of these circuits, in the mean over all pairs, with the interval of a bootstrap
            over runs. None: there are too few circuits.
        permuted: the same of circuits of the same sizes, of edges drawn at random: chance.
    """

    runs: tuple[CircuitOfRun, ...]
    in_circuit: Float[Tensor, "circuit edge"]
    overlap: Interval | None
    permuted: Interval | None

    @property
    def edges(self) -> tuple[Edge, ...]:
        """All that each of the networks has."""
        return self.runs[0].edges

    @property
    def sentences(self) -> list[str]:
        """How many have a circuit, and how many of their controls, and how alike these are, beside chance."""
        n, n_runs, first = len(self.in_circuit), len(self.runs), self.runs[0]
        n_of_controls = sum(run.control == "circuit" for run in self.runs)
        found = [
            f"{first.task}, {first.shape}: a circuit in {n} of {counted(n_runs, 'network')}, a fraction of "
            f"{wilson(n, n_runs)}{_untold(run.verdict for run in self.runs)}. Of the randomly initialised controls "
            f"{n_of_controls} have one{_untold(run.control for run in self.runs)}."
        ]
        if self.overlap is None or self.permuted is None:
            return [*found, f"How alike circuits are is asked of {MIN_CIRCUITS} or more."]
        in_all = int((self.in_circuit.sum(0) == n).sum())
        return [
            *found,
            f"Any two circuits overlap by a Jaccard index of {self.overlap}, circuits of as many edges at random by "
            f"{self.permuted}; {in_all} of {len(self.edges)} edges are in all circuits.",
        ]

    def table(self) -> "pd.DataFrame":
        """Return a row an edge: task, shape, writer, reader, in how many circuits it is, of how many, the fraction, its
        interval (Wilson), and the median of its effects over all runs (nats)."""
        import pandas as pd

        n = len(self.in_circuit)
        effects = map(statistics.median, zip(*(run.effects for run in self.runs), strict=True))
        rows = []
        for edge, k, effect in zip(self.edges, self.in_circuit.sum(0).int().tolist(), effects, strict=True):
            share = wilson(k, n) if n else Interval(*[float("nan")] * 3)
            place = (self.runs[0].task, self.runs[0].shape, str(edge.writer), str(edge.reader))
            rows.append((*place, k, n, *share, effect))
        columns = ["task", "shape", "writer", "reader", "n_circuits_with", "n_circuits", "fraction", "low", "high"]
        return pd.DataFrame(rows, columns=[*columns, "median_effect"])


def _untold(verdicts: Iterable[DiscoveryVerdict]) -> str:
    n = sum(verdict == "cannot be told" for verdict in verdicts)
    return f"; of {n} it cannot be told" if n else ""


def circuits_over_runs(found: Sequence[CircuitOfRun], generator: torch.Generator) -> list[CircuitsOverRuns]:
    """Compare the circuits of networks that have the same edges, on one task; several such groups one after the other.

    Args:
        found: of each run and task.
        generator: draws runs and edges.

    >>> from compo_mech import ModelConfig, all_edges
    >>> edges = tuple(all_edges(ModelConfig())[:4])
    >>> one = CircuitOfRun("parity", "of one kind", edges, (1.0,) * 4, "circuit", frozenset(edges[:2]), "no circuit")
    >>> first, second = circuits_over_runs([one] * 6, torch.Generator().manual_seed(0))[0].sentences
    >>> first.split(", a fraction")[0], second.split("; ")[1]
    ('parity, of one kind: a circuit in 6 of 6 networks', '2 of 4 edges are in all circuits.')
    """
    groups: dict[tuple[str, str, tuple[Edge, ...]], list[CircuitOfRun]] = {}
    for one in found:
        groups.setdefault((one.task, one.shape, one.edges), []).append(one)
    return [_compared(tuple(runs), generator) for runs in groups.values()]


def _compared(runs: tuple[CircuitOfRun, ...], generator: torch.Generator) -> CircuitsOverRuns:
    kept, edges = [run.kept for run in runs if run.verdict == "circuit"], runs[0].edges
    inside = torch.tensor([[edge in circuit for edge in edges] for circuit in kept], dtype=torch.float64)
    inside = inside.view(len(kept), len(edges))
    if len(kept) < MIN_CIRCUITS:
        return CircuitsOverRuns(runs, inside, None, None)
    pairs = _overlaps(inside).fill_diagonal_(0)
    draws = torch.randint(len(kept), (N_RESAMPLES, len(kept)), generator=generator)
    times = torch.zeros(draws.shape, dtype=torch.float64).scatter_add_(1, draws, torch.ones_like(draws).double())
    n_pairs = len(kept) ** 2 - times.square().sum(1)  # of different runs: a run drawn twice is no pair
    resampled = ((times @ pairs * times).sum(1) / n_pairs)[n_pairs > 0]
    orders = (torch.rand(inside.shape, generator=generator).argsort(1) for _ in range(N_PERMUTATIONS))
    permuted = Interval.of([_mean(_overlaps(inside.gather(1, order))) for order in orders])
    return CircuitsOverRuns(runs, inside, Interval(_mean(pairs), *Interval.of(resampled.tolist())[1:]), permuted)


def _overlaps(inside: Float[Tensor, "circuit edge"]) -> Float[Tensor, "circuit circuit"]:
    """The Jaccard index of every two circuits: 1 of two that are empty."""
    shared, size = inside @ inside.T, inside.sum(1)
    either = size[:, None] + size - shared
    return torch.where(either > 0, shared / either, 1.0)


def _mean(pairs: Float[Tensor, "circuit circuit"]) -> float:
    """The mean over pairs of two circuits."""
    one, other = torch.triu_indices(len(pairs), len(pairs), 1)
    return float(pairs[one, other].mean())
