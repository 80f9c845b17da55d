"""With more heads and layers than are needed, how is the work shared, and which heads do it?

python experiments/capacity.py --n-workers 2
"""

from compo_mech.studies import measures
from compo_mech.studies.run import main
from compo_mech.studies.shared_heads import heads_sharing, size_arms
from compo_mech.studies.study import Study

SIZES = ((2, 1, 1), (2, 2, 2), (2, 4, 4), (2, 4, 2), (3, 1, 1), (3, 2, 2), (4, 1, 1))
STUDY = Study(
    name="capacity",
    question="with more heads and layers than are needed, how is the work shared, and which heads do it?",
    hypothesis="with more heads no single one is needed: x_t is carried by several, and three layers of two heads "
    "spread the circuit over layers as well; heads that share keys and values share x_t as others do",
    primary=measures.X_CARRIED,
    arms=size_arms(SIZES),
    scorer=heads_sharing,
    n_seeds=20,
    reference="2 layers x 1 heads",
)


if __name__ == "__main__":
    main(STUDY)
