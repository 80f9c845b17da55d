"""Trained on two tasks with a task token, is one iteration head shared, and does MLP 1 use the token?

python experiments/mix.py --n-workers 2

Which mix is best, and does mixing force the circuit? The polynomial draws 0 as well, so that both tasks have each pair
of bits, and the same row is valid in either.
"""

from compo_mech.data.tasks import Parity, Polynomial
from compo_mech.settings import changed
from compo_mech.studies import measures
from compo_mech.studies.mix import shared_work
from compo_mech.studies.run import main
from compo_mech.studies.study import Arm, Study, short_config

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the polynomial among the rows."""
_BASE = short_config([Parity(), Polynomial(zero_inputs=True)])
STUDY = Study(
    name="mix",
    question="trained on two tasks with a task token, is one iteration head shared, and does MLP 1 use the token?",
    hypothesis="one head of layer 1 carries x_t for both tasks; what differs lies in the edges into MLP 1; in a "
    "mixture more networks form a textbook head than on parity alone",
    primary=measures.ITERATION,
    arms={
        f"{share:.0%} polynomial": Arm(
            changed(_BASE, {"data.task_weights": (1 - share, share)}), factors={"share": share, "loss weight": 1.0}
        )
        for share in SHARES
    }
    | {
        "25% polynomial, weighed to a half": Arm(
            changed(_BASE, {"data.task_weights": (0.75, 0.25), "data.task_loss_weights": (1.0, 3.0)}),
            factors={"share": 0.25, "loss weight": 3.0},
        )
    },
    scorer=shared_work,
)


if __name__ == "__main__":
    main(STUDY)
