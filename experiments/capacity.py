"""With more heads and layers than are needed, how is the work shared, and which heads do it?

python experiments/capacity.py --n-workers 2
"""

from compo_mech.runs import recipes
from compo_mech.settings import changed
from compo_mech.studies import measures
from compo_mech.studies.circuit_scores import heads_needed
from compo_mech.studies.run import main
from compo_mech.studies.study import SHORT, Arm, Study

SIZES = ((2, 1), (2, 2), (2, 4), (3, 1), (3, 2), (4, 1))
"""(layers, heads a layer). Every head has the width of the one that is enough, so that arms differ in number alone."""
_BASE = changed(recipes.parity_alone(), SHORT)
STUDY = Study(
    name="capacity",
    question="with more heads and layers than are needed, how is the work shared, and which heads do it?",
    hypothesis="with more heads no single one is needed: x_t is carried by several, and three layers of two heads "
    "spread the circuit over layers as well",
    primary=measures.X_CARRIED,
    arms={
        f"{n_layers} layers x {n_heads} heads": Arm(
            changed(_BASE, {"model.n_layers": n_layers, "model.n_heads": n_heads, "model.d_head": 64}),
            factors={"n_layers": n_layers, "n_heads": n_heads},
        )
        for n_layers, n_heads in SIZES
    },
    scorer=heads_needed,
    reference="2 layers x 1 heads",
)


if __name__ == "__main__":
    main(STUDY)
