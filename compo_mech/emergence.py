"""From a curve over training to when something came about."""

from collections.abc import Sequence


def reached(steps: Sequence[int], values: Sequence[float], level: float) -> int | None:
    """The first step from which on the curve stays at or above `level`; None if it does not end there."""
    since = None
    for step, value in zip(steps, values, strict=True):
        if value < level:
            since = None
        elif since is None:
            since = step
    return since
