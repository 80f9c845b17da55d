"""What a study can measure of a run: each measure declared once, with how it is summarised over seeds and its bounds.

Scores, tables and figures all refer to these declarations, so that no name has to be read for what it means.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from compo_mech.evaluation.attention import MIN_LENGTH, TEXTBOOK_SCORE
from compo_mech.stats.over_seeds import SeedSummary


@dataclass(frozen=True)
class Measure:
    """Something that a run comes to, as one number.

    Attributes:
        name: in the column `measure` of a study's table.
        meaning: what the number is.
        summary: how it is summarised over seeds.
        bounds: between which its values lie (a share of an effect may pass 1 by a little).
        heading: what figures call it; None: its name.
    """

    name: str
    meaning: str
    summary: SeedSummary = SeedSummary.MEAN
    bounds: tuple[float, float] = (0.0, 1.0)
    heading: str | None = None

    @property
    def title(self) -> str:
        """What figures call it."""
        return self.name if self.heading is None else self.heading

    @property
    def margin(self) -> float:
        """Within which two arms count as equal."""
        return MARGINS[self.summary]


MARGINS = {SeedSummary.MEAN: 0.05, SeedSummary.FRACTION: 0.1, SeedSummary.TIME_TO_EVENT: 100.0}
"""Differences that do not matter: 5% of a mean's usual range, 10% of runs, and a snapshot of most studies, in steps."""

_FRACTION, _TIME = SeedSummary.FRACTION, SeedSummary.TIME_TO_EVENT
_POSITIVE, _DIFFERENCE = (0.0, math.inf), (-1.0, 1.0)

# Read off a run's rows. Accuracy is of whole strings, generated freely
ACCURACY = Measure("accuracy", "fraction of strings generated right, at the worst length, at the end")
ACCURACY_AT_LONGEST = Measure("accuracy at the longest", "the same at the longest length")
SOLVED = Measure("solved", "whether accuracy is at 99% at the end", _FRACTION)
STEPS_TO_99 = Measure("steps to 99%", "first snapshot from which on accuracy stays at 99%", _TIME, _POSITIVE)
FIRST_STEP_AT_95 = Measure("first step at 95%", "first snapshot with accuracy at 95%", _TIME, _POSITIVE)
FIRST_STEP_AT_99 = Measure("first step at 99%", "first snapshot with accuracy at 99%", _TIME, _POSITIVE)
TRAINING_ACCURACY = Measure("training accuracy", "teacher-forced accuracy on the fixed training strings, at the end")
FIRST_TRAINING_STEP_AT_99 = Measure(
    "first step at 99% of training strings", "first snapshot with training accuracy at 99%", _TIME, _POSITIVE
)

# Of attention at the end, means over lengths from MIN_LENGTH on
ITERATION = Measure("iteration", f"highest iteration score of any head, over lengths from {MIN_LENGTH} on")
LOOKUP = Measure("lookup", f"highest lookup score of any head, over lengths from {MIN_LENGTH} on")
TEXTBOOK = Measure("textbook", f"whether the highest iteration score is at least {TEXTBOOK_SCORE}", _FRACTION)
ENTROPY = Measure("entropy", "entropy of the attention of the head with the highest iteration score, in nats",
                  bounds=_POSITIVE)  # fmt: skip
_HEADINGS = {
    "sparsity": "sparsity of attention",
    "iteration_sparsity": "sparsity of attention at the rows of states",
    "pointer_weight": "weight on each row's strongest key",
    "iteration_first": "weight on x_t in the first row",
    "iteration_middle": "weight on x_t between the first and the last row",
    "iteration_last": "weight on x_t in the last row",
    "end_on_end_of_input": "weight on [EoI] of the row that predicts [EoS]",
    "end_pointer_weight": "weight on its strongest key of the row that predicts [EoS]",
}
"""What figures call measures of attention, by their names in `evaluation.head_scores`."""
HEAD_METRICS = (
    ENTROPY,
    *(
        Measure(name, f"{words}, of the head with the highest iteration score", heading=words)
        for name, words in _HEADINGS.items()
    ),
)
ATTENTION_SPARSITY, ITERATION_FIRST, END_ON_EOI = HEAD_METRICS[1], HEAD_METRICS[4], HEAD_METRICS[7]

