"""Is it the only one? What is asked of a circuit that was found: other prompts, other circuits, the named tests."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from compo_mech.circuits.alternatives import SAME, Alternative, alternative
from compo_mech.circuits.discovery import Discovery
from compo_mech.circuits.edge_sets import EdgeSets, OnRows
from compo_mech.circuits.hypotheses import WORDS, CircuitTests, circuit_tests
from compo_mech.circuits.selection import score_order
from compo_mech.circuits.stability import STABLE, Resampled, resampled

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class CircuitChecks:
    """What is asked of one circuit.

    Attributes:
        resampled: its overlap with circuits of resampled prompts.
        alternative: the other faithful circuit that shares the fewest edges with it; None where it is not faithful.
        tests: by the names of the circuit hypothesis.
    """

    resampled: Resampled
    alternative: Alternative | None
    tests: CircuitTests

    @property
    def sentences(self) -> list[str]:
        """What was found, for people."""
        other = "cannot be told, since the circuit is not near the network" if self.alternative is None else ""
        return [
            f"Over other prompts the circuit is {self.resampled}.",
            f"Whether it is the only one: {other or self.alternative}.",
            f"Tests of the circuit hypothesis: {self.tests}.",
        ]

    def table(self) -> "pd.DataFrame":
        """Every figure with what is needed and the same of random circuits; passed is empty where it cannot be told."""
        import pandas as pd

        overlap, other = self.resampled.overlap, self.alternative
        rows: list[dict[str, object]] = [
            {"asked": name, "value": test.value, "needed": test.needed, "passed": test.passed, "control": test.control}
            for name, test in ((name, getattr(self.tests, name)) for name in WORDS)
        ]
        rows.append(
            {"asked": "overlap of resamples", "value": overlap.mean, "low": overlap.low, "high": overlap.high}
            | {"needed": STABLE, "passed": self.resampled.stable, "control": self.resampled.random.mean}
        )
        if other is not None:
            random = None if other.random is None else other.random.mean
            least = {"asked": "overlap of a second circuit", "value": other.overlap, "needed": SAME}
            rows.append(least | {"passed": not other.exists, "control": random})
        return pd.DataFrame(rows, columns=["asked", "value", "low", "high", "needed", "passed", "control"])


def check_circuit(sets: EdgeSets, discovery: Discovery, seed: int) -> CircuitChecks | None:
    """Ask all of a circuit; None where there is none, or where the network is too large for it to have been searched.

    Args:
        sets: of edges, those that the search ran among them.
        discovery: of the circuit, on the same pairs.
        seed: of all that is drawn.
    """
    if not discovery.kept or discovery.found is None:
        return None
    on, generator = OnRows(sets), torch.Generator().manual_seed(seed)
    return CircuitChecks(
        resampled(on, discovery.found, generator),
        alternative(on, discovery.kept, score_order(discovery.scores), generator),
        circuit_tests(on, discovery.kept, discovery.found, generator),
    )
