"""The iteration head, built by hand."""

from collections import Counter

import torch

from compo_mech.data.config import DataConfig
from compo_mech.ground_truth.builder import SPARE_POSITIONS, Neuron
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.ground_truth.steps import Steps
from compo_mech.interventions.edges import POS, TOK, Reader, Writer


class IterationHead(Steps):
    """The circuit with chain of thought: lookup, subtraction, iteration, update.

    Raises:
        ValueError: there are to be gaps, and no pair that strings use can be missed.

    Example:
        >>> from compo_mech.data import DataConfig
        >>> from compo_mech.ground_truth import BuildOptions, IterationHead
        >>> IterationHead(DataConfig(max_length=2), BuildOptions()).roles
        {'L0H0': 'lookup', 'mlp0': 'subtraction', 'L1H0': 'iteration', 'mlp1': 'update'}
    """

    def __init__(self, data: DataConfig, rungs: BuildOptions) -> None:
        self.n_carriers = {"diagonal": 0, "neighbour": 1, "state": _n_candidates(data.max_length)}[rungs.route]
        n_ctx, n_words = data.layout.n_tokens(data.max_length) + SPARE_POSITIONS, len(data.vocabulary)
        self.by_difference = rungs.subtraction == "difference"
        spaces = {"end": 1 if self.by_difference else n_ctx, "pointer": n_ctx, "value": n_words}
        if self.by_difference:
            spaces |= {"number": 1}
        if rungs.route != "diagonal":
            spaces |= {"carried": n_words}
        if rungs.route == "state":
            spaces |= {f"slot{i}": n_words for i in range(self.n_carriers)}
        super().__init__(data, rungs, spaces, n_layers=2 + rungs.three_layers, n_heads=2 + self.n_carriers)
        self.early, self.late = (1, 2) if rungs.three_layers else (0, 1)  # of the subtraction; of all after it
        self.gaps = missable_pairs(data, rungs.seed) if rungs.subtraction == "gaps" else frozenset()
        self.lookup()
        if rungs.route == "state":
            self.carry_to_the_state()
            self.attend_to_oneself()
        else:
            if self.by_difference:
                self.subtract_by_difference()
            else:
                self.subtract_by_table()
            if rungs.route == "neighbour":
                self.carry_to_the_neighbour()
            self.iterate()
        # broken: every state is taken for another
        self.update(self.late, (), self.random_int(1, self.task.n_states) if rungs.broken == "update" else 0)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Every own position with every position of [EoI] up to it, but for the gaps."""
        return [pair for pair in super().pairs if pair not in self.gaps]

    def lookup(self) -> None:
        """Let every row attend to [EoI] and copy its position. Broken: it attends to the first token."""
        found = self.words.task_token(self.task) if self.rungs.broken == "lookup" else None
        self.look_up(0, 0, found, "number" if self.by_difference else "position")

    def subtract_by_table(self) -> None:
        """Compute t = i - e + 1, pair by pair. Broken: a random pointer for every pair."""
        for i, e in self.pairs:
            pointer = self.random_int(1, self.n_ctx) if self.rungs.broken == "subtraction" else i - e + 1
            self.both(self.early, self.at("end", e), (self.at("position", i),), self.at("pointer", pointer))
        self.subtracts(self.early, [Writer("head", 0, 0)])

    def subtract_by_difference(self) -> None:
        """Compute u = i - e + 1 as a number; the pointer t is a hat of u: 1 at t, and 0 outside t - 1 .. t + 1.

        The hat is relu(u - (t-1)) - 2 relu(u - t) + relu(u - (t+1)); neighbouring hats use the same neurons.
        Broken: a wrong slope, u = i - e / 2 + 1.
        """
        slope = 0.5 if self.rungs.broken == "subtraction" else 1.0
        for bend in range(self.n_ctx):  # u is never larger than n_ctx
            hats = ((bend + 1, 1.0), (bend, -2.0), (bend - 1, 1.0))
            writes = {self.at("pointer", t): height for t, height in hats if 1 <= t < self.n_ctx}
            reads = {self.at("number"): float(self.n_ctx), self.at("end"): -slope * self.n_ctx}
            self.neurons[self.early].append(Neuron(reads, 1.0 - bend, writes))
        self.subtracts(self.early, [Writer("head", 0, 0)])

    def carry_to_the_neighbour(self) -> None:
        """Let every position take the token before it."""
        query, key = self.head(0, 1, "carries the token to its neighbour", "token", "carried")
        for position in range(1, self.n_ctx):
            query[self.at("position", position), position] = self.scale
            key[self.at("position", position - 1), position] = 1.0
        self._by_position(0, 1, TOK)

    def _by_position(self, layer: int, head: int, content: Writer) -> None:
        self.true(POS, Reader("q", layer, head))
        self.true(POS, Reader("k", layer, head))
        self.true(content, Reader("v", layer, head))

    def carry_to_the_state(self) -> None:
        """Carry x_t to the row that needs it.

        The row cannot know yet which x_t that is: each head reads one candidate into a slot of its own, and the MLP
        keeps the slot that [EoI]'s position selects.

        Broken subtraction: [EoI] is taken to sit one position later than it does.
        """
        n_max, words = self.data.max_length, self.words
        off = int(self.rungs.broken == "subtraction")
        for h in range(self.n_carriers):
            query, key = self.head(0, 1 + h, "carries a token to the state", "token", f"slot{h}")
            for i in range(2, 2 * n_max + 1):
                for t in range(_first_candidate(i, n_max), i // 2 + 1):
                    if (i - t) % self.n_carriers == h:  # by length, of which a row's candidates have one each
                        query[self.at("position", i), i] = self.scale
                        key[self.at("position", t), i] = 1.0
            self._by_position(0, 1 + h, TOK)
            self.true(Writer("head", 0, 1 + h), Reader("mlp", self.early))
        for i, e in self.pairs:
            length, t = e - 1, i - e + 1
            own = (self.at("position", i),)
            end = self.at("end", min(e + off, self.n_ctx - 1))
            if t == length + 1:
                self.both(self.early, end, own, self.at("carried", words.end_of_input_id))
            elif t <= length <= n_max:
                slot = length % self.n_carriers
                for x in range(self.task.first_input, self.task.n_inputs):
                    here = (*own, end)
                    self.both(self.early, self.at(f"slot{slot}", x), here, self.at("carried", x))
        self.subtracts(self.early, [Writer("head", 0, 0)])
        self.roles[f"mlp{self.early}"] = "subtraction and choice of the slot"

    def attend_to_oneself(self) -> None:
        """Let every row attend to itself and copy what was carried there. Broken: it attends to the row before."""
        off = 1 if self.rungs.broken == "iteration" else 0
        query, key = self.head(self.late, 0, "iteration", "carried", "value")
        for position in range(off, self.n_ctx):
            query[self.at("position", position), position] = self.scale
            key[self.at("position", position - off), position] = 1.0
        self._by_position(self.late, 0, Writer("mlp", self.early))
        self.true(Writer("head", self.late, 0), Reader("mlp", self.late))

    def iterate(self) -> None:
        """Let the row of s_t attend to x_t: its query is the pointer, the key the position, the value the token.

        Broken: it attends to the position after.
        """
        off = int(self.rungs.broken == "iteration") + int(self.rungs.route == "neighbour")
        source = "carried" if self.rungs.route == "neighbour" else "token"
        content = Writer("head", 0, 1) if self.rungs.route == "neighbour" else TOK
        names = {0: "iteration"}
        if self.rungs.backup:
            names = {0: "iteration", 1: "backup of the iteration"}
        if self.rungs.split:
            names = {0: "iteration, odd t", 1: "iteration, even t"}
        for head, role in names.items():
            query, key = self.head(self.late, head, role, source, "value")
            for t in range(1, self.n_ctx - off):
                if self.rungs.split and t % 2 == head:  # head 0: odd t
                    continue
                query[self.at("pointer", t), t] = self.scale
                key[self.at("position", t + off), t] = 1.0
            if self.rungs.split:  # where a head has no pointer it attends to the first token
                for t in range(1, self.n_ctx):
                    query[self.at("pointer", t), 0] = self.scale if t % 2 == head else 0.0
                key[self.at("position", 0), 0] = 1.0
            self.true(Writer("mlp", self.early), Reader("q", self.late, head))
            self.true(POS, Reader("k", self.late, head))
            self.true(content, Reader("v", self.late, head))
            self.true(Writer("head", self.late, head), Reader("mlp", self.late))


def missable_pairs(data: DataConfig, seed: int) -> frozenset[tuple[int, int]]:
    """Draw about one in six of the pairs (row's position i, [EoI]'s position j) that predict a state.

    What is missed can be made up for: i, j and t of each are those of pairs that stay.

    Raises:
        ValueError: no pair can be missed.

    Example:
        >>> from compo_mech.data import DataConfig
        >>> from compo_mech.ground_truth import missable_pairs
        >>> len(missable_pairs(DataConfig(max_length=4), seed=0))  # of the ten that lengths 1 to 4 use
        2
    """
    layout = data.layout
    ends = {length: layout.end_of_input(length) for length in data.lengths}
    used = [(i, ends[length]) for length in data.lengths for i in layout.iteration_edges(length)[0]]
    names = {(i, j): (("i", i), ("j", j), ("t", layout.predicted(i, layout.length_of(j)))) for i, j in used}
    left = Counter(name for pair in used for name in names[pair])
    missed: set[tuple[int, int]] = set()
    for index in torch.randperm(len(used), generator=torch.Generator().manual_seed(seed)).tolist():
        own = names[used[index]]
        if len(missed) < round(len(used) / 6) and min(left[name] for name in own) > 1:
            missed.add(used[index])
            left.subtract(own)
    if not missed:
        lengths = f"{data.min_length} .. {data.max_length}"
        raise ValueError(f"lengths = {lengths}: must be more or longer for subtraction = gaps")
    return frozenset(missed)


def _first_candidate(i: int, max_length: int) -> int:
    """The first t that the row at i may have to predict, whatever the length."""
    return max(1, i - max_length)


def _n_candidates(max_length: int) -> int:
    return max(i // 2 - _first_candidate(i, max_length) + 1 for i in range(2, 2 * max_length + 1))
