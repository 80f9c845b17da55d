"""Parity with its lengths, strings and tasks in one order of training or another."""

from collections.abc import Mapping

from compo_mech.data.config import Stage
from compo_mech.data.tasks import Copy, Parity, Polynomial, Task
from compo_mech.runs import recipes
from compo_mech.settings import changed
from compo_mech.studies.study import MEASURING, Arm

MAX_LENGTH = 12
N_STRINGS = 1024
"""Of each length, where strings are drawn once and used again."""

STAGES = tuple(Stage(n_steps=500, max_length=length) for length in (3, 6, 9))
"""Lengths that grow."""

INITIAL_PHASE = Stage(n_steps=1500, task_weights=(1.0, 1.0))
"""Mixed with another task."""


def curriculum_arms() -> Mapping[str, Arm]:
    """Return parity alone, and the same with one thing changed in each other arm."""
    alone = changed(recipes.parity_alone(), MEASURING | {"data.max_length": MAX_LENGTH})
    few: dict[str, object] = {"data.n_train_strings": N_STRINGS}
    changes: dict[str, dict[str, object]] = {
        "parity alone": {},
        "parity alone, no shifts": {"train.max_position_shift": 0},
        "growing lengths": {"data.curriculum": STAGES},
        "weight to long strings": {"data.length_weights": tuple(map(float, range(1, MAX_LENGTH + 1)))},
        "1024 strings of a length": few,
        "1024 strings, a length a batch, shortest first": few | {"data.order": "shortest_first"},
        "the polynomial first": _first(Polynomial()),
        "copy first": _first(Copy()),
    }
    return {name: Arm(changed(alone, change)) for name, change in changes.items()}


def _first(task: Task) -> dict[str, object]:
    """Settings of parity with an initial phase in which another task is mixed in."""
    return {"data.tasks": (Parity(), task), "data.task_weights": (1.0, 0.0), "data.curriculum": (INITIAL_PHASE,)}
