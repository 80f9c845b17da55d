"""Algorithms for iterative tasks, each as a causal graph on given heads and MLPs.

textbook          L0H0 looks [EoI] up, MLP 0 subtracts, L1H0 fetches x_t, MLP 1 updates the state
moved and split   the same a layer later, behind an idle layer 0, with the fetching divided between two heads
neighbour         L0H1 carries each token to the next position, and L1H1 fetches x_t from there
prefix sums       L0H1 adds the inputs up, MLP 0 makes the state of the sum, L1H0 fetches it; no state is read
"""

from collections.abc import Callable

import torch

from compo_mech.data.config import DataConfig
from compo_mech.ground_truth.causal_graph import NOTHING, UNDEFINED, CausalGraph, Node, Values, fetched
from compo_mech.interventions.edges import Writer

Reads = tuple[tuple[str, str], ...]

LOOKUP: Reads = (("k", "tok"), ("v", "pos"))
SUBTRACTION: Reads = (("mlp", "pos"), ("mlp", "end"))


def look_up(data: DataConfig, component: Writer) -> Node:
    """Return the node `end`: the position id of [EoI], nothing before it."""
    end_id = data.vocabulary.end_of_input_id
    return Node("end", component, LOOKUP, lambda tok, pos: fetched(end_id, tok, pos))


def pointer(pos: Values, end: Values) -> Values:
    """Return which state the row predicts, t = i - e + 1, where [EoI] is known and not behind it."""
    return torch.where((end >= 0) & (pos >= end), pos - end + 1, UNDEFINED)


def fetch(component: Writer, off: int = 0, content: str = "tok", variable: str = "value") -> Node:
    """Return the node `value`: what stands at the position whose id is t + off."""

    def rule(t: Values, pos: Values, content: Values) -> Values:
        found = fetched(torch.where(t < 0, UNDEFINED, t + off), pos, content)
        return torch.where(found == NOTHING, UNDEFINED, found)

    return Node(variable, component, (("q", "pointer"), ("k", "pos"), ("v", content)), rule)


def fetch_some(component: Writer, rest: int) -> Node:
    """Return a node that fetches x_t where t mod 2 is `rest`, and nothing elsewhere."""
    whole = fetch(component, variable=f"value{rest}")

    def rule(t: Values, pos: Values, tok: Values) -> Values:
        return torch.where((t >= 0) & (t % 2 != rest), NOTHING, whole.rule(t, pos, tok))

    return Node(whole.variable, component, whole.reads, rule)


def update(data: DataConfig, component: Writer, values: tuple[str, ...] = ("value",)) -> Node:
    """Return the node `answer`: F(s_{t-1}, x_t) of the own token, where the task reads it, and the one fetched value;
    [EoS] where that is [EoI]."""
    task, words = data.tasks[0], data.vocabulary
    table = torch.full((len(words) + 1, len(words) + 1), UNDEFINED)
    inputs = list(range(task.first_input, task.n_inputs))
    table[: task.n_states, inputs] = task.table[:-1, inputs]
    table[words.end_of_input_id, inputs] = task.table[-1, inputs]
    table[:, words.end_of_input_id] = words.end_of_states_id
    reads_state = bool((task.table[:, inputs] != task.table[-1, inputs]).any())
    if not reads_state:
        table[:] = table[0].clone()

    def rule(*seen: Values) -> Values:
        fetched_values = torch.stack(seen[-len(values) :])
        is_one = (fetched_values != NOTHING).sum(0) == 1
        value = torch.where(is_one, fetched_values.max(0).values, UNDEFINED)
        return table[seen[0] if reads_state else value, value]  # undefined is the last column

    own: Reads = (("mlp", "tok"),) if reads_state else ()
    return Node("answer", component, own + tuple(("mlp", name) for name in values), rule)


def textbook(data: DataConfig) -> CausalGraph:
    """Return the circuit of the iteration head (Cabannes et al. 2024), in two layers.

    Example:
        >>> from compo_mech.data import Copy, DataConfig
        >>> from compo_mech.ground_truth import textbook
        >>> [str(node.component) for node in textbook(DataConfig(tasks=(Copy(),))).nodes]
        ['L0H0', 'mlp0', 'L1H0', 'mlp1']
    """
    nodes = (
        look_up(data, Writer("head", 0, 0)),
        Node("pointer", Writer("mlp", 0), SUBTRACTION, pointer),
        fetch(Writer("head", 1, 0)),
        update(data, Writer("mlp", 1)),
    )
    return CausalGraph(nodes, "answer")


