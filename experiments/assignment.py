"""With more heads than are needed, which stands for which of the circuit's, by what each writes?

python experiments/assignment.py --on stacks
"""

from compo_mech.studies import measures
from compo_mech.studies.assignment import assignment_scores
from compo_mech.studies.run import main
from compo_mech.studies.shared_heads import size_arms
from compo_mech.studies.study import Study

SIZES = ((2, 1, 1), (2, 2, 2), (2, 4, 4), (2, 4, 2))
"""(layers, heads a layer, key-value heads a layer)."""
STUDY = Study(
    name="assignment",
    question="with more heads than are needed, which stands for which of the circuit's, by what each writes?",
    hypothesis="the head in whose output x_t explains most is the one that carries most of x_t, in nine networks of "
    "ten of one or two heads a layer and in fewer of four, where others have it in their output as well",
    primary=measures.ASSIGNED_CARRIES_X,
    arms=size_arms(SIZES),
    scorer=assignment_scores,
    n_seeds=20,
    reference="2 layers x 1 heads",
)


if __name__ == "__main__":
    main(STUDY)
