"""The polynomial by length and d_model, with and without a chain of thought, with one layer and two.

python experiments/polynomial_grid.py --on stacks --keep last

Width changes everything that follows from d_model: d_head and d_mlp. As one stack, narrow networks train in half the
time.
"""

from compo_mech.data.tasks import Polynomial
from compo_mech.studies import measures
from compo_mech.studies.by_position import right_positions
from compo_mech.studies.run import main
from compo_mech.studies.study import Arm, Study, short_config

LENGTHS = (4, 8, 16, 32)
DIMENSIONS = (4, 8, 16, 32, 64)
FULL = "chain of thought, 2 layers"
ARCHITECTURES = {
    FULL: (True, 2),
    "chain of thought, 1 layer": (True, 1),
    "none, 2 layers": (False, 2),
    "none, 1 layer": (False, 1),
}


def _is_asked(architecture: str, length: int, d_model: int) -> bool:
    """For time the greatest length and width are asked of one architecture alone, and not both at once."""
    is_longest, is_widest = length == LENGTHS[-1], d_model == DIMENSIONS[-1]
    return not (is_longest and is_widest) and (architecture == FULL or not (is_longest or is_widest))


STUDY = Study(
    name="polynomial_grid",
    question="what do length and d_model change for the polynomial, with and without a chain of thought?",
    hypothesis="with a chain of thought and two layers width decides up to which length all is right; where it is too "
    "narrow the network looks at some positions and is right there, and wrong elsewhere; no other network is right "
    "from length 8 on",
    primary=measures.ACCURACY_AT_LONGEST,
    arms={
        f"{name}, length {length}, d_model {d_model}": Arm(
            short_config(
                [Polynomial()],
                {
                    "train.n_steps": 2400,
                    "data.max_length": length,
                    "model.d_model": d_model,
                    "data.chain_of_thought": thought,
                    "model.n_layers": n_layers,
                },
            ),
            factors={"architecture": name, "length": length, "d_model": d_model},
        )
        for d_model in DIMENSIONS
        for length in LENGTHS
        for name, (thought, n_layers) in ARCHITECTURES.items()
        if _is_asked(name, length, d_model)
    },
    scorer=right_positions,
    n_seeds=20,
)


if __name__ == "__main__":
    main(STUDY)
