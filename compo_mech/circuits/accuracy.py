"""How often a network is right on pairs, without which nothing can be said of its circuits.

A circuit is edges by which a network does a task. Where it does not do the task on the clean input there is nothing to
explain, and where it does not on the corrupt one, patched edges carry what means nothing to it.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from compo_mech.interventions.graph import Runs
from compo_mech.interventions.pairs import Pairs
from compo_mech.interventions.streams import total_of
from compo_mech.model import blocks
from compo_mech.model.finite import likeliest
from compo_mech.model.params import Model
from compo_mech.stats.intervals import on_its_side

ABLE = 0.9
"""A circuit is judged where at least this fraction of the answers to either input is right: as many as a circuit has to
move (see `discovery.SWAPPED`)."""


class PairAccuracy(NamedTuple):
    """The fraction of the scored answers that is right.

    Attributes:
        clean: of those to the clean input.
        corrupt: of those to the corrupt input; None where it asks for none, or a baseline takes its place.
        both_needed: whether the network should be right about the corrupt input as well (see `Pairs.corrupt_kind`).

    >>> print(PairAccuracy(clean=1.0, corrupt=0.84))
    right about 100.0% of the answers to the clean input and 84.0% of those to the corrupt one
    """

    clean: float
    corrupt: float | None
    both_needed: bool = True

    @property
    def able(self) -> bool:
        """Whether the network does the task, on both inputs where it should.

        >>> PairAccuracy(clean=1.0, corrupt=0.84).able, PairAccuracy(clean=0.9, corrupt=None).able
        (False, True)
        """
        corrupt = self.corrupt if self.both_needed else None
        return self.clean >= ABLE and (corrupt is None or corrupt >= ABLE)

    def __str__(self) -> str:
        clean, corrupt = (a if a is None else on_its_side(a, ABLE, percent=True) for a in (self.clean, self.corrupt))
        return f"right about {clean} of the answers to the clean input" + (
            "" if corrupt is None else f" and {corrupt} of those to the corrupt one"
        )

    @property
    def refusal(self) -> str:
        """Why no circuit is judged, in words.

        >>> print(PairAccuracy(clean=0.8996, corrupt=None).refusal)
        cannot be told: the network is right about 89.96% of the answers to the clean input, and 90% are needed
        """
        each = "" if self.corrupt is None else " of each" if self.both_needed else " of the former"
        return f"cannot be told: the network is {self}, and {ABLE:.0%}{each} are needed"


@torch.no_grad()
def pair_accuracy(model: Model, pairs: Pairs, runs: Runs, reruns: bool = True) -> PairAccuracy:
    """Measure a network on both inputs of pairs.

    Args:
        model: the network.
        pairs: clean and corrupt inputs.
        runs: of both.
        reruns: whether what patched edges carry is of the corrupt input, and no baseline.

    >>> from compo_mech import Parity, Switch, build, make_pairs
    >>> from compo_mech.interventions.graph import run_both
    >>> built = build(Parity(), max_length=3)
    >>> pairs = make_pairs(built.data, Switch.TOKEN, 4, torch.Generator().manual_seed(0))
    >>> pair_accuracy(built.model, pairs, run_both(built.model, pairs))
    PairAccuracy(clean=1.0, corrupt=1.0, both_needed=True)
    """

    def share(logits: Float[Tensor, "some d_vocab"], answers: Tensor) -> float:
        return float((likeliest(logits) == answers).double().mean())

    asked: Bool[Tensor, "scored"] = pairs.foil_is_answer
    corrupt = None
    if reruns and asked.any():
        stream = total_of(runs.corrupt)[pairs.row[asked], pairs.position[asked]]
        corrupt = share(blocks.logits(model, stream), pairs.foil[asked])
    return PairAccuracy(share(runs.logits, pairs.target), corrupt, pairs.corrupt_kind == "trained")
