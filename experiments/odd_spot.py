"""Is there another circuit for a special position: the first state, the last, the row that predicts [EoS]?

python experiments/odd_spot.py --n-workers 2
"""

from compo_mech.runs import recipes
from compo_mech.settings import changed
from compo_mech.studies import measures
from compo_mech.studies.last_row import end_verdicts
from compo_mech.studies.run import main
from compo_mech.studies.special_rows import special_rows
from compo_mech.studies.study import MEASURING, Arm, Study

STUDY = Study(
    name="odd_spot",
    question="is there another circuit for a special position: the first state, the last, the row that ends?",
    hypothesis="the first state needs no lookup, as its row is [EoI] itself; the row that ends attends to [EoI] "
    "rather than to an input",
    primary=measures.ITERATION_FIRST,
    arms={
        "parity": Arm(changed(recipes.parity(), MEASURING | {"data.max_length": 8})),
        "copy": Arm(changed(recipes.copy(), MEASURING | {"data.max_length": 8})),
        "polynomial": Arm(changed(recipes.polynomial(), MEASURING | {"data.max_length": 8})),
        "polynomial, shifted positions": Arm(
            changed(recipes.polynomial(), MEASURING | {"data.max_length": 8, "train.max_position_shift": 2})
        ),
    },
    scorer=special_rows,
    n_seeds=20,
)


if __name__ == "__main__":
    main(STUDY, {"What signals that the string has ended": end_verdicts})
