"""Short runs and what is read off them give the numbers that they gave before: see `witness_adapter.py`."""

import json
import math

import pytest
from witness_adapter import FILE, SECTIONS

WITNESS = json.loads(FILE.read_text())

RELATIVE, ABSOLUTE = 1e-3, 2e-4
"""Other instruction sets and thread counts of one machine gave 4e-5 at most, of figures that are no counts."""

ROUTES = 5e-3
"""Shares of routes are parts of an effect that may be small."""

EXACT = ("draws",)
CONTINUOUS = ("losses", "weights", "together", "measures", "edges", "patching", "alignment", "weights read")

FEW, TURNED = 0.02, 0.06
"""Elsewhere an answer that hangs by a hair may turn a share of a few dozen: in few figures, and by little."""


def off(name, expected, found):
    """How far beyond its tolerance a figure is; 0 within it."""
    if expected == found or (math.isnan(expected) and math.isnan(found)):
        return 0.0
    if name in EXACT or not (math.isfinite(expected) and math.isfinite(found)):
        return math.inf
    difference, absolute = abs(expected - found), ROUTES if name == "routes" else ABSOLUTE
    return difference if difference > absolute + RELATIVE * abs(expected) else 0.0


@pytest.mark.parametrize("name", list(dict.fromkeys([*WITNESS, *SECTIONS])))
def test_figures_are_what_they_were(name):
    expected = {key: float(value) for key, value in WITNESS[name].items()}
    found = SECTIONS[name]()
    assert found.keys() == expected.keys()
    far = {key: (value, found[key]) for key, value in expected.items() if off(name, value, found[key])}
    n_free = 0 if name in EXACT + CONTINUOUS else FEW * len(expected)
    assert len(far) <= n_free, far
    assert all(off(name, *pair) <= TURNED for pair in far.values()), far
