"""Parity with other tasks mixed in, and with other weights of lengths, as arms of a study."""

from collections.abc import Mapping

from compo_mech.data.tasks import Copy, Parity, Polynomial, Task
from compo_mech.studies.study import Arm, short_config

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
OTHERS: Mapping[str, tuple[Task, tuple[float, ...]]] = {
    "polynomial": (Polynomial(zero_inputs=True), SHARES),
    "copy": (Copy(), SHARES),
    "copy of other values": (Copy(first_value=2), (0.5,)),
}
"""Tasks mixed in, and their shares of the rows."""

LENGTH_WEIGHTS = {
    "in proportion to length": tuple(map(float, range(1, 9))),
    "in inverse proportion": tuple(1 / n for n in range(1, 9)),
    "the longest half": (1.0,) * 4 + (4.0,) * 4,
}


def mixture_arms() -> Mapping[str, Arm]:
    """Return parity alone, parity with a share of another task, and parity alone with other weights of lengths."""
    alone = {"mixed in": "nothing", "share": 0.0, "lengths": "equally often"}
    arms = {"parity alone": Arm(short_config([Parity()]), factors=alone)}
    for name, (task, shares) in OTHERS.items():
        for share in shares:
            config = short_config([Parity(), task], {"data.task_weights": (1 - share, share)})
            arms[f"{share:.0%} {name}"] = Arm(config, factors=alone | {"mixed in": name, "share": share})
    for name, weights in LENGTH_WEIGHTS.items():
        config = short_config([Parity()], {"data.length_weights": weights})
        arms[f"lengths {name}"] = Arm(config, factors=alone | {"lengths": name})
    return arms
