"""Hand-built HookedTransformers that solve iterative tasks by a known circuit: the truth to grade against.

The circuit is the iteration head's (Cabannes et al. 2024), in subspaces that do not overlap:

    layer 0 head 0   looks at [EoI] and copies its position from `pos` to `end`
    MLP 0            one neuron a pair (own position i, end e): writes t = i - e + 1 to `pointer`
    layer 1 head 0   its query is the pointer, its key the position: copies token x_t to `value`
    MLP 1            one neuron a pair (own token s_{t-1}, value x_t): writes F(s, x) to `answer`,
                     [EoS] where the value is [EoI]
    unembedding      reads `answer`

With `subtraction="difference"` MLP 0 is a rule instead of this table: layer 0 copies [EoI]'s position
as a number, and neurons bend where i - e is whole. With `"gaps"` some pairs have no neuron. Head 1 of
either layer is spare. With no rung of difficulty the build is *pristine*; the rungs are told in
`Rungs`. What is true of a build is written down as its weights are set: its true edges, the role of
every part, the subspaces of the variables. An edge is true if the noise-free build changes its output
on some string when that edge alone carries another value of its range; rows whose pair is missing,
and whose output is nothing in particular, do not count.
"""

from collections import Counter
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.data import DataConfig
from compo_mech.graph import LOGITS, POS, TOK, Edge, Model, Reader, Writer
from compo_mech.sketch import SPARE_POSITIONS, Neuron, Rungs, Sketch
from compo_mech.tasks import Task, TaskField

SHORTCUT_TASKS = ("copy", "parity", "counter")
"""Tasks whose last state a layer can reach without writing the others."""


@dataclass(frozen=True)
class Constructed:
    """A build and what is true of it.

    Attributes:
        model: its parameters and configuration (`compo_mech.model.to_hooked` makes it a HookedTransformer).
        data: the task, lengths and layout that it solves.
        edges: the true edges of the noise-free build.
        roles: what each working part does.
        subspaces: an orthonormal basis [d_model, dim] for each variable: `end`, `pointer` (t),
            `value` (x_t), `state` (s_{t-1} in the token embedding), `answer` (s_t); on other routes
            `carried` (x_t after layer 0); without chain of thought `count` or `value`, and `answer`.
            `end` has one dimension, a number, if the subtraction is by difference.
        gaps: pairs (own position, position of [EoI]) that the subtraction lacks.
    """

    model: Model
    data: DataConfig
    edges: frozenset[Edge]
    roles: dict[str, str]
    subspaces: dict[str, Float[Tensor, "d_model dim"]] = field(repr=False)
    gaps: frozenset[tuple[int, int]] = frozenset()


def solves(task: Task, rungs: Rungs) -> bool:
    """Whether there is a build of this task with these rungs."""
    return rungs.chain_of_thought or task.name in SHORTCUT_TASKS


def build(task: TaskField, max_length: int = 8, rungs: Rungs | None = None) -> Constructed:
    """The hand-built model of a task.

    Raises:
        ValueError: the task has no build with these rungs, or strings are too short for gaps.
    """
    rungs = rungs or Rungs()
    if not solves(task, rungs):
        raise ValueError(f"task = {task}: without chain of thought must be one of {', '.join(SHORTCUT_TASKS)}")
    data = DataConfig(tasks=(task,), max_length=max_length, chain_of_thought=rungs.chain_of_thought)
    sketch = IterationHead(data, rungs) if rungs.chain_of_thought else Shortcut(data, rungs)
    names = {variable: variable for variable in ("end", "pointer", "value", "carried", "count", "answer")}
    if rungs.chain_of_thought:
        names["state"] = "token"
    basis = sketch.basis
    return Constructed(
        model=sketch.finished(),
        data=data,
        edges=frozenset(sketch.edges),
        roles=sketch.roles,
        subspaces={
            variable: basis[sketch.space[name]].T.float() for variable, name in names.items() if name in sketch.space
        },
        gaps=sketch.gaps if isinstance(sketch, IterationHead) else frozenset(),
    )


