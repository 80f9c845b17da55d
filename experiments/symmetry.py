"""Is parity hard because it is symmetric? Two states, and rules that do or do not depend on the order of the inputs.

python experiments/symmetry.py --on stacks --device cuda
"""

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import Automaton, Copy, Counter, Parity, Polynomial, Task
from compo_mech.runs.config import RunConfig
from compo_mech.settings import changed
from compo_mech.studies import measures
from compo_mech.studies.run import main
from compo_mech.studies.run_scores import main_scores
from compo_mech.studies.study import SHORT, Arm, Study
from compo_mech.training.loop import TrainConfig

HOLD, FLIP, TO_0, TO_1 = (0, 1), (1, 0), (0, 0), (1, 1)
"""What an input makes of the states 0 and 1."""


def two_states(*inputs: tuple[int, int]) -> Automaton:
    """The automaton of two states whose inputs do this to them."""
    return Automaton(transitions=tuple(zip(*inputs, strict=True)))


TASKS: dict[str, tuple[Task, bool, str]] = {
    "parity: hold, flip": (Parity(), True, "bits"),
    "hold, flip, flip": (two_states(HOLD, FLIP, FLIP), True, "three inputs"),
    "hold, flip, to 1": (two_states(HOLD, FLIP, TO_1), False, "three inputs"),
    "flip, to 0": (two_states(FLIP, TO_0), False, "bits"),
    "hold, to 0, to 1": (two_states(HOLD, TO_0, TO_1), False, "three inputs"),
    "copy: to 0, to 1": (Copy(), False, "bits"),
    "counter modulo 3": (Counter(modulus=3), True, "three inputs"),
    "polynomial modulo 3": (Polynomial(modulus=3, zero_inputs=True, start="zero"), False, "three inputs"),
    "counter modulo 11": (Counter(modulus=11), True, "eleven inputs"),
    "polynomial modulo 11": (Polynomial(zero_inputs=True, start="zero"), False, "eleven inputs"),
}
"""By name: the task, whether its inputs commute, and how many there are."""

STUDY = Study(
    name="symmetry",
    question="is parity hard because it is symmetric?",
    hypothesis="tasks whose inputs commute take more steps than others with as many states and inputs, and fewer of "
    "their networks form a textbook head, since counting is another way to solve them",
    primary=measures.FIRST_STEP_AT_99,
    arms={
        name: Arm(
            changed(
                RunConfig(data=DataConfig(tasks=(task,), max_length=8), train=TrainConfig(max_position_shift=2)),
                SHORT | {"train.snapshot_every": 50, "train.n_steps": 2400},
            ),
            factors={"commutes": str(commutes), "alphabet": alphabet},
        )
        for name, (task, commutes, alphabet) in TASKS.items()
    },
    scorer=main_scores,
    n_seeds=100,
    reference="parity: hold, flip",
)


if __name__ == "__main__":
    main(STUDY)
