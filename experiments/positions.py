"""Do frozen or low-dimensional position embeddings change how positions are subtracted?

python experiments/positions.py --n-workers 2
"""

from compo_mech.runs import recipes
from compo_mech.settings import changed
from compo_mech.studies import measures
from compo_mech.studies.probe_scores import position_scores
from compo_mech.studies.run import main
from compo_mech.studies.study import SHORT, Arm, Study

N_POS_DIMS = (2, 4, 8)
_BASE = changed(recipes.parity_alone(), SHORT)
STUDY = Study(
    name="positions",
    question="do frozen or low-dimensional position embeddings change how positions are subtracted?",
    hypothesis="random frozen embeddings do as well as trained ones; a few dimensions do, too few to tell positions "
    "apart do not, and those in between push the subtraction from a table towards a rule",
    primary=measures.SUBTRACTION,
    arms={"trained": Arm(_BASE, factors={"n_pos_dims": 64, "frozen": False})}
    | {
        f"{n} dimensions": Arm(changed(_BASE, {"model.n_pos_dims": n}), factors={"n_pos_dims": n, "frozen": False})
        for n in N_POS_DIMS
    }
    | {
        "frozen": Arm(changed(_BASE, {"model.freeze": ("pos_embed",)}), factors={"n_pos_dims": 64, "frozen": True}),
        "frozen, 8 dimensions": Arm(
            changed(_BASE, {"model.freeze": ("pos_embed",), "model.n_pos_dims": 8}),
            factors={"n_pos_dims": 8, "frozen": True},
        ),
    },
    scorer=position_scores,
    reference="trained",
)


if __name__ == "__main__":
    main(STUDY)
