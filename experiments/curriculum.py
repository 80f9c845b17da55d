"""Does a curriculum over lengths or tasks change what is learnt? Is the head learnt from parity alone?

python experiments/curriculum.py --n-workers 2
"""

from compo_mech.data.config import Stage
from compo_mech.data.tasks import Copy, Parity, Polynomial
from compo_mech.runs import recipes
from compo_mech.settings import changed
from compo_mech.studies import measures
from compo_mech.studies.circuit_scores import routes_taken
from compo_mech.studies.run import main
from compo_mech.studies.study import MEASURING, Arm, Study

MAX_LENGTH = 12
_ALONE = changed(recipes.parity_alone(), MEASURING | {"data.max_length": MAX_LENGTH})
_INITIAL_PHASE = Stage(n_steps=1500, task_weights=(1.0, 1.0))
_GROWING = tuple(Stage(n_steps=500, max_length=length) for length in (3, 6, 9))
_N_STRINGS = 1024
STUDY = Study(
    name="curriculum",
    question="does a curriculum over lengths or tasks change what is learnt? Is the head learnt from parity alone?",
    hypothesis="parity alone seldom gives a textbook head; an initial phase of a task whose inputs have many values "
    "does; growing lengths speed learning up and leave routes through other positions",
    primary=measures.ITERATION,
    arms={
        "parity alone": Arm(_ALONE),
        "parity alone, no shifts": Arm(changed(_ALONE, {"train.max_position_shift": 0})),
        "growing lengths": Arm(changed(_ALONE, {"data.curriculum": _GROWING})),
        "weight to long strings": Arm(
            changed(_ALONE, {"data.length_weights": tuple(map(float, range(1, MAX_LENGTH + 1)))})
        ),
        "1024 strings of a length": Arm(changed(_ALONE, {"data.n_train_strings": _N_STRINGS})),
        "1024 strings, a length a batch, shortest first": Arm(
            changed(_ALONE, {"data.n_train_strings": _N_STRINGS, "data.order": "shortest_first"})
        ),
        "the polynomial first": Arm(
            changed(
                _ALONE,
                {
                    "data.tasks": (Parity(), Polynomial()),
                    "data.task_weights": (1.0, 0.0),
                    "data.curriculum": (_INITIAL_PHASE,),
                },
            )
        ),
        "copy first": Arm(
            changed(
                _ALONE,
                {
                    "data.tasks": (Parity(), Copy()),
                    "data.task_weights": (1.0, 0.0),
                    "data.curriculum": (_INITIAL_PHASE,),
                },
            )
        ),
    },
    scorer=routes_taken,
    n_seeds=10,
    reference="parity alone",
)


if __name__ == "__main__":
    main(STUDY)
