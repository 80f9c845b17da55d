"""What is lost without a chain of thought, and with one layer?

python experiments/baselines.py --n-workers 2
"""

from compo_mech.runs import recipes
from compo_mech.settings import changed
from compo_mech.studies import measures
from compo_mech.studies.run import main
from compo_mech.studies.run_scores import run_scores
from compo_mech.studies.study import MEASURING, Arm, Study

LENGTHS = (4, 8, 12)
ARCHITECTURES = {
    "2 layers": (True, 2),
    "1 layer": (True, 1),
    "1 layer, no chain of thought": (False, 1),
    "2 layers, no chain of thought": (False, 2),
    "4 layers, no chain of thought": (False, 4),
}
STUDY = Study(
    name="baselines",
    question="what is lost without a chain of thought, and with one layer?",
    hypothesis="with a chain of thought two layers solve every length and one layer does not; without it accuracy "
    "falls with length, at two layers and at four",
    primary=measures.ACCURACY_AT_LONGEST,
    arms={
        f"{name}, length {length}": Arm(
            changed(
                recipes.parity_alone(),
                MEASURING
                | {
                    "train.n_steps": 2000,
                    "data.max_length": length,
                    "data.chain_of_thought": thought,
                    "model.n_layers": n_layers,
                },
            ),
            factors={"architecture": name, "length": length},
        )
        for length in LENGTHS
        for name, (thought, n_layers) in ARCHITECTURES.items()
    },
    scorer=run_scores,
)


if __name__ == "__main__":
    main(STUDY)
