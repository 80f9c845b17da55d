"""What decides each verdict, in a sentence for the box that it stands in."""

from compo_mech.analyses.position_subtraction import SCORE
from compo_mech.causal.interchange import FOLLOWED, HOLDS
from compo_mech.circuits.accuracy import ABLE
from compo_mech.circuits.discovery import HELD_OUT, LARGEST_FRACTION, OVERLAP, SWAPPED
from compo_mech.circuits.overlap import LEVEL
from compo_mech.evaluation.attention import MIN_LENGTH, SAME_KEY_SHARE, SHARP_ROW_SHARE, SHARP_WEIGHT, TEXTBOOK_SCORE
from compo_mech.interventions.head_ablation import COSTS
from compo_mech.interventions.head_swaps import CARRIES, CARRIES_IN_PART, MIN_COUNTED, STAYS
from compo_mech.interventions.role_rules import MOVES
from compo_mech.probing import unseen_pairs
from compo_mech.probing.additivity import NEEDED
from compo_mech.probing.unseen_pairs import MIN_PAIRS, ROOM
from compo_mech.runs.outcome import ACCURACY_LEVEL
from compo_mech.stats.onset import FALSE_ALARMS, GONE, MIN_POINTS
from compo_mech.weights.subtraction import FEW_PAIRS, RULE, RULE_MEDIAN, TABLE

ATTENTION = (
    f"Thresholds: a textbook iteration head has a score of {TEXTBOOK_SCORE} or more over lengths from {MIN_LENGTH} on; "
    f"any other pattern is sharp if in {SHARP_ROW_SHARE:.0%} of rows the strongest key has weight {SHARP_WEIGHT} or "
    f"more and is the same for {SAME_KEY_SHARE:.0%} of strings. The task is learnt at {ACCURACY_LEVEL:.0%} accuracy at "
    "the worst length."
)
CIRCUIT = (
    f"Thresholds: there is a circuit where the network is right about {ABLE:.0%} of the answers to either prompt, "
    f"where the edges of highest score move {SWAPPED} of the answers, leave out {1 - LARGEST_FRACTION:.0%} of the "
    f"network and do better than edges drawn at random, and where those found on half of the prompts move {HELD_OUT} "
    f"of the answers to the others and are the same to {OVERLAP} (Jaccard)."
)
HEADS = (
    f"A head brings a variable if, with what it does in another string put in, at least {CARRIES:.0%} of the answers "
    f"that another value would change follow, in part from {CARRIES_IN_PART:.0%} on, and at least {STAYS:.0%} of the "
    f"others stay, each by the lower end of its interval, over at least {MIN_COUNTED} answers; it is idle if "
    f"without it less than {COSTS:.0%} of states go wrong and logits move by less than {MOVES:.0%} of what they vary."
)
SHARING = (
    f"Thresholds: a head carries a variable for a task if {CARRIES:.0%} of its answers follow the head alone; a "
    f"component depends on the task token if {CARRIES:.0%} of the answers, of either task, become the other task's "
    "with what it reads, and fewer after a change of the same size and in the randomly initialised control; edges and "
    f"heads carry the task from {CARRIES_IN_PART:.0%} on if these controls lie below that, and from {CARRIES:.0%} on "
    f"if they lie below {CARRIES:.0%}; edges differ between tasks at p ≤ {LEVEL}."
)
INTERCHANGE = (
    f"Thresholds: a site holds a variable from {HOLDS:.0%} interchange intervention accuracy (IIA) on, with the random "
    "change of the same size (placebo) and the permuted labels below that."
)
PROBES = (
    f"{INTERCHANGE} Answers follow it if the whole interval lies above {FOLLOWED:.0%}, and both controls below; what "
    f"is not additive is needed if states are right less often without it, by more than {100 * NEEDED:.0f} points; a "
    "query that points by i − j "
    f"has a subtraction score of {SCORE} or more. Neurons are a rule if i − j explains {RULE:.0%} of their variance in "
    f"the mean and {RULE_MEDIAN:.0%} in the median, a table if it explains at most {TABLE:.0%} and the median neuron "
    f"is active on at most {FEW_PAIRS:.0%} of pairs. Behaviour is a rule if pairs never trained on, {MIN_PAIRS} or "
    f"more, keep {unseen_pairs.RULE:.0%} of what trained ones have above the best guess, at least {ROOM}, and a table "
    f"if they keep at most {unseen_pairs.TABLE:.0%}, by their intervals."
)
EMERGENCE = (
    f"Thresholds: a component is dated from {MIN_POINTS} checkpoints on, if they are told from a flat course at p ≤ "
    f"{FALSE_ALARMS}, and only if at most {GONE:.0%} of its rise lay before the first; a plateau is seen from two "
    f"checkpoints on; accuracy counts as flat once it stays at {ACCURACY_LEVEL:.0%}."
)
