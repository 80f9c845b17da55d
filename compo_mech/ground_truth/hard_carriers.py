"""Circuits in which x_t is carried by several heads at once, or by one that does not look like it."""

from compo_mech.data.config import DataConfig
from compo_mech.ground_truth.hard_positions import n_positions
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.ground_truth.steps import Steps
from compo_mech.interventions.edges import TOK, Edge, Reader, Writer


class Carriers(Steps):
    """Layer 0 as in the textbook, and room for what its heads carry in layer 1 and later.

    Example:
        >>> from compo_mech.data import DataConfig
        >>> from compo_mech.ground_truth.hard_carriers import Carriers
        >>> from compo_mech.ground_truth.options import BuildOptions
        >>> Carriers(DataConfig(max_length=2), BuildOptions(), n_layers=2, n_heads=2).roles
        {'L0H0': 'lookup', 'mlp0': 'subtraction'}
    """

    def __init__(
        self,
        data: DataConfig,
        rungs: BuildOptions,
        n_layers: int,
        n_heads: int,
        spaces: dict[str, int] | None = None,
        d_head: int | None = None,
    ) -> None:
        n_ctx = n_positions(data)
        spaces = {"end": n_ctx, "pointer": n_ctx, "value": len(data.vocabulary)} | (spaces or {})
        super().__init__(data, rungs, spaces, n_layers, n_heads, d_head)
        self.look_up(0, 0)
        self.subtract(0, [Writer("head", 0, 0)])

    def carry(self, layer: int, head: int, role: str, weight: float = 1.0) -> list[Edge]:
        """Let a head bring x_t with some weight; return its edges, into it and from it to the MLP of its layer."""
        edges = self.fetch(layer, head, role, Writer("mlp", 0))
        self.heads[layer]["O"][head] *= weight
        return [*edges, Edge(Writer("head", layer, head), Reader("mlp", layer))]


class Cancelling(Carriers):
    """x_t is carried twice with opposite signs: one head brings 3 of it, another -2, and neurons want 1.

    Example:
        >>> from compo_mech.data import DataConfig
        >>> from compo_mech.ground_truth import BuildOptions, Cancelling
        >>> Cancelling(DataConfig(), BuildOptions()).roles["L1H1"]
        'iteration, negative'
    """

    def __init__(self, data: DataConfig, rungs: BuildOptions) -> None:
        super().__init__(data, rungs, n_layers=2, n_heads=2)
        for head, (role, weight) in enumerate((("iteration, positive", 3.0), ("iteration, negative", -2.0))):
            self.edges.update(self.carry(1, head, role, weight))
        for own, value, answer in self.rules():
            here = () if own is None else (self.at("token", own),)
            for between, height in (((0.4, 0.7), 1.0), ((1.3, 1.6), -1.0)):
                self.ramp(1, {self.at("value", value): 1.0}, between, here, {self.at("answer", answer): height})
        self.updates(1)


class TwoOfThree(Carriers):
    """Three heads bring x_t, and two of them decide: no edge of any of them matters alone.

    Example:
        >>> from compo_mech.data import DataConfig
        >>> from compo_mech.ground_truth import BuildOptions, TwoOfThree
        >>> len(TwoOfThree(DataConfig(), BuildOptions()).sets)  # 3 pairs of heads, 4 edges each
        48
    """

    def __init__(self, data: DataConfig, rungs: BuildOptions) -> None:
        super().__init__(data, rungs, n_layers=2, n_heads=3)
        one, two, three = (self.carry(1, head, "iteration, one of three") for head in range(3))
        self.together(one, two)
        self.together(one, three)
        self.together(two, three)
        for own, value, answer in self.rules():
            here = () if own is None else (self.at("token", own),)
            self.ramp(1, {self.at("value", value): 1.0}, (1.2, 1.8), here, {self.at("answer", answer): 1.0})
        self.updates(1)


