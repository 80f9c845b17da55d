"""Question 6: does training on after accuracy is perfect clean the maps, and where is understanding late?

Two recipes: parity on fresh strings for 2400 and for 9600 steps, and a small fixed training set for long, with and
without weight decay.
"""

from compo_mech import recipes
from compo_mech.settings import changed
from compo_mech.studies.measures import outcome
from compo_mech.studies.study import Arm, Study

_FEW = changed(recipes.grokking(), {"train.snapshot_every": 100})

STUDY = Study(
    name="grokking",
    question="does training on after accuracy is perfect clean the maps, and where is understanding late?",
    hypothesis="on 24 strings training accuracy is perfect at once and test accuracy thousands of steps later, sooner "
    "with weight decay",
    primary="first step at 95%",
    arms={
        "24 strings, weight decay 0.1": Arm(_FEW, factors={"n_strings": 24, "weight_decay": 0.1}),
        "24 strings, no weight decay": Arm(
            changed(_FEW, {"optim.weight_decay": 0.0}), factors={"n_strings": 24, "weight_decay": 0.0}
        ),
    },
    measure=outcome,
    reference="24 strings, weight decay 0.1",
)
