"""On few strings, are strings memorised long before the network generalises?

python experiments/grokking.py --n-workers 2

Whether training on cleans the maps once accuracy is flat is asked by `experiments/emergence.py`.
"""

from compo_mech.runs import recipes
from compo_mech.settings import changed
from compo_mech.studies import measures
from compo_mech.studies.run import main
from compo_mech.studies.run_scores import run_scores
from compo_mech.studies.study import Arm, Study

_FEW = changed(recipes.grokking(), {"train.snapshot_every": 100})
STUDY = Study(
    name="grokking",
    question="on few strings, are strings memorised long before the network generalises?",
    hypothesis="on 24 strings training accuracy is perfect at once and test accuracy thousands of steps later, sooner "
    "with weight decay",
    primary=measures.FIRST_STEP_AT_95,
    arms={
        "24 strings, weight decay 0.1": Arm(_FEW, factors={"n_strings": 24, "weight_decay": 0.1}),
        "24 strings, no weight decay": Arm(
            changed(_FEW, {"optim.weight_decay": 0.0}), factors={"n_strings": 24, "weight_decay": 0.0}
        ),
    },
    scorer=run_scores,
    reference="24 strings, weight decay 0.1",
)


if __name__ == "__main__":
    main(STUDY)
