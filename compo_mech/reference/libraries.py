"""Which library multiplies the matrices of those that compo_mech is compared with."""

import contextlib
from collections.abc import Callable

from compo_mech.products import fast_products, is_onednn_faster

Way = Callable[[], contextlib.AbstractContextManager[None]]
"""Inside what it returns, something is timed."""


def ways_of_others(device: str = "cpu") -> dict[str, Way]:
    """Ways in which others are timed, by what is said of them: as torch multiplies by itself, and, where compo_mech
    does it by another library on this processor, by that as well.

    Example:
        >>> from compo_mech.reference.libraries import ways_of_others
        >>> list(ways_of_others("cuda"))
        ['']
    """
    ways: dict[str, Way] = {"": contextlib.nullcontext}
    if device == "cpu" and is_onednn_faster():
        ways[" (oneDNN)"] = fast_products
    return ways