# Of neurons, and where loss is the same
NEURON_SPARSITY = Measure("neuron sparsity", "how few neurons of `component` make up what it writes at a scored row")
STEP_AT_EQUAL_LOSS = Measure(
    "step at equal loss", "first snapshot with a mean test loss of 0.05 above its least", _TIME, _POSITIVE
)

# Which heads are needed
LARGEST_COST = Measure(
    "largest ablation cost", "per-state accuracy lost by the mean ablation of the costliest head", bounds=_DIFFERENCE
)
HEADS_TO_REMOVE = Measure(
    "heads to remove", "fewest heads of one layer whose ablation brings accuracy near the best guess", bounds=_POSITIVE
)
X_CARRIED = Measure("fraction of x_t carried", "of the head that carries the largest fraction of x_t")
X_CARRIED_BY_LAYER = Measure("fraction of x_t carried by layer", "of all heads of the layer that carries most of x_t")
HEADS_CARRYING_X = Measure("heads that carry x_t", "heads that carry at least a tenth of x_t", bounds=_POSITIVE)
ITERATION_HEAD_FOUND = Measure("iteration head found", "whether a head carries x_t alone", _FRACTION)
EOI_CARRIED = Measure("fraction of EoI carried", "of the head that carries most of the position of [EoI]")
X_BROUGHT = Measure("x_t brought by all heads", "answers that follow x_t, beyond those that change otherwise, when all "
                    "heads bring another", bounds=_DIFFERENCE)  # fmt: skip
LARGEST_SHARE = Measure("largest share of x_t", "largest Shapley share of a head in that", bounds=_DIFFERENCE)
LARGEST_SHARE_OF_LAYER = Measure(
    "largest share of x_t by layer", "largest sum of the Shapley shares of a layer's heads", bounds=_DIFFERENCE
)
HEADS_SHARING = Measure("heads that share x_t", "heads with a Shapley share of at least a tenth", bounds=_POSITIVE)
HEADS_ENOUGH = Measure(
    "heads enough for x_t", "fewest heads, of any layers, that suffice for nine tenths of x_t", bounds=_POSITIVE
)
HEADS_BLOCKING = Measure(
    "heads that block x_t", "fewest heads that, left as they are, keep answers from following the others",
    bounds=_POSITIVE,
)  # fmt: skip
LARGEST_SHARE_OF_EOI = Measure(
    "largest share of EoI", "largest Shapley share of a head before the last layer in bringing the position of [EoI]",
    bounds=_DIFFERENCE,
)  # fmt: skip
X_PROJECTED = Measure("x_t in the assigned head", "variance of what the head that is assigned to x_t writes, which x_t "
                      "explains", bounds=_DIFFERENCE)  # fmt: skip
X_PROJECTED_ELSEWHERE = Measure("x_t in another head", "the same of the head after it", bounds=_DIFFERENCE)
EOI_PROJECTED = Measure(
    "EoI in the assigned head", "variance of what the head that is assigned to the position of [EoI] writes, which "
    "that explains", bounds=_DIFFERENCE,
)  # fmt: skip
EOI_PROJECTED_ELSEWHERE = Measure("EoI in another head", "the same of the head after it", bounds=_DIFFERENCE)
X_CARRIED_BY_ASSIGNED = Measure("x_t carried by the assigned head", "fraction of x_t that it carries by itself")
ASSIGNED_CARRIES_X = Measure(
    "assigned head carries most of x_t", "whether no head carries more of x_t than the one assigned to it", _FRACTION
)
ASSIGNED_CARRIES_EOI = Measure("assigned head carries most of EoI", "the same of the position of [EoI]", _FRACTION)
SHARE_SHOWS = Measure(
    "top score has top share", "whether the head with the highest iteration score has the largest share", _FRACTION
)
ROW_ACCURACY = Measure("row accuracy", "fraction of strings with the row at `position` right")
ABLATED_ROW_ACCURACY = Measure("ablated row accuracy", "the same with `component` ablated by its mean")

