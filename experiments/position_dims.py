"""How many dimensions do positions need, learned or frozen, and does longer training make up for few?

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
LONGER, N_DIMS_LONGER = 5, {16: (4, 8, 16)}
"""Times as many steps, and what has them."""

_BASE = changed(recipes.parity_alone(), SHORT)


def _arm(d_model: int, n_dims: int, frozen: bool, times: int) -> Arm:
    n_steps = times * _BASE.train.n_steps
    settings = {
        "model.d_model": d_model, "model.n_pos_dims": n_dims, "model.freeze": ("pos_embed",) if frozen else (),
        "train.n_steps": n_steps,
    }  # fmt: skip
    positions = "frozen" if frozen else "learned"
    factors = {"d_model": d_model, "n_pos_dims": n_dims, "positions": positions, "n_steps": n_steps}
    return Arm(changed(_BASE, settings), factors=factors)


STUDY = Study(
    name="position_dims",
    question="how many dimensions do positions need, learned or frozen, and does longer training make up for few?",
    hypothesis="8 dimensions are enough, learned or frozen; with 2 and 4 accuracy and the iteration head are lost, "
    "frozen ones first; five times as many steps change neither",
    primary=measures.ACCURACY,
    arms={
        f"d_model {d_model}, {n_dims} dimensions, {'frozen' if frozen else 'learned'}{suffix}": _arm(
            d_model, n_dims, frozen, times
        )
        for times, suffix, by_width in ((1, "", N_DIMS), (LONGER, f", {LONGER} times as long", N_DIMS_LONGER))
        for d_model, dims in by_width.items()
        for n_dims in dims
        for frozen in (False, True)
    },
    scorer=main_scores,
    n_seeds=20,
    reference="d_model 32, 32 dimensions, learned",
)


if __name__ == "__main__":
    main(STUDY)
