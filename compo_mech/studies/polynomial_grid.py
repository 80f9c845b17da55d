"""The polynomial by length, width and architecture, as arms of a study."""

from collections.abc import Mapping
from itertools import product

from compo_mech.data.tasks import Polynomial
from compo_mech.studies.study import Arm, short_config

LENGTHS = (4, 8, 16, 32)
DIMENSIONS = (4, 8, 16, 32, 64)
ARCHITECTURES = {
    "chain of thought, 2 layers": (True, 2),
    "chain of thought, 1 layer": (True, 1),
    "none, 2 layers": (False, 2),
    "none, 1 layer": (False, 1),
}
"""Whether there is a chain of thought, and how many layers."""


def polynomial_arms() -> Mapping[str, Arm]:
    """Return the polynomial at each length and d_model, which d_head and d_mlp follow, with and without a chain of
    thought, with one layer and two; each 2400 steps."""
    arms = {}
    for d_model, length, (name, (thought, n_layers)) in product(DIMENSIONS, LENGTHS, ARCHITECTURES.items()):
        changes = {
            "train.n_steps": 2400, "data.max_length": length, "model.d_model": d_model,
            "data.chain_of_thought": thought, "model.n_layers": n_layers,
        }  # fmt: skip
        factors = {"architecture": name, "length": length, "d_model": d_model}
        arms[f"{name}, length {length}, d_model {d_model}"] = Arm(
            short_config([Polynomial()], changes), factors=factors
        )
    return arms
