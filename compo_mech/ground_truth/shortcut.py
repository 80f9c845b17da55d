"""A shortcut without a chain of thought, built by hand."""

import torch

from compo_mech.data.config import DataConfig
from compo_mech.ground_truth.builder import SPARE_POSITIONS, Neuron, Sketch
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.interventions.edges import LOGITS, POS, TOK, Reader, Writer

SHORTCUT_TASKS = ("copy", "parity", "counter")
"""Tasks whose last state one layer can compute without writing the earlier ones."""


class Shortcut(Sketch):
    """The last state directly, without chain of thought, computed in layer 0.

    Copy: a head copies the token before [EoI]. Counters: a head with uniform attention takes the mean input; neurons,
    each for one position of [EoI], compute the count and then its remainder.

    Example:
        >>> from compo_mech.data import DataConfig
        >>> from compo_mech.ground_truth import BuildOptions, Shortcut
        >>> data = DataConfig(max_length=2, chain_of_thought=False)
        >>> Shortcut(data, BuildOptions(chain_of_thought=False)).roles
        {'L0H0': 'counts', 'mlp0': 'update'}
    """

    def __init__(self, data: DataConfig, rungs: BuildOptions) -> None:
        self.counts = data.tasks[0].name != "copy"
        spaces = {"count": 1} if self.counts else {"value": len(data.vocabulary)}
        super().__init__(data, rungs, spaces, n_layers=2, n_heads=2)
        if self.counts:
            self.count()
        else:
            self.copy()
        self.roles["mlp0"] = "update"
        self.true(Writer("head", 0, 0), Reader("mlp", 0))
        self.true(Writer("mlp", 0), LOGITS)

    def _answer(self, state: int) -> int:
        """The coordinate of an answer. Broken: of the state after it."""
        off = int(self.rungs.broken == "update")
        return self.at("answer", (state + off) % self.task.n_states)

    def copy(self) -> None:
        query, key = self.head(0, 0, "takes the token before", "token", "value")
        for position in range(1, self.n_ctx):
            query[self.at("position", position), position] = self.scale
            key[self.at("position", position - 1), position] = 1.0
        for x in range(self.task.n_inputs):
            self.both(0, self.at("value", x), (), self._answer(x))
        value = self.at("value", self.words.end_of_input_id)
        self.both(0, value, (), self.at("answer", self.words.end_of_states_id))
        self.true(POS, Reader("q", 0, 0))
        self.true(POS, Reader("k", 0, 0))
        self.true(TOK, Reader("v", 0, 0))

    def count(self) -> None:
        k, words = self.task.n_states, self.words
        for x in range(self.task.n_inputs):
            self.heads[0]["V"][0, self.at("token", x), 0] = x
        self.heads[0]["O"][0, self.at("count"), 0] = 1.0
        self.roles["L0H0"] = "counts"
        highest = (k - 1) * self.data.max_length
        positions = range(2, self.data.max_length + 2 + SPARE_POSITIONS)
        gate = (k - 1.0) * (positions[-1] + 1) + 2  # above all that a neuron of another position may read
        wanted = torch.zeros(k, highest + 3)  # [answer, count + 1]: 1 at the right answer, and 0 at count -1
        for c in range(highest + 1):
            wanted[c % k, c + 1] = 1.0
        bends = torch.diff(torch.diff(wanted, prepend=torch.zeros(k, 1)), append=torch.zeros(k, 1))
        own = self.at("token", words.end_of_input_id)
        for e in positions:
            for j in range(-1, highest + 1):  # bends where the count is j
                reads = {self.at("count"): e + 1.0, self.at("position", e): gate, own: gate}
                writes = {self._answer(r): float(bends[r, j + 1]) for r in range(k)}
                self.neurons[0].append(Neuron(reads, -2 * gate - j, writes))
        done = {self.at("answer", words.end_of_states_id): 1.0}
        self.neurons[0].append(Neuron({own: -1.0}, 1.0, done))  # a state has been written
        self.true(TOK, Reader("v", 0, 0))
        self.true(TOK, Reader("mlp", 0))
        self.true(POS, Reader("mlp", 0))
