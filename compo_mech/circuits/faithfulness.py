"""Running a circuit: faithfulness, and its curve over circuits of growing size, beside random ones.

A circuit is run by letting its edges carry their own values and all other edges the corrupt ones.
"""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.circuits.accuracy import pair_accuracy
from compo_mech.circuits.circuit_runs import CircuitRuns
from compo_mech.circuits.selection import connected, graph_order, random_edges
from compo_mech.interventions.edges import Edge, all_edges, check_edges
from compo_mech.interventions.metrics import Metric, cross_entropy
from compo_mech.interventions.pairs import Pairs
from compo_mech.interventions.streams import Outputs
from compo_mech.model.finite import check_finite
from compo_mech.model.params import Model
from compo_mech.stats.intervals import Interval

MIN_GAP = 1e-4
"""In the metric's units: a network that its own corruption moves by less has nothing to be faithful to."""


class Behaviour:
    """A metric of a network in which only a circuit carries the clean input.

    Values are kept, so that no circuit is run twice.

    Attributes:
        none, all: the metric when no edge, and when every edge, carries its own values.
        accuracy: of the network on both inputs.

    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> behaviour = Behaviour(built.model, pairs)
    >>> [round(behaviour.faithfulness(edges), 2) + 0.0 for edges in (built.edges, behaviour.edges, [])]
    [1.0, 1.0, 0.0]
    """

    def __init__(
        self,
        model: Model,
        pairs: Pairs,
        metric: Metric = cross_entropy,
        corrupt: Outputs | None = None,
        edges: Sequence[Edge] | None = None,
    ) -> None:
        """Run the clean and the corrupt input.

        Args:
            model: the network.
            pairs: clean and corrupt inputs, and what is scored.
            metric: what is measured.
            corrupt: what the other edges carry; None: what their writers put out on the corrupt input.
            edges: all edges that circuits are made of; None: the network's (see `all_edges`; by span they must hold
                every span of the row).

        Raises:
            ValueError: the model cannot read the pairs, or it has no such edge.
        """
        self.model, self.pairs, self.metric = model, pairs, metric
        self.edges = tuple(all_edges(model.config) if edges is None else edges)
        check_edges(model, self.edges)
        self._known, self._rerun = frozenset(self.edges), corrupt is None
        self._runs = CircuitRuns(model, pairs, self.edges, corrupt)
        self.accuracy = pair_accuracy(model, pairs, self._runs.runs, self._rerun)
        self._values: dict[frozenset[Edge], float] = {}
        self.none, self.all = self.value(()), self.value(self.edges)

    @torch.no_grad()
    def value(self, circuit: Iterable[Edge]) -> float:
        """Measure the metric when only the circuit's edges carry their own values.

        Raises:
            ValueError: an edge is not among the known ones.
        """
        kept = frozenset(circuit)
        if not kept <= self._known:
            unknown = min(kept - self._known, key=graph_order)
            raise ValueError(f"circuit edge = {unknown}: must be one of the network's")
        if self._rerun:  # a component that no clean input reaches has its corrupt output anyway
            kept = connected(kept, self.model.config)
        if kept not in self._values:
            clean = self._runs.runs.logits
            value = self.metric(self._runs.logits(kept), clean, self.pairs)
            check_finite(f"metric with {len(kept)} edges in the circuit", value)
            self._values[kept] = float(value)
        return self._values[kept]

    @property
    def gap(self) -> float | None:
        """m(all) - m(none), in the metric's units; None where it is too small to normalise by."""
        gap = self.all - self.none
        return gap if abs(gap) >= MIN_GAP else None

    def faithfulness(self, circuit: Iterable[Edge]) -> float | None:
        """f(C) = (m(C) - m(none)) / (m(all) - m(none)); None where the denominator is almost zero.

        Source: Mueller et al. 2025 (arXiv 2504.13151).
        """
        gap = self.gap
        return None if gap is None else (self.value(circuit) - self.none) / gap

    def random_circuit(self, n_edges: int, generator: torch.Generator) -> frozenset[Edge]:
        """Draw that many edges uniformly."""
        return random_edges(self.edges, n_edges, generator)


@dataclass(frozen=True)
class Curve:
    """Faithfulness of circuits of growing size.

    Attributes:
        n_edges: of each circuit.
        faithfulness: of each; NaN where the gap is too small.
        cpr: area under f over the fraction of edges (circuit performance ratio): more is better, and a curve that
            overshoots 1 gets more than 1. None where the gap is too small.
        cmd: area between f and 1 (circuit-model distance): 0 is best.

    >>> Curve((0, 1), torch.tensor([0.0, 1.0]), *areas([0.0, 1.0], [0.0, 1.0])).cpr
    0.5
    """

    n_edges: tuple[int, ...]
    faithfulness: Float[Tensor, "size"]
    cpr: float | None
    cmd: float | None


