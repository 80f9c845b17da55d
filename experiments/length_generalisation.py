"""Trained on lengths 1 to 8, what is written right at 9 to 32?

python experiments/length_generalisation.py --on stacks --device cuda
"""

from compo_mech.data.tasks import Copy, Counter, Dihedral, Parity, Polynomial, Symmetric, Task
from compo_mech.studies import measures
from compo_mech.studies.longer_strings import N_CTX, longer_strings
from compo_mech.studies.run import main
from compo_mech.studies.study import Arm, Study, short_config

TASKS: dict[str, Task] = {
    "copy": Copy(),
    "parity": Parity(),
    "counter modulo 5": Counter(modulus=5),
    "polynomial modulo 5": Polynomial(modulus=5),
    "S3": Symmetric(n=3),
    "D4": Dihedral(n=4),
}
LARGEST_SHIFT = 46
"""So that every position id up to that of the longest string is drawn in training."""

POSITIONS: dict[str, dict[str, object]] = {
    "ids from 0": {},
    "ids from 0 .. 46": {"train.max_position_shift": LARGEST_SHIFT},
    "rotary": {"model.positional_embedding": "rotary"},
    "none": {"model.positional_embedding": "none"},
}
STUDY = Study(
    name="length_generalisation",
    question="trained on lengths 1 to 8, what is written right at 9 to 32?",
    hypothesis="with position ids that start at 0 nothing is, since later ones were never trained; where every id is "
    "drawn in training the pointer carries over to length 9 and a few more, whatever the group; rotary positions do no "
    "better",
    primary=measures.ACCURACY_AT_TWICE,
    arms={
        f"{name}, {how}": Arm(
            short_config([task], {"train.max_position_shift": 0, "model.n_ctx": N_CTX} | changes),
            factors={"rule": name, "positions": how},
        )
        for name, task in TASKS.items()
        for how, changes in POSITIONS.items()
    },
    scorer=longer_strings,
    n_seeds=20,
)


if __name__ == "__main__":
    main(STUDY)