# What signals that a string has ended
END_BY_ATTENTION = Measure("end by attention", "strings whose end the last layer's attention alone signals")
END_BY_STREAM = Measure("end by the stream", "strings whose end the row's own stream alone signals")
END_BY_BOTH = Measure("end by both together", "strings whose end neither of the two signals by itself")
END_BY_EITHER = Measure("end by either", "strings whose end each of the two signals by itself")
LENGTHS_BY_ATTENTION = Measure("lengths by attention", "lengths of which attention does so in nine strings of ten")
LENGTHS_BY_STREAM = Measure("lengths by the stream", "lengths of which the stream does")
LENGTHS_MIXED = Measure("lengths by no one signal", "lengths of which no one of the four is in nine strings of ten")
END_FOUND = Measure("end by finding EoI", "rows at `position` that say [EoS] if attention brings [EoI] alone")

# What is held where, and by which routes it comes
IIA = Measure("IIA", "interchange intervention accuracy: answers that follow another `variable` put in at `site`")
PROBE = Measure("probe accuracy", "accuracy of a linear probe of `variable` at `site`")
ROUTE_SHARE = Measure("route share", "share of the effect of x_t that comes by `route`")

# How positions are subtracted, and how the state is updated
SUBTRACTION = Measure("subtraction score", "how far the query is a function of i - j")
BY_TABLE = Measure("subtraction by table", "whether neurons of MLP 0 are each for few pairs (i, j)", _FRACTION)
BY_RULE = Measure("subtraction by rule", "whether neurons of MLP 0 are functions of i - j", _FRACTION)
NEURONS_BY_DIFFERENCE = Measure("neurons by i - j", "variance of the neurons of MLP 0 that i - j alone explains")
ACCURACY_IF_ADDITIVE = Measure("accuracy if additive", "states right with MLP 1 made a sum of functions of s and x")
N_NEURONS = Measure("neurons for 90%", "fewest neurons that add 90% of what all add to the right answers",
                    bounds=_POSITIVE)  # fmt: skip
N_FIRING_SETS = Measure("sets of pairs fired on", "different sets of pairs (s, x) that these neurons fire on",
                        bounds=_POSITIVE)  # fmt: skip

# What two tasks share
JACCARD = Measure("jaccard", "overlap of the edges of two circuits")
CIRCUITS_FOUND = Measure("circuits found", "whether circuits of both tasks were found", _FRACTION)
TASK_TOKEN_PATCHING = Measure(
    "task-token patching", "answers that become the other task's when `component` alone reads the other task token"
)
X_ACROSS_TASKS = Measure(
    "x_t carried across tasks", "answers that follow the x_t of a run of the other task, taken from `component`"
)

# What is left of one task after training on another
ACCURACY_AT_8 = Measure("accuracy at length 8", "fraction of strings of length 8 generated right, at `checkpoint`")
ITERATION_TO_8 = Measure("iteration to length 8", "highest iteration score up to length 8, at `checkpoint`")

# Beyond the lengths of training
ACCURACY_AT_NEXT = Measure("accuracy at the next length", "fraction of strings of length 9 that are written right")
ACCURACY_BEYOND = Measure("accuracy beyond training", "fraction of strings written right at the length at `position`")
STATES_BEYOND = Measure("states right beyond training", "fraction of their tokens that are, at the same length")

# At which positions of the longest strings
POSITIONS_RIGHT = Measure(
    "positions right", "fraction of t at which s_t is right in nine strings of ten, given right states"
)
POSITIONS_WRONG = Measure("positions wrong", "fraction of t at which s_t is right in less than half of them")
POSITIONS_LOOKED_AT = Measure("positions looked at", "fraction of t at which a head has half of its weight on x_t")
SOME_POSITIONS = Measure("some positions", "whether some positions are right and others wrong", _FRACTION)
WEIGHT_ON_X = Measure(
    "weight on x_t",
    "of the head that has most there, at the first or the last t or over those whose states are as `position` says",
)

