"""How does MLP 1 make the exclusive or, and how many neurons does it take?

python experiments/state_rule.py --n-workers 2

d_mlp is the width of both MLPs, so that a network with few neurons may fail for want of either.
"""

from compo_mech.runs import recipes
from compo_mech.settings import changed
from compo_mech.studies import measures
from compo_mech.studies.probe_scores import state_scores
from compo_mech.studies.run import main
from compo_mech.studies.study import SHORT, Arm, Study

WIDTHS = (4, 16, 256)
_BASE = changed(recipes.parity_alone(), SHORT)
STUDY = Study(
    name="state_rule",
    question="how does MLP 1 make the exclusive or, and how many neurons does it take?",
    hypothesis="by neurons that each fire for one pair of s and x; four are enough, and with the MLP made a sum of "
    "functions of s and of x the answers are lost",
    primary=measures.ACCURACY_IF_ADDITIVE,
    arms={
        f"{act_fn}, {width} neurons": Arm(
            changed(_BASE, {"model.d_mlp": width, "model.act_fn": act_fn}),
            factors={"act_fn": act_fn, "d_mlp": width},
        )
        for act_fn in ("gelu", "relu")
        for width in WIDTHS
        if act_fn == "gelu" or width == 256
    },
    scorer=state_scores,
    n_seeds=20,
    reference="gelu, 256 neurons",
)


if __name__ == "__main__":
    main(STUDY)
