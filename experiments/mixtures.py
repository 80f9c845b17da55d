"""Does mixing another task in force the circuit? Which share is best, and what do tasks share?

python experiments/mixtures.py --n-workers 2
"""

from compo_mech.studies import measures
from compo_mech.studies.mixtures import all_shares, beside_none, best_power, best_shares, mixture_arms, mixture_scores
from compo_mech.studies.run import main
from compo_mech.studies.study import Study

STUDY = Study(
    name="mixtures",
    question="does mixing another task in force the circuit, and which share is best?",
    hypothesis="the polynomial raises the fraction of networks with a textbook head from a tenth on; copy does not; "
    "weights of lengths change how soon parity is learnt and not how",
    primary=measures.TEXTBOOK,
    arms=mixture_arms(),
    scorer=mixture_scores,
    n_seeds=20,
    reference="parity alone",
)


if __name__ == "__main__":
    further = {
        "Beside no rows of the other task": beside_none,
        "All shares together, beside no rows": all_shares,
        "Best share of another task": best_shares,
        "Best power of the length as a string's weight": best_power,
    }
    main(STUDY, further)
