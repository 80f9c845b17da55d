"""Does longer training clean the maps while accuracy stays flat?

python experiments/longer_training.py --on stacks
"""

from compo_mech.runs import recipes
from compo_mech.settings import changed
from compo_mech.studies import measures
from compo_mech.studies.run import main
from compo_mech.studies.run_scores import cleanliness_scores
from compo_mech.studies.study import Arm, Study

N_STEPS = (2400, 9600)
STUDY = Study(
    name="longer_training",
    question="does longer training clean the maps while accuracy stays flat?",
    hypothesis="with four times as many steps the lookup and the iteration score are higher, and accuracy is the same",
    primary=measures.LOOKUP,
    arms={f"{n} steps": Arm(changed(recipes.parity(), {"train.n_steps": n}), factors={"n_steps": n}) for n in N_STEPS},
    scorer=cleanliness_scores,
    reference="2400 steps",
)


if __name__ == "__main__":
    main(STUDY)
