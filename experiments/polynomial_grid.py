"""The polynomial by length and d_model, with and without a chain of thought, with one layer and two.

python experiments/polynomial_grid.py --on stacks --keep last

Width changes everything that follows from d_model: d_head and d_mlp. As one stack, narrow networks train in half the
time.
"""

from compo_mech.studies import measures
from compo_mech.studies.by_position import right_positions
from compo_mech.studies.polynomial_grid import polynomial_arms
from compo_mech.studies.run import main
from compo_mech.studies.study import Study

STUDY = Study(
    name="polynomial_grid",
    question="what do length and d_model change for the polynomial, with and without a chain of thought?",
    hypothesis="with a chain of thought and two layers width decides up to which length all is right; where it is too "
    "narrow the network looks at some positions and is right there, and wrong elsewhere; no other network is right "
    "from length 8 on",
    primary=measures.ACCURACY_AT_LONGEST,
    arms=polynomial_arms(),
    scorer=right_positions,
    n_seeds=20,
)


if __name__ == "__main__":
    main(STUDY)
