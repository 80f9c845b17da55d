"""Is parity hard because it is symmetric? Two states, and rules that do or do not depend on the order of the inputs.

python experiments/symmetry.py --on stacks --device cuda
"""

from compo_mech.studies import measures
from compo_mech.studies.run import main
from compo_mech.studies.run_scores import main_scores
from compo_mech.studies.study import Study
from compo_mech.studies.symmetry import PAIRS, symmetry_arms

STUDY = Study(
    name="symmetry",
    question="is parity hard because it is symmetric?",
    hypothesis="tasks whose inputs commute take more steps than others with as many states and inputs, and fewer of "
    "their networks form a textbook head, since counting is another way to solve them",
    primary=measures.FIRST_STEP_AT_99,
    arms=symmetry_arms(),
    scorer=main_scores,
    n_seeds=100,
    pairs=PAIRS,
)


if __name__ == "__main__":
    main(STUDY)
