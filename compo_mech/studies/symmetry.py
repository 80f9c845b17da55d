"""Tasks of few states whose inputs commute or do not, as arms of a study."""

from collections.abc import Mapping

from compo_mech.data.tasks import Automaton, Copy, Counter, Parity, Polynomial, Task
from compo_mech.studies.study import Arm, short_config

HOLD, FLIP, TO_0, TO_1 = (0, 1), (1, 0), (0, 0), (1, 1)
"""What an input makes of the states 0 and 1."""

ALPHABETS = {2: "bits", 3: "three inputs", 4: "four inputs", 11: "eleven inputs"}


def two_states(*inputs: tuple[int, int]) -> Automaton:
    """Return the automaton of two states whose inputs do this to them.

    >>> two_states(HOLD, FLIP).transitions  # parity
    ((0, 1), (1, 0))
    """
    return Automaton(transitions=tuple(zip(*inputs, strict=True)))


def commutes(task: Task) -> bool:
    """Tell whether the state after two inputs is the same in either order, from any state.

    >>> commutes(Parity()), commutes(Copy())
    (True, False)
    """
    rule, inputs, states = task.table, range(task.first_input, task.n_inputs), range(task.n_states)
    return all(rule[rule[s, x], y] == rule[rule[s, y], x] for s in states for x in inputs for y in inputs)


TASKS: Mapping[str, Task] = {
    "parity: hold, flip": Parity(),
    "hold, flip, flip": two_states(HOLD, FLIP, FLIP),
    "hold, flip, to 1": two_states(HOLD, FLIP, TO_1),
    "flip, to 0": two_states(FLIP, TO_0),
    "hold, to 0, to 1": two_states(HOLD, TO_0, TO_1),
    "copy: to 0, to 1": Copy(),
    "hold, flip, hold, flip": two_states(HOLD, FLIP, HOLD, FLIP),
    "hold, flip, to 0, to 1": two_states(HOLD, FLIP, TO_0, TO_1),
    "counter modulo 3": Counter(modulus=3),
    "polynomial modulo 3": Polynomial(modulus=3, zero_inputs=True, start="zero"),
    "counter modulo 11": Counter(modulus=11),
    "polynomial modulo 11": Polynomial(zero_inputs=True, start="zero"),
}


PAIRS = {
    "parity: hold, flip": "flip, to 0",
    "hold, flip, flip": "hold, flip, to 1",
    "hold, flip, hold, flip": "hold, flip, to 0, to 1",
    "counter modulo 3": "polynomial modulo 3",
    "counter modulo 11": "polynomial modulo 11",
}
"""Of each rule whose inputs commute, one with as many states and inputs whose do not. In the third pair a bit that is
marked starts the parity anew, or counts like any other."""


def symmetry_arms() -> Mapping[str, Arm]:
    """Return each task alone; whether its inputs commute, and how many there are, are factors."""
    changes = {"train.snapshot_every": 50, "train.n_steps": 2400}
    return {
        name: Arm(
            short_config([task], changes),
            factors={"commutes": str(commutes(task)), "alphabet": ALPHABETS[task.n_inputs]},
        )
        for name, task in TASKS.items()
    }