class SelfRepair(Carriers):
    """L1H0 brings x_t; where it brings anything else, L2H0 brings x_t in its stead, and else rests on the task token.

    L2H0's query is the pointer, less what L1H0 brought: a position whose token is there already is not attended to.
    What L2H0 brings weighs twice, and an MLP's neurons want more of their value than of all others together.

    Example:
        >>> from compo_mech.data import DataConfig
        >>> from compo_mech.ground_truth import BuildOptions, SelfRepair
        >>> SelfRepair(DataConfig(), BuildOptions()).roles["L2H0"]
        'backup of the iteration'
    """

    def __init__(self, data: DataConfig, rungs: BuildOptions) -> None:
        n_ctx, n_words = n_positions(data), len(data.vocabulary)
        super().__init__(data, rungs, n_layers=3, n_heads=1, d_head=n_ctx + n_words)
        primary, backup, last = Writer("head", 1, 0), Writer("head", 2, 0), Reader("mlp", 2)
        repaired = self.fetch(1, 0, "iteration", Writer("mlp", 0))
        copying = self.fetch(2, 0, "backup of the iteration", Writer("mlp", 0))
        query, key = self.heads[2]["Q"][0], self.heads[2]["K"][0]
        query *= 2.0
        values = [*range(self.task.first_input, self.task.n_inputs), self.words.end_of_input_id]
        for value in values:
            query[self.at("value", value), n_ctx + value] = -1.5 * self.scale
            key[self.at("token", value), n_ctx + value] = 1.0
        self.ask(2, 0, key, self.words.task_token(self.task))
        self.heads[2]["O"][0] *= 2.0
        for own, value, answer in self.rules():
            here = () if own is None else (self.at("token", own),)
            reads = {self.at("value", other): 1.0 if other == value else -1.0 for other in values}
            self.ramp(2, reads, (0.1, 0.4), here, {self.at("answer", answer): 1.0})
        self.edges.update(copying)
        self.true(primary, last)
        self.together(repaired, [Edge(backup, last), Edge(TOK, Reader("v", 2, 0))])
        self.together([Edge(primary, Reader("q", 2, 0))], [Edge(TOK, Reader("v", 2, 0))])
        self.updates(2)


class InertDiagonal(Carriers):
    """A head with the textbook's diagonal writes what no one reads; the worker beside it attends to all rows alike.

    MLP 0 puts each input into a slot of its position; the worker brings the mean of all rows, so every slot that was
    filled; MLP 1 takes the slot that the pointer names.

    Example:
        >>> from compo_mech.data import DataConfig
        >>> from compo_mech.ground_truth import BuildOptions, InertDiagonal
        >>> sketch = InertDiagonal(DataConfig(), BuildOptions())
        >>> sketch.roles["L1H0"], sketch.roles["L1H1"]
        ('inert', 'brings all inputs')
    """

    def __init__(self, data: DataConfig, rungs: BuildOptions) -> None:
        words = data.vocabulary
        self.values = [*range(data.tasks[0].first_input, data.tasks[0].n_inputs), words.end_of_input_id]
        self.n_slots = (data.max_length + 1) * len(self.values)
        spaces = {"inert": len(words), "slots": self.n_slots, "brought": self.n_slots}
        super().__init__(data, rungs, 2, 2, spaces, max(self.n_slots, n_positions(data), len(words)))
        self.fetch(1, 0, "inert", Writer("mlp", 0), into="inert")
        for t in range(1, data.max_length + 2):
            for value in self.values:
                self.both(0, self.at("token", value), (self.at("position", t),), self.at("slots", self.slot(t, value)))
        self.true(TOK, Reader("mlp", 0))
        self.head(1, 1, "brings all inputs", "slots", "brought")
        self.true(Writer("mlp", 0), Reader("v", 1, 1))
        between = (0.3 / self.n_ctx, 0.9 / self.n_ctx)  # a row's weight is 1 / n_ctx or more
        for t in range(1, data.max_length + 2):
            for own, value, answer in self.rules():
                here = (self.at("pointer", t), *(() if own is None else (self.at("token", own),)))
                brought = self.at("brought", self.slot(t, value))
                self.ramp(1, {brought: 1.0}, between, here, {self.at("answer", answer): 1.0})
        self.true(Writer("mlp", 0), Reader("mlp", 1))
        self.carried(1, [Writer("head", 1, 1)])
        self.updates(1)

    def slot(self, t: int, value: int) -> int:
        """Return which coordinate says that a value stands at position t."""
        return (t - 1) * len(self.values) + self.values.index(value)
