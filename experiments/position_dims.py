"""How many dimensions do positions need, learned or frozen?

python experiments/position_dims.py --on stacks --device cuda
"""

from compo_mech.runs import recipes
from compo_mech.settings import changed
from compo_mech.studies import measures
from compo_mech.studies.run import main
from compo_mech.studies.run_scores import main_scores
from compo_mech.studies.study import SHORT, Arm, Study

N_DIMS = {32: (2, 4, 8, 16, 32), 64: (2, 4, 8, 16, 64)}
"""Of the position embeddings, by d_model."""

_BASE = changed(recipes.parity_alone(), SHORT)
STUDY = Study(
    name="position_dims",
    question="how many dimensions do positions need, learned or frozen?",
    hypothesis="8 dimensions are enough, learned or frozen; with 2 and 4 accuracy and the iteration head are lost, "
    "frozen ones first",
    primary=measures.ACCURACY,
    arms={
        f"d_model {width}, {n} dimensions, {'frozen' if frozen else 'learned'}": Arm(
            changed(
                _BASE,
                {"model.d_model": width, "model.n_pos_dims": n, "model.freeze": ("pos_embed",) if frozen else ()},
            ),
            factors={"d_model": width, "n_pos_dims": n, "frozen": str(frozen)},
        )
        for width, dims in N_DIMS.items()
        for n in dims
        for frozen in (False, True)
    },
    scorer=main_scores,
    n_seeds=50,
    reference="d_model 64, 64 dimensions, learned",
)


if __name__ == "__main__":
    main(STUDY)