def moved_and_split(data: DataConfig) -> CausalGraph:
    """Return the same algorithm in layers 1 and 2 of three; one head fetches x_t where t is odd, another where even.

    Example:
        >>> from compo_mech.data import DataConfig, Parity
        >>> from compo_mech.ground_truth import moved_and_split
        >>> [str(node.component) for node in moved_and_split(DataConfig(tasks=(Parity(),))).nodes]
        ['L1H1', 'mlp1', 'L2H0', 'L2H1', 'mlp2']
    """
    nodes = (
        look_up(data, Writer("head", 1, 1)),
        Node("pointer", Writer("mlp", 1), SUBTRACTION, pointer),
        fetch_some(Writer("head", 2, 0), rest=1),
        fetch_some(Writer("head", 2, 1), rest=0),
        update(data, Writer("mlp", 2), ("value1", "value0")),
    )
    return CausalGraph(nodes, "answer")


def neighbour(data: DataConfig) -> CausalGraph:
    """Return the algorithm in which layer 0 carries every token one position on, and x_t is fetched from there.

    Example:
        >>> from compo_mech.data import DataConfig, Parity
        >>> from compo_mech.ground_truth import neighbour
        >>> sorted(str(edge) for edge in neighbour(DataConfig(tasks=(Parity(),))).edges if edge.reader.kind == "v")
        ['L0H1 → L1H1.v', 'pos → L0H0.v', 'tok → L0H1.v']
    """

    def carried(own: Values, pos: Values, tok: Values) -> Values:
        return fetched(own - 1, pos, tok)

    nodes = (
        look_up(data, Writer("head", 0, 0)),
        Node("carried", Writer("head", 0, 1), (("q", "pos"), ("k", "pos"), ("v", "tok")), carried),
        Node("pointer", Writer("mlp", 0), SUBTRACTION, pointer),
        fetch(Writer("head", 1, 1), off=1, content="carried"),
        update(data, Writer("mlp", 1)),
    )
    return CausalGraph(nodes, "answer")


def prefix_sums(data: DataConfig) -> CausalGraph:
    """Return the algorithm that adds the inputs up where they stand, and fetches the state from there.

    The states before are not read, MLP 1 is idle, and the logits read the head. It is for tasks whose state is the sum
    of the inputs, modulo the number of states.

    Example:
        >>> from compo_mech.data import DataConfig, Parity
        >>> from compo_mech.ground_truth import prefix_sums
        >>> [str(edge) for edge in prefix_sums(DataConfig(tasks=(Parity(),))).edges if str(edge.reader) == "logits"]
        ['L1H0 → logits']
    """
    task, words = data.tasks[0], data.vocabulary
    n_states = task.n_states

    def total(tok: Values) -> Values:
        """The sum up to a position, as long as there are only inputs behind the first token."""
        is_input = tok < task.n_inputs
        is_input[:, 0] = True
        summed = torch.where(is_input, tok, 0)
        summed[:, 0] = 0
        return torch.where(is_input.long().cumprod(1) == 1, summed.cumsum(1), UNDEFINED)

    def own(pos: Values, end: Values, total: Values) -> Values:
        """The state where [EoI] is to come; from there on, n_states + t."""
        index = torch.arange(pos.shape[1]).expand_as(pos)
        state = torch.where((total >= 0) & (pos == index), total % n_states, UNDEFINED)
        t = pointer(pos, end)
        return torch.where(end == NOTHING, state, torch.where(t < 0, UNDEFINED, n_states + t))

    def fetched_state(own: Values, pos: Values, content: Values) -> Values:
        t = torch.where(own >= n_states, own - n_states, UNDEFINED)
        found = fetched(t, pos, content)
        found = torch.where(found == n_states + 1, words.end_of_states_id, found)  # t = 1: [EoI] itself
        is_known = (found >= 0) & ((found < n_states) | (found == words.end_of_states_id))
        return torch.where(is_known & (t > 0), found, UNDEFINED)

    nodes = (
        look_up(data, Writer("head", 0, 0)),
        Node("sum", Writer("head", 0, 1), (("v", "tok"),), total),
        Node("pointer or state", Writer("mlp", 0), (*SUBTRACTION, ("mlp", "sum")), own),
        Node(
            "answer",
            Writer("head", 1, 0),
            (("q", "pointer or state"), ("k", "pos"), ("v", "pointer or state")),
            fetched_state,
        ),
    )
    return CausalGraph(nodes, "answer")


CIRCUITS: dict[str, Callable[[DataConfig], CausalGraph]] = {
    "textbook": textbook,
    "moved and split": moved_and_split,
    "neighbour": neighbour,
    "prefix sums": prefix_sums,
}
"""Each algorithm by its name."""