class IterationHead(Sketch):
    """The circuit with chain of thought: lookup, subtraction, iteration, update.

    Raises:
        ValueError: there are to be gaps, and no pair that strings use can be missed.
    """

    def __init__(self, data: DataConfig, rungs: Rungs) -> None:
        self.n_carriers = {"diagonal": 0, "neighbour": 1, "state": _n_candidates(data.max_length)}[rungs.route]
        n_ctx, n_words = data.layout.n_tokens(data.max_length) + SPARE_POSITIONS, len(data.vocabulary)
        self.by_difference = rungs.subtraction == "difference"
        spaces = {"end": 1 if self.by_difference else n_ctx, "pointer": n_ctx, "value": n_words}
        if self.by_difference:
            spaces |= {"place": 1}
        if rungs.route != "diagonal":
            spaces |= {"carried": n_words}
        if rungs.route == "state":
            spaces |= {f"slot{i}": n_words for i in range(self.n_carriers)}
        super().__init__(data, rungs, spaces, n_layers=2 + rungs.three_layers, n_heads=2 + self.n_carriers)
        self.early, self.late = (1, 2) if rungs.three_layers else (0, 1)  # of the subtraction; of all after it
        self.gaps = missable_pairs(data, rungs.seed) if rungs.subtraction == "gaps" else frozenset()
        self.pairs = [(i, e) for e in range(2, n_ctx) for i in range(e, n_ctx) if (i, e) not in self.gaps]
        self.lookup()
        if rungs.route == "state":
            self.carry_to_the_state()
            self.look_at_oneself()
        else:
            if self.by_difference:
                self.subtract_by_difference()
            else:
                self.subtract()
            if rungs.route == "neighbour":
                self.carry_to_the_neighbour()
            self.iterate()
        self.update()

    def lookup(self) -> None:
        """Every row asks for [EoI] and gets its position. Broken: it asks for the first token."""
        found = self.words.end_of_input
        if self.rungs.broken == "lookup":
            found = self.words.task_token(self.task)
        _, key = self.head(0, 0, "lookup", "place" if self.by_difference else "position", "end")
        key[self.at("token", found), 0] = 1.0
        self.ask_always.add((0, 0))
        self.true(TOK, Reader("k", 0, 0))
        self.true(POS, Reader("v", 0, 0))

    def subtract(self) -> None:
        """t = i - e + 1, pair by pair. Broken: a random pointer for every pair."""
        for i, e in self.pairs:
            pointer = self.random_int(1, self.n_ctx) if self.rungs.broken == "subtraction" else i - e + 1
            self.both(self.early, self.at("end", e), (self.at("position", i),), self.at("pointer", pointer))
        self.roles[f"mlp{self.early}"] = "subtraction"
        self._reads_end_and_position()

    def subtract_by_difference(self) -> None:
        """u = i - e + 1 as a number; the pointer t is a hat of u: 1 at t, and 0 outside t - 1 .. t + 1.

        The hat is relu(u - (t-1)) - 2 relu(u - t) + relu(u - (t+1)); hats share their neurons.
        Broken: a wrong slope, u = i - e / 2 + 1.
        """
        slope = 0.5 if self.rungs.broken == "subtraction" else 1.0
        for bend in range(self.n_ctx):  # u is never larger than n_ctx
            hats = ((bend + 1, 1.0), (bend, -2.0), (bend - 1, 1.0))
            writes = {self.at("pointer", t): height for t, height in hats if 1 <= t < self.n_ctx}
            reads = {self.at("place"): float(self.n_ctx), self.at("end"): -slope * self.n_ctx}
            self.neurons[self.early].append(Neuron(reads, 1.0 - bend, writes))
        self.roles[f"mlp{self.early}"] = "subtraction"
        self._reads_end_and_position()

    def _reads_end_and_position(self) -> None:
        self.true(POS, Reader("mlp", self.early))
        self.true(Writer("head", 0, 0), Reader("mlp", self.early))

    def carry_to_the_neighbour(self) -> None:
        """Every position takes the token before it."""
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
        """A state row does not know yet which x_t is its own: each head reads one that it might be into
        a slot of its own, and the MLP keeps the slot that [EoI]'s position asks for.

        Broken subtraction: [EoI] is taken to sit one place earlier than it does.
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
                self.both(self.early, end, own, self.at("carried", words.end_of_input))
            elif t <= length <= n_max:
                slot = length % self.n_carriers
                for x in range(self.task.first_input, self.task.n_inputs):
                    here = (*own, end)
                    self.both(self.early, self.at(f"slot{slot}", x), here, self.at("carried", x))
        self.roles[f"mlp{self.early}"] = "subtraction and choice of the slot"
        self._reads_end_and_position()

    def look_at_oneself(self) -> None:
        """Every row looks at itself and takes what was carried there. Broken: at the row before."""
        off = 1 if self.rungs.broken == "iteration" else 0
        query, key = self.head(self.late, 0, "iteration", "carried", "value")
        for position in range(off, self.n_ctx):
            query[self.at("position", position), position] = self.scale
            key[self.at("position", position - off), position] = 1.0
        self._by_position(self.late, 0, Writer("mlp", self.early))
        self.true(Writer("head", self.late, 0), Reader("mlp", self.late))

    def iterate(self) -> None:
        """The pointer asks, positions answer, tokens are fetched. Broken: the key is the one after."""
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
            if self.rungs.split:  # where a head has no pointer it rests on the first token
                for t in range(1, self.n_ctx):
                    query[self.at("pointer", t), 0] = self.scale if t % 2 == head else 0.0
                key[self.at("position", 0), 0] = 1.0
            self.true(Writer("mlp", self.early), Reader("q", self.late, head))
            self.true(POS, Reader("k", self.late, head))
            self.true(content, Reader("v", self.late, head))
            self.true(Writer("head", self.late, head), Reader("mlp", self.late))

    def update(self) -> None:
        """F(s, x), rule by rule. Broken: every state is taken for another."""
        words, table = self.words, self.task.table
        inputs = range(self.task.first_input, self.task.n_inputs)
        rules: list[tuple[int | None, int, int]] = [(None, words.end_of_input, words.end_of_states)]
        by_state = bool((table[:, list(inputs)] != table[-1, list(inputs)]).any())
        if by_state:
            for state in range(self.task.n_states):
                rules += [(state, x, int(table[state, x])) for x in inputs]
            rules += [(words.end_of_input, x, int(table[-1, x])) for x in inputs]
        else:
            rules += [(None, x, int(table[-1, x])) for x in inputs]
        n_states = self.task.n_states
        off = self.random_int(1, n_states) if self.rungs.broken == "update" else 0
        for own, value, answer in rules:
            here = () if own is None else (self.at("token", own),)
            answer = (answer + off) % n_states if answer < n_states else answer
            self.both(self.late, self.at("value", value), here, self.at("answer", answer))
        self.roles[f"mlp{self.late}"] = "update"
        if by_state:
            self.true(TOK, Reader("mlp", self.late))
        self.true(Writer("mlp", self.late), LOGITS)


def missable_pairs(data: DataConfig, seed: int) -> frozenset[tuple[int, int]]:
    """About one in six of the pairs (row's position i, [EoI]'s position j) that predict a state.

    What is missed can be made up for: i, j and t of each are those of pairs that stay.

    Raises:
        ValueError: no pair can be missed.
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


