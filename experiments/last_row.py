"""What signals to a network that a string has ended: what attention brings, or the row's stream? How often, and why?

python experiments/last_row.py --n-workers 2

The runs are those of `seeds.py parity --n-seeds 200 --runs-dir runs/last_row`.
"""

from compo_mech.runs import recipes
from compo_mech.studies import measures
from compo_mech.studies.last_row import end_verdicts, last_row
from compo_mech.studies.run import main
from compo_mech.studies.study import Arm, Study

STUDY = Study(
    name="last_row",
    question="what signals to a network that the string has ended: what attention brings, or the row's own stream?",
    hypothesis="in most networks the last layer's attention does, by finding [EoI], to which an iteration head would "
    "attend for one more state; in those whose attention is on [EoI] less, the stream does",
    primary=measures.END_BY_ATTENTION,
    arms={"parity": Arm(recipes.parity())},
    scorer=last_row,
    n_seeds=200,
)


if __name__ == "__main__":
    main(STUDY, {"What signals that the string has ended": end_verdicts})
