"""The circuit hypothesis tests of Shi et al. 2024 (arXiv 2410.13032), on a circuit and on a random one of its size.

Sufficiency: it is nearer to the network than random circuits of its size. Equivalence: it is as often ahead of the
network as behind. Independence: the scores of what is left without it are independent of the network's. Partial
necessity: removing it does more harm than removing random edges outside it. Minimality: each of its edges does more
than edges that are added to it. A prompt's score is the mean log probability of its right answers.

Equivalence and independence are held as long as no test speaks against them. Where none could, whatever the circuit
does, they cannot be told: of a few prompts, or of a network that is equally right on every one, on how right it is
nothing can be seen to depend. Nor can necessity and minimality be told of a circuit that leaves no edge out.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.circuits.edge_search import Found
from compo_mech.circuits.edge_sets import OnRows
from compo_mech.circuits.overlap import permutations_within
from compo_mech.circuits.selection import random_edges
from compo_mech.interventions.edges import Edge
from compo_mech.stats.intervals import counted, on_its_side

QUANTILE = 0.9
"""A circuit is sufficient, and its edge needed, if it does better than this fraction of random ones."""

EVEN = 0.1
"""A circuit is equivalent if it is ahead of the network on half of all prompts, give or take this fraction."""

LEVEL = 0.05
"""Equivalence and independence are rejected at p-values below this."""

TIED = 0.01
"""Scores, in nats, that differ by less are equal."""

NEEDED = {
    "sufficiency": QUANTILE,
    "equivalence": LEVEL,
    "independence": LEVEL,
    "necessity": QUANTILE,
    "minimality": QUANTILE,
}
N_RANDOM = 100
N_PERMUTATIONS = 199


class Tested(NamedTuple):
    """One test.

    Attributes:
        value: what is asked about.
        needed: what it has to come up to, or may come up to.
        passed: whether the circuit passes; None: that cannot be told, since it could not have failed.
        control: the value of a random circuit of its size.
        untold: why it cannot be told; empty where it can.

    >>> Tested(value=1.0, needed=0.9, passed=True, control=0.5).passed
    True
    """

    value: float
    needed: float
    passed: bool | None
    control: float
    untold: str = ""


@dataclass(frozen=True)
class CircuitTests:
    """The tests of one circuit.

    Attributes:
        sufficiency: fraction of random circuits that are further from the network.
        equivalence: p-value of how far the fraction of the prompts on which it is ahead of the network is from a half.
        independence: p-value of the Hilbert-Schmidt independence criterion, by permutation.
        necessity: fraction of random sets of edges outside whose removal does less harm.
        minimality: fraction of the edges outside that do less than that edge of the circuit which does least.

    >>> good, open = Tested(1.0, 0.9, True, 0.5), Tested(1.0, 0.05, None, 1.0, EQUALLY_RIGHT)
    >>> print(*str(CircuitTests(good, Tested(0.01, 0.05, False, 0.5), open, good, good)).split("; "), sep=chr(10))
    sufficient: nearer to the network than 1.00 of random circuits (0.9 needed, random circuit 0.50)
    not equivalent: ahead of it as often as behind at p = 0.01 (at least 0.05, random circuit 0.50)
    whether independent cannot be told: the network is equally right on every prompt
    partly necessary: removed, it does more harm than 1.00 of random sets outside it (0.9 needed, random circuit 0.50)
    minimal: its least edge does more than 1.00 of those outside (0.9 needed, random circuit 0.50)
    """

    sufficiency: Tested
    equivalence: Tested
    independence: Tested
    necessity: Tested
    minimality: Tested

    def __str__(self) -> str:
        return "; ".join(_said(words, getattr(self, name)) for name, words in WORDS.items())


EQUALLY_RIGHT = "the network is equally right on every prompt"

WORDS = {
    "sufficiency": "sufficient: nearer to the network than {} of random circuits ({} needed",
    "equivalence": "equivalent: ahead of it as often as behind at p = {} (at least {}",
    "independence": "independent: what is left without it is as right as the network at p = {} (at least {}",
    "necessity": "partly necessary: removed, it does more harm than {} of random sets outside it ({} needed",
    "minimality": "minimal: its least edge does more than {} of those outside ({} needed",
}


def _said(words: str, test: Tested) -> str:
    if test.passed is None:
        return f"whether {words.partition(':')[0]} cannot be told: {test.untold}"
    said = words.format(on_its_side(test.value, test.needed), test.needed)
    too = ", which passes too" if test.passed and test.control >= test.needed else ""
    return f"{'' if test.passed else 'not '}{said}, random circuit {on_its_side(test.control, test.needed)}{too})"


def circuit_tests(
    on: OnRows, circuit: frozenset[Edge], found: Found, generator: torch.Generator, n_random: int = N_RANDOM
) -> CircuitTests:
    """Test a circuit, and a random one of its size beside it.

    Args:
        on: values of sets of edges.
        circuit: that is tested.
        found: where each of its edges shows what it does.
        generator: draws random circuits and permutations.
        n_random: circuits, and sets outside the circuit.

    >>> from compo_mech import Parity, build
    >>> from compo_mech.circuits import EdgeSets, circuit_pairs
    >>> from compo_mech.circuits.edge_search import search
    >>> built, generator = build(Parity(), max_length=2), torch.Generator().manual_seed(0)
    >>> pairs = circuit_pairs(built.model, built.data, 8, generator, Parity(), built.shifts)
    >>> on = OnRows(EdgeSets(built.model, pairs))
    >>> tests = circuit_tests(on, built.edges, search(on, on.sets.edges), generator, n_random=10)
    >>> [test.passed for test in (tests.sufficiency, tests.equivalence, tests.necessity, tests.minimality)]
    [True, True, True, True]
    >>> print(tests.independence.passed)
    None
    """
    control = random_edges(on.sets.edges, len(circuit), generator)
    others = [on.distance(random_edges(on.sets.edges, len(circuit), generator)) for _ in range(n_random)]
    own, least_p = _values(on, circuit, others, generator, found.effects(on))
    random, _ = _values(on, control, others, generator, {})
    untold = _untold(on, circuit, len(others), least_p)
    passed = {name: None if name in untold else value >= NEEDED[name] for name, value in own.items()}
    return CircuitTests(
        **{name: Tested(own[name], NEEDED[name], passed[name], random[name], untold.get(name, "")) for name in WORDS}
    )


def _untold(on: OnRows, circuit: frozenset[Edge], n_random: int, least_p: float) -> dict[str, str]:
    """The tests that no circuit of this size could have failed on these prompts, and why.

    Args:
        on: values of sets of edges.
        circuit: that is tested.
        n_random: circuits, and sets outside the circuit.
        least_p: the least that the p-value of independence could have been.
    """
    scores, untold = _scores(on, on.sets.edges), dict[str, str]()
    if not n_random:
        untold["sufficiency"] = "no random circuit was drawn"
    if len(circuit) == len(on.sets.edges):
        untold |= dict.fromkeys(("sufficiency", "necessity", "minimality"), "no edge lies outside it")
    elif not n_random:
        untold["necessity"] = "no random set was drawn"
    few = f"of {counted(len(scores), 'prompt')}, too few"
    if not uneven_p(0.5, len(scores)) < LEVEL:
        untold["equivalence"] = f"{few} to speak against it even if it were behind on all"
    if not scores.std() > TIED:
        untold["independence"] = EQUALLY_RIGHT
    elif not least_p < LEVEL:
        untold["independence"] = f"{few} are unequally right and ask for as many answers to speak against it"
    return untold


def _values(
    on: OnRows,
    circuit: frozenset[Edge],
    others: Sequence[float],
    generator: torch.Generator,
    shown: Mapping[Edge, float],
) -> tuple[dict[str, float], float]:
    """What is asked about, by test; and the p-value of independence if what is left went wholly with the network.

    Args:
        on: values of sets of edges.
        circuit: that is tested.
        others: how far random circuits are from the network.
        generator: draws sets outside and permutations.
        shown: what edges do where it shows.
    """
    every, near = frozenset(on.sets.edges), on.distance(circuit)
    outside = [edge for edge in on.sets.edges if edge not in circuit]
    n_removed, harm = min(len(circuit), (len(outside) + 1) // 2), on.distance(every - circuit)
    harms = [on.distance(every - random_edges(outside, n_removed, generator)) for _ in others]
    least = min(max(abs(on.distance(circuit - {edge}) - near), shown.get(edge, 0.0)) for edge in circuit)
    scores, left = _scores(on, every), _scores(on, every - circuit)
    same_draws = torch.Generator().set_state(generator.get_state())
    values = {
        "sufficiency": _fraction([near < other for other in others]),
        "equivalence": uneven_p(uneven(_scores(on, circuit) - scores), len(scores)),
        "independence": dependence_p(left, scores, on.sets.n_scored, generator),
        "necessity": _fraction([harm > other for other in harms]),
        "minimality": _fraction([least > abs(on.distance(circuit | {edge}) - near) for edge in outside]),
    }
    return values, dependence_p(scores, scores, on.sets.n_scored, same_draws)


def _fraction(of: Sequence[bool]) -> float:
    """The fraction that is so; NaN of none."""
    return sum(of) / len(of) if of else math.nan


def _scores(on: OnRows, kept: Iterable[Edge]) -> Float[Tensor, "row"]:
    """Mean log probability of each row's right answers."""
    return -on.sets.rows(kept).loss / on.sets.n_scored.clamp(min=1)


