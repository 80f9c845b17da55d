"""How far position ids are shifted in what is asked of a network."""

from typing import NamedTuple


class Shifts(NamedTuple):
    """By how much position ids may be shifted, of a trained network as in training (see `RunConfig.shifts`).

    Attributes:
        largest: ids start at 0 .. largest; 0: they are never shifted.
        answered: whether the network should be right about shifted strings. One that was trained on them should; a
            hand-built one is not meant to, and shifted ids are there to move its edges.

    Example:
        >>> from compo_mech.data.shifts import Shifts
        >>> Shifts(2).answered
        True
    """

    largest: int
    answered: bool = True
