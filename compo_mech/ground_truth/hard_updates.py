"""Circuits whose answer is made in another way than by updating the last state."""

from typing import ClassVar

from compo_mech.data.config import DataConfig
from compo_mech.data.splits import all_strings
from compo_mech.ground_truth.builder import Neuron
from compo_mech.ground_truth.hard_carriers import Carriers
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.ground_truth.steps import Steps
from compo_mech.interventions.edges import LOGITS, POS, TOK, Edge, Reader, Writer


class TakenBack(Carriers):
    """The textbook circuit, and a head in layer 2 that takes back 60% of the logit that it made.

    Example:
        >>> from compo_mech.data import DataConfig
        >>> from compo_mech.ground_truth import BuildOptions, TakenBack
        >>> TakenBack(DataConfig(), BuildOptions()).roles["L2H0"]
        'takes back'
    """

    def __init__(self, data: DataConfig, rungs: BuildOptions) -> None:
        super().__init__(data, rungs, n_layers=3, n_heads=2)
        self.edges.update(self.carry(1, 0, "iteration"))
        self.update(1, [])
        query, key = self.head(2, 0, "takes back", "answer", "answer")
        self.heads[2]["O"][0] *= -0.6
        for position in range(self.n_ctx):
            query[self.at("position", position), position] = self.scale
            key[self.at("position", position), position] = 1.0
        self.true(POS, Reader("q", 2, 0))
        self.true(POS, Reader("k", 2, 0))
        self.true(Writer("mlp", 1), Reader("v", 2, 0))
        self.true(Writer("head", 2, 0), LOGITS)


class TableOfStrings(Steps):
    """A table over whole strings: heads of layer 0 bring one position each, and MLP 0 knows every string and row.

    Nothing is iterated, and no state is read. Layer 1 does nothing.

    Example:
        >>> from compo_mech.data import DataConfig
        >>> from compo_mech.ground_truth import BuildOptions, TableOfStrings
        >>> TableOfStrings(DataConfig(max_length=2), BuildOptions()).roles
        {'L0H0': 'brings position 1', 'L0H1': 'brings position 2', 'mlp0': 'table of strings'}
    """

    longest: ClassVar[int] = 6

    def __init__(self, data: DataConfig, rungs: BuildOptions) -> None:
        n_max, words = data.max_length, data.vocabulary
        if n_max > self.longest:
            raise ValueError(f"max_length = {n_max}: must be at most {self.longest} for a table of strings")
        super().__init__(data, rungs, {f"slot{t}": len(words) for t in range(1, n_max + 1)}, 2, n_max)
        for head in range(n_max):
            t = head + 1
            _, key = self.head(0, head, f"brings position {t}", "token", f"slot{t}")
            key[self.at("position", t), 0] = 1.0
            self.ask_always.add((0, head))
            self.true(POS, Reader("k", 0, head))
            self.true(TOK, Reader("v", 0, head))
            self.true(Writer("head", 0, head), Reader("mlp", 0))
        for length in data.lengths:
            for string in all_strings(self.task, length):
                self.remember(string.tolist(), self.task.states(string).tolist())
        self.roles["mlp0"] = "table of strings"
        self.true(POS, Reader("mlp", 0))
        self.true(Writer("mlp", 0), LOGITS)

    def remember(self, string: list[int], states: list[int]) -> None:
        """Add the neurons of one string: where its inputs and [EoI] are in their slots, each row gives its answer."""
        held = [*string, self.words.end_of_input_id][: self.data.max_length]
        reads = {self.at(f"slot{t}", value): 1.0 for t, value in enumerate(held, start=1)}
        rows = self.data.layout.scored(len(string))
        for row, answer in zip(rows, [*states, self.words.end_of_states_id], strict=True):
            own = (self.at("position", row),)
            self.ramp(0, reads, (len(held) - 0.6, len(held) - 0.2), own, {self.at("answer", answer): 1.0})


