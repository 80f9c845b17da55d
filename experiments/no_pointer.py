"""Where no pointer forms, which circuit answers parity?

python experiments/no_pointer.py --n-workers 2
"""

from compo_mech.runs import recipes
from compo_mech.settings import changed
from compo_mech.studies import measures
from compo_mech.studies.no_pointer import reliance_scores
from compo_mech.studies.run import main
from compo_mech.studies.study import SHORT, Arm, Study

_BASE = changed(recipes.parity_alone(), SHORT)
STUDY = Study(
    name="no_pointer",
    question="where no pointer forms, which circuit answers parity?",
    hypothesis="with positions of 2 or 4 dimensions an answer depends on earlier inputs as well; the causal mask lets "
    "every input's position add up the inputs so far, and the last layer reads these sums near x_t; without a chain of "
    "thought they are read likewise",
    primary=measures.BY_EARLIER_INPUTS,
    arms={f"{n} dimensions": Arm(changed(_BASE, {"model.n_pos_dims": n})) for n in (64, 4, 2)}
    | {
        "no chain of thought, length 4": Arm(
            changed(_BASE, {"data.chain_of_thought": False, "data.max_length": 4}),
        )
    },
    scorer=reliance_scores,
    n_seeds=20,
    reference="64 dimensions",
)


if __name__ == "__main__":
    main(STUDY)
