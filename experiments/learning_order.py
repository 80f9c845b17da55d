"""In which order is a task learnt: short strings first, in steps, and counts of the inputs before x_t?

python experiments/learning_order.py --on stacks
"""

from compo_mech.data.tasks import Copy, Parity, Polynomial, Task
from compo_mech.studies import measures
from compo_mech.studies.learning_order import learning_order
from compo_mech.studies.run import main
from compo_mech.studies.study import Arm, Study, short_config

TASKS: dict[str, Task] = {"copy": Copy(), "parity": Parity(), "polynomial modulo 3": Polynomial(modulus=3)}
OFTEN = {"train.snapshot_every": 25}
STUDY = Study(
    name="learning_order",
    question="in which order is a task learnt: short strings first, in steps, and counts of the inputs before x_t?",
    hypothesis="each length is learnt later than the one before it; before attention finds x_t, answers depend on how "
    "often each input occurs in the string, which an average over the inputs tells, and no longer after that",
    primary=measures.COUNTS_BEFORE,
    arms={name: Arm(short_config([task], OFTEN)) for name, task in TASKS.items()},
    scorer=learning_order,
    n_seeds=20,
)


if __name__ == "__main__":
    main(STUDY)
