"""How many dimensions do positions need, learned or frozen?

python experiments/position_dims.py --on stacks --keep last
"""

from compo_mech.runs import recipes
from compo_mech.settings import changed
from compo_mech.studies import measures
from compo_mech.studies.run import main
from compo_mech.studies.run_scores import main_scores
from compo_mech.studies.study import SHORT, Arm, Study

N_DIMS = {16: (2, 4, 8, 16), 32: (2, 4, 8, 16, 32)}
"""Of the position embeddings, by d_model."""

_BASE = changed(recipes.parity_alone(), SHORT)


def _arm(d_model: int, n_dims: int, frozen: bool) -> Arm:
    settings = {
        "model.d_model": d_model, "model.n_pos_dims": n_dims, "model.freeze": ("pos_embed",) if frozen else (),
    }  # fmt: skip
    factors = {"d_model": d_model, "n_pos_dims": n_dims, "positions": "frozen" if frozen else "learned"}
    return Arm(changed(_BASE, settings), factors=factors)


STUDY = Study(
    name="position_dims",
    question="how many dimensions do positions need, learned or frozen?",
    hypothesis="8 dimensions are enough, learned or frozen; with 2 and 4 accuracy and the iteration head are lost, "
    "frozen ones first",
    primary=measures.ACCURACY,
    arms={
        f"d_model {d_model}, {n_dims} dimensions, {'frozen' if frozen else 'learned'}": _arm(d_model, n_dims, frozen)
        for d_model, dims in N_DIMS.items()
        for n_dims in dims
        for frozen in (False, True)
    },
    scorer=main_scores,
    n_seeds=20,
    reference="d_model 32, 32 dimensions, learned",
)


if __name__ == "__main__":
    main(STUDY)
