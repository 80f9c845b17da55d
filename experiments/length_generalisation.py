"""Trained on lengths 1 to 8, what is written right at 9 to 32, before and after a round of self-training?

python experiments/length_generalisation.py --n-workers 2

A group acts freely where no two of its elements take a state to the same one, as where the states are its elements: two
states in turn tell which input was between them. S3 on three points does not act freely.
"""

from itertools import permutations

from compo_mech.data.tasks import Automaton, Parity, Symmetric, Task
from compo_mech.studies import measures
from compo_mech.studies.longer_strings import N_CTX, longer_strings
from compo_mech.studies.run import main
from compo_mech.studies.study import Arm, Study, short_config

RULES: dict[str, Task] = {
    "parity": Parity(),
    "S3": Symmetric(n=3),
    "S3 on three points": Automaton(transitions=tuple(zip(*permutations(range(3)), strict=True))),
}
LARGEST_SHIFT = 48
"""So that every position id up to that of the longest string is drawn in training."""

EVERY_ID: dict[str, object] = {"train.max_position_shift": LARGEST_SHIFT}
POSITIONS: dict[str, tuple[dict[str, object], tuple[str, ...]]] = {
    "ids from 0 .. 48": (EVERY_ID, ("parity",)),
    "no positions": ({"model.positional_embedding": "none"}, tuple(RULES)),
    "ids from 0": ({}, ("parity",)),
}
"""How, and for which rules."""
STEPS = {"train.max_position_shift": 0, "model.n_ctx": N_CTX, "train.n_steps": 2400}
STUDY = Study(
    name="length_generalisation",
    question="trained on lengths 1 to 8, what is written right at 9 to 32?",
    hypothesis="with positions no string is: in a string of length L every row looks back L positions, and a distance "
    "of 9 never occurs in training; without them the next length is right in part, less where the group does not act "
    "freely, and a round of self-training adds to it",
    primary=measures.ACCURACY_AT_NEXT,
    arms={
        f"{rule}, {how}": Arm(short_config([RULES[rule]], STEPS | changes), factors={"rule": rule, "positions": how})
        for how, (changes, rules) in POSITIONS.items()
        for rule in rules
    },
    scorer=longer_strings,
    n_seeds=20,
)


if __name__ == "__main__":
    main(STUDY)
