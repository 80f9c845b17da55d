"""Whether a network is right often enough for the roles of its heads to be told."""

from compo_mech.interventions.head_swaps import STAYS
from compo_mech.stats.intervals import Interval, level_beside, on_its_side

NEAR = 0.05
"""Accuracy is near the best guess if it is above it by no more than this."""


def able_from(guess: float) -> float:
    """The per-state accuracy that a network needs for roles to be told: halfway from the best guess without x_t to all,
    and 2 `NEAR` above it. Above 1, where the guess leaves too little to be told by, no network has it.

    >>> able_from(0.5), round(able_from(0.9), 2), able_from(0.95) > 1
    (0.75, 1.0, True)
    """
    return guess + max(2 * NEAR, (1 - guess) / 2)


def is_able(accuracy: float, guess: float) -> bool:
    """Whether a network is right often enough for roles to be told.

    Raises:
        ValueError: either is no fraction, or not a number.

    >>> is_able(0.75, 0.5), is_able(0.74996, 0.5), is_able(1.0, 0.95)
    (True, False, False)
    """
    for name, value in (("accuracy", accuracy), ("guess", guess)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} = {value:g}: must be 0 .. 1")
    return accuracy >= able_from(guess)


def untold_sentence(accuracy: float, guess: float) -> str:
    """Say that no role can be told, of a network that is not right often enough or that guessing comes too near to."""
    level = able_from(guess)
    if level > 1:
        return f"What heads do cannot be told: {untold_text(accuracy, guess)}."
    right = on_its_side(accuracy, level, percent=True)
    return (
        f"The network is right about {right} of states, of which {level_beside(level, accuracy, right)} are needed for "
        f"roles to be told (guessing, {guess:.0%}): there is no work of heads to name."
    )


def untold_text(accuracy: float, guess: float) -> str:
    """Why no role can be told, in a clause."""
    level = able_from(guess)
    if level > 1:
        most = on_its_side(guess, 1 - 2 * NEAR, percent=True)
        return f"guessing without x_t is right about {most} of states, and at most {1 - 2 * NEAR:.0%} leave room above"
    right = on_its_side(accuracy, level, percent=True)
    return f"{right} of states are right ({level_beside(level, accuracy, right)} needed)"


def beside_text(beside: Interval) -> str:
    """Say that the network is too often wrong about the rows whose outputs are put in, in a clause.

    Args:
        beside: the fraction of these about which it is right.

    >>> beside_text(Interval(0.66, 0.6, 0.72))[-67:]
    'the network is right about 66% of rows (at least 60.0%; 85% needed)'
    """
    low = on_its_side(beside.low, STAYS, percent=True)
    return (
        "where another state is written than the inputs lead to, as in the strings whose outputs are put in, the "
        f"network is right about {beside.mean:.0%} of rows (at least {low}; {STAYS:.0%} needed)"
    )
