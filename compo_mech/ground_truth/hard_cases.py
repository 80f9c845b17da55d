"""Hand-built circuits that mislead: each defeats a method, or a sentence, that does well on the textbook circuit."""

from typing import Protocol

from compo_mech.data.config import DataConfig
from compo_mech.data.tasks import TaskField
from compo_mech.ground_truth.build import Constructed, constructed
from compo_mech.ground_truth.hard_carriers import Cancelling, InertDiagonal, SelfRepair, TwoOfThree
from compo_mech.ground_truth.hard_positions import Counted, HalfLookups, IdleLayer, Sinusoidal
from compo_mech.ground_truth.hard_updates import PrefixCounts, PrefixSums, TableOfStrings, TakenBack
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.ground_truth.steps import Steps


class HardCase(Protocol):
    """A kind of circuit: what makes a sketch of it for a task, with options; and the names of its tasks, none: all."""

    tasks: tuple[str, ...]

    def __call__(self, data: DataConfig, rungs: BuildOptions) -> Steps: ...


HARD_CASES: dict[str, HardCase] = {
    "half lookups": HalfLookups,
    "counted": Counted,
    "sinusoidal positions": Sinusoidal,
    "idle layer 0": IdleLayer,
    "cancelling": Cancelling,
    "two of three": TwoOfThree,
    "self-repair": SelfRepair,
    "inert diagonal": InertDiagonal,
    "taken back": TakenBack,
    "table of strings": TableOfStrings,
    "prefix counts": PrefixCounts,
    "prefix sums": PrefixSums,
}
"""Each kind by its name."""

BRINGS: dict[str, dict[str, str]] = {
    "half lookups": {"L0H0": "end", "L0H1": "end", "L1H0": "x_t"},
    "counted": {"L0H0": "end", "L1H0": "end", "L2H0": "x_t"},
    "sinusoidal positions": {"L0H0": "end", "L1H0": "x_t"},
    "idle layer 0": {"L1H0": "end", "L2H0": "x_t"},
    "cancelling": {"L0H0": "end", "L1H0": "x_t", "L1H1": "x_t"},
    "two of three": {"L0H0": "end", "L1H0": "x_t", "L1H1": "x_t", "L1H2": "x_t"},
    "self-repair": {"L0H0": "end", "L1H0": "x_t"},
    "inert diagonal": {"L0H0": "end", "L1H0": "x_t", "L1H1": "x_1 .. x_L"},
    "taken back": {"L0H0": "end", "L1H0": "x_t", "L2H0": "s_t"},
    "table of strings": {"L0H0": "x_1", "L0H1": "x_2", "L0H2": "x_3", "L0H3": "x_4"},
    "prefix counts": {"L0H0": "end", "L1H0": "x_1 .. x_t"},
    "prefix sums": {"L0H0": "end", "L0H1": "x_1 .. x_L", "L1H0": "x_1 .. x_t"},
}
"""What each head brings to the row that predicts s_t: `end` depends on where that row and [EoI] are, and on no input;
`s_t` on the state before and on x_t. Heads that are not named bring the same to that row whatever the string, although
the backup of `self-repair` would not if L1H0 brought something else. What a head brings need not be read: see `roles`.
"""

HARDER = ("sharpness", "rotated", "distractors", "noise", "seed")
"""The options that hard cases take."""


def build_hard_case(
    name: str, task: TaskField, max_length: int | None = None, rungs: BuildOptions | None = None
) -> Constructed:
    """Build a network that solves a task by one of the circuits that mislead.

    Args:
        name: of the kind, a key of `HARD_CASES`.
        task: that it solves.
        max_length: of its strings; None: 8, or 4 for a table of strings.
        rungs: of difficulty; only sharpness, rotated, distractors, noise and seed may differ from their defaults.

    Raises:
        ValueError: there is no such kind, it does not solve the task, or it does not take an option.

    Example:
        >>> from compo_mech.data import Parity
        >>> from compo_mech.ground_truth import build_hard_case
        >>> built = build_hard_case("two of three", Parity(), max_length=3)
        >>> len(built.edges), len(built.alone)
        (18, 6)
    """
    if name not in HARD_CASES:
        raise ValueError(f"name = {name!r}: must be one of {', '.join(HARD_CASES)}")
    kind, rungs = HARD_CASES[name], rungs or BuildOptions()
    if kind.tasks and task.name not in kind.tasks:
        raise ValueError(f"task = {task}: must be one of {', '.join(kind.tasks)} for {name}")
    plain = BuildOptions()
    for option in BuildOptions.model_fields:
        if option not in HARDER and getattr(rungs, option) != getattr(plain, option):
            raise ValueError(f"{option} = {getattr(rungs, option)}: a hard case takes only {', '.join(HARDER)}")
    longest = max_length or (4 if kind is TableOfStrings else 8)
    return constructed(kind(DataConfig(tasks=(task,), max_length=longest), rungs))