class PrefixCounts(Carriers):
    """A head attends to x_1 .. x_t alike and brings their mean; an MLP makes the count of it, and its remainder.

    It brings all of the prefix, and no state is read.

    Example:
        >>> from compo_mech.data import DataConfig
        >>> from compo_mech.ground_truth import BuildOptions, PrefixCounts
        >>> PrefixCounts(DataConfig(), BuildOptions()).roles["L1H0"]
        'accumulates'
    """

    tasks: ClassVar[tuple[str, ...]] = ("parity", "counter")

    def __init__(self, data: DataConfig, rungs: BuildOptions) -> None:
        super().__init__(data, rungs, n_layers=2, n_heads=2, spaces={"count": 2})
        numbers = {self.at("token", x): float(x) for x in range(self.task.n_inputs)}
        ends = {self.at("token", self.words.end_of_input_id): 1.0}
        query, key = self.bring(1, 0, "accumulates", [numbers, ends], "count")
        for j in range(1, self.n_ctx):
            query[[self.at("pointer", t) for t in range(j, self.n_ctx)], j] = self.scale
            key[self.at("position", j), j] = 1.0
        self.edges.update(self.read_by_head(1, 0, Writer("mlp", 0)))
        mean, ended = self.at("count"), self.at("count", 1)
        for t in range(1, data.max_length + 1):
            gate = float(self.task.n_inputs * self.n_ctx)
            own = {self.at("pointer", t): gate, ended: -gate * self.n_ctx}
            for bend, heights in remainders(self.task.n_states, (self.task.n_inputs - 1) * t):
                writes = {self.at("answer", r): height for r, height in heights.items()}
                self.neurons[1].append(Neuron({mean: float(t)} | own, -gate - bend, writes))
        done = {self.at("answer", self.words.end_of_states_id): 1.0}
        self.ramp(1, {ended: 1.0}, (0.3 / self.n_ctx, 0.9 / self.n_ctx), (), done)
        self.roles["mlp1"] = "remainder"
        self.true(Writer("head", 1, 0), Reader("mlp", 1))
        self.true(Writer("mlp", 0), Reader("mlp", 1))
        self.true(Writer("mlp", 1), LOGITS)


class PrefixSums(Carriers):
    """Every input's row adds up the inputs so far; the iteration head fetches from position t not x_t but that sum.

    The diagonal is the textbook's; what it brings is the answer, and no state is read.

    Example:
        >>> from compo_mech.data import DataConfig
        >>> from compo_mech.ground_truth import BuildOptions, PrefixSums
        >>> sketch = PrefixSums(DataConfig(), BuildOptions())
        >>> sketch.roles["L0H1"], sketch.roles["L1H0"]
        ('accumulates', 'brings the prefix')
    """

    tasks: ClassVar[tuple[str, ...]] = ("parity", "counter")

    def __init__(self, data: DataConfig, rungs: BuildOptions) -> None:
        k = data.tasks[0].n_states
        super().__init__(data, rungs, n_layers=2, n_heads=2, spaces={"mean": 1, "prefix": k, "brought": k + 1})
        numbers = {self.at("token", x): float(x) for x in range(self.task.n_inputs)}
        self.bring(0, 1, "accumulates", [numbers], "mean")
        self.true(TOK, Reader("v", 0, 1))
        self.true(Writer("head", 0, 1), Reader("mlp", 0))
        gate = float(self.task.n_inputs * self.n_ctx)
        for position in range(1, data.max_length + 1):  # the mean is over the task token and `position` inputs
            own = {self.at("mean"): position + 1.0, self.at("position", position): gate}
            for bend, heights in remainders(k, (self.task.n_inputs - 1) * position):
                writes = {self.at("prefix", r): height for r, height in heights.items()}
                self.neurons[0].append(Neuron(dict(own), -gate - bend, writes))
        self.roles["mlp0"] = "subtraction and remainder"
        fetched = [{self.at("prefix", r): 1.0} for r in range(k)]
        fetched.append({self.at("token", self.words.end_of_input_id): 1.0})
        self.point(*self.bring(1, 0, "brings the prefix", fetched, "brought"))
        self.edges.update([*self.read_by_head(1, 0, Writer("mlp", 0)), Edge(Writer("mlp", 0), Reader("v", 1, 0))])
        end = self.at("brought", k)
        for state in range(k):
            reads = {self.at("brought", state): 1.0, end: -9.0}
            self.ramp(1, reads, (0.2, 0.8), (), {self.at("answer", state): 1.0})
        self.ramp(1, {end: 1.0}, (0.2, 0.8), (), {self.at("answer", self.words.end_of_states_id): 1.0})
        self.roles["mlp1"] = "copies"
        self.true(Writer("head", 1, 0), Reader("mlp", 1))
        self.true(Writer("mlp", 1), LOGITS)


def remainders(modulus: int, highest: int) -> list[tuple[int, dict[int, float]]]:
    """Return where the hats bend that are 1 at the counts of each remainder, and by how much they do.

    Example:
        >>> from compo_mech.ground_truth.hard_updates import remainders
        >>> remainders(2, highest=1)  # 0 is even, 1 is odd; between them both hats are on their way
        [(-1, {0: 1.0}), (0, {0: -2.0, 1: 1.0}), (1, {0: 1.0, 1: -2.0}), (2, {1: 1.0})]
    """
    found = []
    for bend in range(-1, highest + 2):
        heights: dict[int, float] = {}
        for count, height in ((bend - 1, 1.0), (bend, -2.0), (bend + 1, 1.0)):
            if 0 <= count <= highest:
                heights[count % modulus] = heights.get(count % modulus, 0.0) + height
        found.append((bend, heights))
    return found
