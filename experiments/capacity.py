"""With more heads and layers than are needed, how is the work shared, and which heads do it?

python experiments/capacity.py --n-workers 2
"""

from compo_mech.runs import recipes
from compo_mech.settings import changed
from compo_mech.studies import measures
from compo_mech.studies.run import main
from compo_mech.studies.shared_heads import heads_sharing
from compo_mech.studies.study import SHORT, Arm, Study

SIZES = ((2, 1, 1), (2, 2, 2), (2, 4, 4), (2, 4, 2), (3, 1, 1), (3, 2, 2), (4, 1, 1))
"""(layers, heads a layer, key-value heads a layer). Every head has the width of the one that is enough, so that arms
differ in number alone."""
_BASE = changed(recipes.parity_alone(), SHORT)
STUDY = Study(
    name="capacity",
    question="with more heads and layers than are needed, how is the work shared, and which heads do it?",
    hypothesis="with more heads no single one is needed: x_t is carried by several, and three layers of two heads "
    "spread the circuit over layers as well; heads that share keys and values share x_t as others do",
    primary=measures.X_CARRIED,
    arms={
        f"{n_layers} layers x {n_heads} heads{'' if n_shared == n_heads else f', {n_shared} key-value heads'}": Arm(
            changed(
                _BASE,
                {
                    "model.n_layers": n_layers,
                    "model.n_heads": n_heads,
                    "model.n_key_value_heads": None if n_shared == n_heads else n_shared,
                    "model.d_head": 64,
                },
            ),
            factors={"n_layers": n_layers, "n_heads": n_heads, "n_key_value_heads": n_shared},
        )
        for n_layers, n_heads, n_shared in SIZES
    },
    scorer=heads_sharing,
    n_seeds=20,
    reference="2 layers x 1 heads",
)


if __name__ == "__main__":
    main(STUDY)
