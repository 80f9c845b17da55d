"""The steps of an iteration head's circuit, each in a layer and a head of one's choice."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from torch import Tensor

from compo_mech.ground_truth.builder import Neuron, Sketch
from compo_mech.interventions.edges import LOGITS, POS, TOK, Edge, Reader, Writer

Rule = tuple[int | None, int, int]
"""Own token (None: any), fetched value, answer."""


class Steps(Sketch):
    """A sketch with the steps that most circuits share: lookup, subtraction, fetching and update.

    The spaces `end`, `pointer` and `value` must be there for the steps that use them.

    Example:
        >>> from compo_mech.data import DataConfig
        >>> from compo_mech.ground_truth import BuildOptions, Steps
        >>> sketch = Steps(DataConfig(max_length=2), BuildOptions(), {"end": 11}, n_layers=1, n_heads=1)
        >>> sketch.look_up(0, 0)
        >>> sketch.roles, sorted(str(edge) for edge in sketch.edges)
        ({'L0H0': 'lookup'}, ['pos → L0H0.v', 'tok → L0H0.k'])
    """

    tasks: ClassVar[tuple[str, ...]] = ()
    """Names of the tasks that a circuit solves; none: every task."""

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Every own position i with every position e of [EoI] up to it."""
        return [(i, e) for e in range(2, self.n_ctx) for i in range(e, self.n_ctx)]

    def look_up(
        self, layer: int, head: int, found: int | None = None, source: str = "position", role: str = "lookup"
    ) -> None:
        """Let every row attend to a token, [EoI] unless another is given, and copy a part of its position's code."""
        _, key = self.head(layer, head, role, source, "end")
        self.ask(layer, head, key, self.words.end_of_input_id if found is None else found)
        self.true(POS, Reader("v", layer, head))

    def ask(self, layer: int, head: int, key: Tensor, token: int) -> None:
        """Let a head's every query attend to one token."""
        key[self.at("token", token), 0] = 1.0
        self.ask_always.add((layer, head))
        self.true(TOK, Reader("k", layer, head))

    def fetch(self, layer: int, head: int, role: str, pointing: Writer, into: str = "value") -> list[Edge]:
        """Let the row whose pointer is t attend to position t and copy its token; return what the head reads."""
        self.point(*self.head(layer, head, role, "token", into))
        return self.read_by_head(layer, head, pointing)

    def point(self, query: Tensor, key: Tensor) -> None:
        """Let the row whose pointer is t attend to position t."""
        for t in range(1, self.n_ctx):
            query[self.at("pointer", t), t] = self.scale
            key[self.at("position", t), t] = 1.0

    def bring(
        self, layer: int, head: int, role: str, reads: Sequence[dict[int, float]], into: str
    ) -> tuple[Tensor, Tensor]:
        """Add a head that writes a weighted sum of coordinates into each coordinate of a space, as `head` does."""
        parts = self.heads[layer]
        for i, weights in enumerate(reads):
            for coordinate, weight in weights.items():
                parts["V"][head, coordinate, i] = weight
            parts["O"][head, self.at(into, i), i] = 1.0
        self.roles[str(Writer("head", layer, head))] = role
        return parts["Q"][head], parts["K"][head]

    def read_by_head(self, layer: int, head: int, pointing: Writer) -> list[Edge]:
        """Return the edges of a head that is told a position and copies the token there."""
        sources = {"q": pointing, "k": POS, "v": TOK}
        return [Edge(writer, Reader(kind, layer, head)) for kind, writer in sources.items()]

    def subtract(self, layer: int, lookups: Iterable[Writer]) -> None:
        """Compute t = i - e + 1 by one neuron a pair of positions."""
        for i, e in self.pairs:
            self.both(layer, self.at("end", e), (self.at("position", i),), self.at("pointer", i - e + 1))
        self.subtracts(layer, lookups)

    def subtracts(self, layer: int, lookups: Iterable[Writer]) -> None:
        """Record that an MLP makes t of its own position and of what these heads bring."""
        self.roles[f"mlp{layer}"] = "subtraction"
        self.true(POS, Reader("mlp", layer))
        for lookup in lookups:
            self.true(lookup, Reader("mlp", layer))

    def rules(self, off: int = 0) -> list[Rule]:
        """Return the rules F(s, x) of the task, with every answer taken `off` states further."""
        words, task = self.words, self.task
        inputs = range(task.first_input, task.n_inputs)
        table = (task.table + off) % task.n_states
        found: list[Rule] = [(None, words.end_of_input_id, words.end_of_states_id)]
        if self.reads_state:
            for state in range(task.n_states):
                found += [(state, x, int(table[state, x])) for x in inputs]
            return found + [(words.end_of_input_id, x, int(table[-1, x])) for x in inputs]
        return found + [(None, x, int(table[-1, x])) for x in inputs]

    @property
    def reads_state(self) -> bool:
        """Whether the next state depends on the state before it."""
        inputs = list(range(self.task.first_input, self.task.n_inputs))
        table = self.task.table[:, inputs]
        return bool((table != table[-1]).any())

    def updates(self, layer: int) -> None:
        """Record that an MLP computes the answer, from the state before where the task asks for it."""
        self.roles[f"mlp{layer}"] = "update"
        if self.reads_state:
            self.true(TOK, Reader("mlp", layer))
        self.true(Writer("mlp", layer), LOGITS)

    def update(self, layer: int, carriers: Iterable[Writer], off: int = 0) -> None:
        """Compute F(s, x), one neuron a rule, from the own token and from what these heads bring."""
        for own, value, answer in self.rules(off):
            here = () if own is None else (self.at("token", own),)
            self.both(layer, self.at("value", value), here, self.at("answer", answer))
        self.carried(layer, carriers)
        self.updates(layer)

    def carried(self, layer: int, carriers: Iterable[Writer]) -> None:
        """Record that an MLP reads what these heads bring."""
        for carrier in carriers:
            self.true(carrier, Reader("mlp", layer))

    def ramp(
        self,
        layer: int,
        reads: dict[int, float],
        between: tuple[float, float],
        own: tuple[int, ...],
        writes: dict[int, float],
    ) -> None:
        """Add two neurons that write nothing below a threshold, all above another, and nothing without one of its own.

        Args:
            layer: of the MLP.
            reads: weights of the coordinates whose sum counts, each of which is at most 3.
            between: where the sum starts to count, and from where on it counts whole.
            own: coordinates that are 1 where the neurons may write.
            writes: heights.
        """
        low, high = between
        gain = 1 / (high - low)
        gate = gain * (3 * sum(max(weight, 0.0) for weight in reads.values()) - min(low, 0.0)) + 1
        gated = {i: gain * weight for i, weight in reads.items()} | dict.fromkeys(own, gate)
        for threshold, sign in ((low, 1.0), (high, -1.0)):
            heights = {i: sign * height for i, height in writes.items()}
            self.neurons[layer].append(Neuron(gated, -gain * threshold - gate * len(own), heights))