def uneven(ahead: Float[Tensor, "row"]) -> float:
    """How far the fraction of the rows on which one is ahead is from a half; what is tied counts half.

    >>> uneven(torch.tensor([1.0, 1.0, 1.0, -1.0])), uneven(torch.tensor([0.001, 0.002]))
    (0.25, 0.0)
    """
    share = (ahead > TIED).double() + 0.5 * (ahead.abs() <= TIED).double()
    return abs(float(share.mean()) - 0.5)


def uneven_p(distance: float, n_rows: int) -> float:
    """The chance of so uneven a fraction, or more, if the circuit were ahead on a fraction of 1/2 + `EVEN`.

    >>> uneven_p(0.0, 48) > 0.99, uneven_p(0.5, 48) < 0.001
    (True, True)
    """
    from scipy.stats import binom

    n_ahead = torch.arange(n_rows + 1)
    of = binom.pmf(n_ahead.numpy(), n_rows, 0.5 + EVEN)
    return float(of[((n_ahead / n_rows - 0.5).abs() >= distance - 1e-9).numpy()].sum())


def dependence_p(
    one: Float[Tensor, "row"], other: Float[Tensor, "row"], kinds: Float[Tensor, "row"], generator: torch.Generator
) -> float:
    """The p-value of the Hilbert-Schmidt independence criterion of two scores (Gretton et al. 2007).

    Scores are permuted among rows of one kind: how many answers a row asks for moves both scores.

    >>> score, generator = torch.arange(24.0).double(), torch.Generator().manual_seed(0)
    >>> dependence_p(score, score, torch.ones(24), generator), dependence_p(score, 0 * score, score, generator)
    (0.005, 1.0)
    """
    n_rows = len(one)
    centred = torch.eye(n_rows, dtype=torch.float64) - 1 / n_rows
    first, second = (centred @ gaussian_kernel(score.double()) @ centred for score in (one, other))
    permuted = permutations_within(kinds.long(), N_PERMUTATIONS, generator)
    found = float((first * second).sum())
    others = [float((first * second[order][:, order]).sum()) for order in permuted]
    return (1 + sum(value >= found - TIED**2 for value in others)) / (N_PERMUTATIONS + 1)


def gaussian_kernel(scores: Float[Tensor, "row"]) -> Float[Tensor, "row row"]:
    """The Gaussian kernel of scores, as wide as the median distance of two rows whose scores differ.

    >>> gaussian_kernel(torch.tensor([0.0, 1.0]).double())[0].log().tolist()
    [0.0, -0.5]
    """
    rounded = (scores / TIED).round() * TIED
    apart = (rounded[:, None] - rounded).square()
    width = apart[apart > 0].median() if (apart > 0).any() else torch.ones(())
    return (-apart / (2 * width)).exp()