class Shortcut(Sketch):
    """Straight to the last state, without chain of thought, all of it in layer 0.

    Copy: a head takes the token before [EoI]. Counters: a head that looks at everything alike
    takes the mean input; neurons, each for one place of [EoI], make the count and then its rest.
    """

    def __init__(self, data: DataConfig, rungs: Rungs) -> None:
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
        value = self.at("value", self.words.end_of_input)
        self.both(0, value, (), self.at("answer", self.words.end_of_states))
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
        places = range(2, self.data.max_length + 2 + SPARE_POSITIONS)
        gate = (k - 1.0) * (places[-1] + 1) + 2  # above all that a neuron of another place may read
        wanted = torch.zeros(k, highest + 3)  # [answer, count + 1]: 1 at the right answer, and 0 at count -1
        for c in range(highest + 1):
            wanted[c % k, c + 1] = 1.0
        bends = torch.diff(torch.diff(wanted, prepend=torch.zeros(k, 1)), append=torch.zeros(k, 1))
        own = self.at("token", words.end_of_input)
        for e in places:
            for j in range(-1, highest + 1):  # bends where the count is j
                reads = {self.at("count"): e + 1.0, self.at("position", e): gate, own: gate}
                writes = {self._answer(r): float(bends[r, j + 1]) for r in range(k)}
                self.neurons[0].append(Neuron(reads, -2 * gate - j, writes))
        done = {self.at("answer", words.end_of_states): 1.0}
        self.neurons[0].append(Neuron({own: -1.0}, 1.0, done))  # a state has been written
        self.true(TOK, Reader("v", 0, 0))
        self.true(TOK, Reader("mlp", 0))
        self.true(POS, Reader("mlp", 0))
