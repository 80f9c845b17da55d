"""Copy, then parity, and back: which components of a trained network can be kept, and which have to be trained again?

python experiments/reuse.py --on stacks --device cuda
"""

from compo_mech.studies import measures
from compo_mech.studies.reuse import reuse_arms
from compo_mech.studies.run import main
from compo_mech.studies.run_scores import main_scores
from compo_mech.studies.study import Study

STUDY = Study(
    name="reuse",
    question="which components of a network trained on one task can be kept for another?",
    hypothesis="after copy, parity is learnt with the last layer alone, and with MLP 1 alone, sooner than from random "
    "weights and not on top of a random network; after a polynomial that never has a 0 among its inputs it is not, "
    "since a frozen iteration head has never fetched a 0",
    primary=measures.FIRST_STEP_AT_99,
    arms=reuse_arms(),
    scorer=main_scores,
    n_seeds=100,
    reference="parity",
)


if __name__ == "__main__":
    main(STUDY)
