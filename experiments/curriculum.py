"""Does a curriculum over lengths or tasks change what is learnt? Is the head learnt from parity alone?

python experiments/curriculum.py --n-workers 2
"""

from compo_mech.studies import measures
from compo_mech.studies.circuit_scores import routes_taken
from compo_mech.studies.curriculum import curriculum_arms
from compo_mech.studies.run import main
from compo_mech.studies.study import Study

STUDY = Study(
    name="curriculum",
    question="does a curriculum over lengths or tasks change what is learnt? Is the head learnt from parity alone?",
    hypothesis="parity alone seldom gives a textbook head; an initial phase of a task whose inputs have many values "
    "does; growing lengths speed learning up and leave routes through other positions",
    primary=measures.ITERATION,
    arms=curriculum_arms(),
    scorer=routes_taken,
    n_seeds=10,
    reference="parity alone",
)


if __name__ == "__main__":
    main(STUDY)