def areas(fractions: Sequence[float], faithfulness: Sequence[float]) -> tuple[float, float]:
    """Return CPR and CMD of a curve, by trapezoids.

    Args:
        fractions: of all edges, from 0 to 1.
        faithfulness: at each.

    Source: Mueller et al. 2025 (arXiv 2504.13151): CPR = ∫ f dk, CMD = ∫ |1 - f| dk. Their grid begins at 0.1% of the
    edges; this one at 0, where f is 0 by definition.

    Raises:
        ValueError: the fractions do not increase from 0 to 1, or the faithfulness is not finite.

    >>> areas([0.0, 0.5, 1.0], [0.0, 1.0, 1.0])
    (0.75, 0.25)
    """
    falls = any(a >= b for a, b in itertools.pairwise(fractions))
    if len(fractions) < 2 or fractions[0] != 0 or fractions[-1] != 1 or falls:
        raise ValueError(f"fractions = {', '.join(f'{x:g}' for x in fractions)}: must grow from 0 to 1")
    x, y = (torch.tensor(list(values), dtype=torch.float64) for values in (fractions, faithfulness))
    check_finite("faithfulness", y)
    return float(torch.trapezoid(y, x)), float(torch.trapezoid((1 - y).abs(), x))


def curve(behaviour: Behaviour, order: Sequence[Edge], n_edges: Sequence[int] | None = None) -> Curve:
    """Measure the faithfulness of the first n edges of an order, such as `circuits.score_order`.

    Args:
        behaviour: of the network.
        order: every edge, best first.
        n_edges: sizes, from 0 to all; None: every size.

    Raises:
        ValueError: the order lacks an edge, or the sizes do not grow from 0 to all edges.

    >>> from compo_mech import Parity, build, exact, score_order
    >>> from compo_mech.circuits.prompts import circuit_pairs
    >>> built, generator = build(Parity(), max_length=3), torch.Generator().manual_seed(0)
    >>> pairs = circuit_pairs(built.model, built.data, 8, generator, Parity(), built.shifts)
    >>> behaviour = Behaviour(built.model, pairs)
    >>> order = score_order(exact(built.model, behaviour.pairs, behaviour.edges))
    >>> curve(behaviour, order, (0, 10, len(order))).faithfulness.abs().round(decimals=2).tolist()  # 10 true edges
    [0.0, 1.0, 1.0]
    """
    if len(order) != len(behaviour.edges) or set(order) != set(behaviour.edges):
        raise ValueError(f"order = {len(set(order))} edges: must be all {len(behaviour.edges)}, each once")
    sizes = tuple(range(len(order) + 1) if n_edges is None else n_edges)
    found = [behaviour.faithfulness(order[:n]) for n in sizes]
    values = [value for value in found if value is not None]
    if len(values) < len(found):
        return Curve(sizes, torch.full((len(sizes),), torch.nan), None, None)
    return Curve(sizes, torch.tensor(values), *areas([n / len(order) for n in sizes], values))


@dataclass(frozen=True)
class RandomCurves:
    """Curves of edges in random order, the baseline for a curve.

    Attributes:
        n_edges: of the circuits.
        mean, low, high: of f at each size: the mean, the 2.5% and the 97.5% quantile over the orders.
        cpr, cmd: over the orders.

    >>> from compo_mech import Parity, build
    >>> from compo_mech.circuits.prompts import circuit_pairs
    >>> built, generator = build(Parity(), max_length=3), torch.Generator().manual_seed(0)
    >>> pairs = circuit_pairs(built.model, built.data, 8, generator, Parity(), built.shifts)
    >>> behaviour = Behaviour(built.model, pairs)
    >>> found = random_curves(behaviour, 4, generator, (0, 10, len(behaviour.edges)))
    >>> bool((found.low <= found.mean + 1e-6).all()), found.cpr.low <= found.cpr.mean <= found.cpr.high
    (True, True)
    """

    n_edges: tuple[int, ...]
    mean: Float[Tensor, "size"]
    low: Float[Tensor, "size"]
    high: Float[Tensor, "size"]
    cpr: Interval
    cmd: Interval


def random_curves(
    behaviour: Behaviour, n_orders: int, generator: torch.Generator, n_edges: Sequence[int] | None = None
) -> RandomCurves | None:
    """Measure curves of random orders; None where the gap is too small for any. Arguments as `curve`.

    >>> from compo_mech import Copy, build
    >>> from compo_mech.circuits.prompts import circuit_pairs
    >>> built, generator = build(Copy(), max_length=3), torch.Generator().manual_seed(0)
    >>> pairs = circuit_pairs(built.model, built.data, 8, generator, Copy(), built.shifts)
    >>> behaviour = Behaviour(built.model, pairs)
    >>> found = random_curves(behaviour, 4, generator, (0, 10, len(behaviour.edges)))
    >>> found.mean.abs().round(decimals=2).tolist()  # 10 random edges do nothing
    [0.0, 0.0, 1.0]
    """
    edges = behaviour.edges
    orders = [torch.randperm(len(edges), generator=generator).tolist() for _ in range(n_orders)]
    drawn = [curve(behaviour, [edges[i] for i in order], n_edges) for order in orders]
    cprs = [one.cpr for one in drawn if one.cpr is not None]
    cmds = [one.cmd for one in drawn if one.cmd is not None]
    if not cprs:
        return None
    values = torch.stack([one.faithfulness for one in drawn])
    low, high = values.quantile(torch.tensor([0.025, 0.975]), dim=0)
    return RandomCurves(drawn[0].n_edges, values.mean(0), low, high, Interval.of(cprs), Interval.of(cmds))
