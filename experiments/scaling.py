"""How do accuracy, speed of learning and cleanliness scale with string length and d_model?

python experiments/scaling.py --n-workers 2

Exponents are fitted to the first steps at 95% and 99%, with runs that did not reach them censored, and to the distance
from a clean map, 1 - iteration score. Width changes everything that follows from d_model: d_head and d_mlp. A level
that all lengths must reach is stricter for more lengths: with 64 strings of each, 99% means all of them.
"""

from compo_mech.runs import recipes
from compo_mech.settings import changed
from compo_mech.studies import measures
from compo_mech.studies.circuit_scores import variables_held
from compo_mech.studies.exponents import exponents
from compo_mech.studies.run import main
from compo_mech.studies.study import MEASURING, Arm, Study

LENGTHS = (4, 8, 12, 16)
DIMENSIONS = (8, 16, 32, 64, 128)
_BASE = changed(recipes.parity_alone(), MEASURING)
STUDY = Study(
    name="scaling",
    question="how do accuracy, speed of learning and cleanliness scale with string length and d_model?",
    hypothesis="longer strings take more steps, at least in proportion; narrow networks fail first at long strings, "
    "where positions are many, as t is missing from the query before anything else is; wider ones have cleaner maps",
    primary=measures.FIRST_STEP_AT_99,
    arms={
        f"length {length} d_model {d_model}": Arm(
            changed(_BASE, {"data.max_length": length, "model.d_model": d_model}),
            factors={"length": length, "d_model": d_model},
        )
        for length in LENGTHS
        for d_model in DIMENSIONS
    },
    scorer=variables_held,
)


if __name__ == "__main__":
    main(STUDY, {"Exponents": exponents})
