"""Does what was learnt on one task transfer to another, which components of it, and does it survive short strings?

python experiments/transfer.py --n-workers 2

The control of the frozen arms trains the same components on top of a random network.
"""

from compo_mech.studies import measures
from compo_mech.studies.run import main
from compo_mech.studies.study import Study
from compo_mech.studies.transfer import transfer_arms, transfer_scores

STUDY = Study(
    name="transfer",
    question="does what was learnt on one task transfer to another, which components, and does it survive short "
    "strings?",
    hypothesis="after the polynomial, parity is learnt in a few percent of the steps that it takes from random "
    "weights; with all but the last layer frozen it still is, with MLP 1 alone as well, and not on top of a random "
    "network; the iteration head survives training on short strings",
    primary=measures.FIRST_STEP_AT_99,
    arms=transfer_arms(),
    scorer=transfer_scores,
    n_seeds=100,
    reference="parity",
)


if __name__ == "__main__":
    main(STUDY)