# In which order a task is learnt
FIRST_STEP_OF_LENGTH = Measure(
    "first step at 99% of a length", "first snapshot with accuracy at 99% at the length at `position`", _TIME, _POSITIVE
)
COUNTS_BEFORE = Measure(
    "counts before x_t",
    "largest fraction of the answers' variance that counts of the inputs explain beyond x_t, before x_t explains half",
)
COUNTS_FIRST = Measure("counts first", "whether counts explain a twentieth before x_t explains half", _FRACTION)
FIRST_STEP_BY_NEXT = Measure(
    "first step by x_t", "first checkpoint at which x_t explains half of the answers' variance", _TIME, _POSITIVE
)
FIRST_STEP_BY_COUNTS = Measure(
    "first step by counts", "first checkpoint at which counts explain a twentieth of it beyond x_t", _TIME, _POSITIVE
)
INVARIANCE = Measure("invariance", "1 - deviation over strings of the weight on x_t, of the best head by iteration")

# What answers depend on
BY_EARLIER_INPUTS = Measure(
    "changed by earlier inputs", "right answers that change when one of x_1 .. x_{t-1} alone does, s_{t-1} held"
)
BY_TOKEN = Measure("changed by a token", "right answers that change when one other token alone does, by `position`")
EARLIER_INPUTS_CARRIED = Measure(
    "earlier inputs carried", "share of such changes that the stream before the last layer carries at `position` alone"
)

MEASURES: Mapping[str, Measure] = {
    measure.name: measure
    for measure in (
        *(ACCURACY, ACCURACY_AT_LONGEST, SOLVED, STEPS_TO_99, FIRST_STEP_AT_95, FIRST_STEP_AT_99),
        *(TRAINING_ACCURACY, FIRST_TRAINING_STEP_AT_99, ITERATION, LOOKUP, TEXTBOOK, *HEAD_METRICS),
        *(NEURON_SPARSITY, STEP_AT_EQUAL_LOSS),
        *(LARGEST_COST, HEADS_TO_REMOVE, X_CARRIED, X_CARRIED_BY_LAYER, HEADS_CARRYING_X, ITERATION_HEAD_FOUND),
        *(X_BROUGHT, LARGEST_SHARE, LARGEST_SHARE_OF_LAYER, HEADS_SHARING, HEADS_ENOUGH, HEADS_BLOCKING),
        *(X_PROJECTED, X_PROJECTED_ELSEWHERE, EOI_PROJECTED, EOI_PROJECTED_ELSEWHERE),
        *(X_CARRIED_BY_ASSIGNED, ASSIGNED_CARRIES_X, ASSIGNED_CARRIES_EOI),
        *(LARGEST_SHARE_OF_EOI, SHARE_SHOWS, EOI_CARRIED, ROW_ACCURACY, ABLATED_ROW_ACCURACY, IIA, PROBE, ROUTE_SHARE),
        *(END_BY_ATTENTION, END_BY_STREAM, END_BY_BOTH, END_BY_EITHER, END_FOUND),
        *(LENGTHS_BY_ATTENTION, LENGTHS_BY_STREAM, LENGTHS_MIXED),
        *(SUBTRACTION, BY_TABLE, BY_RULE, NEURONS_BY_DIFFERENCE, ACCURACY_IF_ADDITIVE, N_NEURONS, N_FIRING_SETS),
        *(JACCARD, CIRCUITS_FOUND, TASK_TOKEN_PATCHING, X_ACROSS_TASKS, ACCURACY_AT_8, ITERATION_TO_8),
        *(ACCURACY_AT_NEXT, ACCURACY_BEYOND, STATES_BEYOND),
        *(POSITIONS_RIGHT, POSITIONS_WRONG, POSITIONS_LOOKED_AT, SOME_POSITIONS, WEIGHT_ON_X),
        *(FIRST_STEP_OF_LENGTH, COUNTS_BEFORE, COUNTS_FIRST, FIRST_STEP_BY_NEXT, FIRST_STEP_BY_COUNTS, INVARIANCE),
        *(BY_EARLIER_INPUTS, BY_TOKEN, EARLIER_INPUTS_CARRIED),
    )
}
"""By name, all that the studies here measure."""
