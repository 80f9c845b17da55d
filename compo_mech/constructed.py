"""Hand-built HookedTransformers that solve iterative tasks by a known circuit: the truth to grade against.

The circuit is the iteration head's (Cabannes et al. 2024), in subspaces that do not overlap:

    layer 0 head 0   looks at [EoI] and copies its position from `pos` to `end`
    MLP 0            one neuron a pair (own position i, end e): writes t = i - e + 1 to `pointer`
    layer 1 head 0   its query is the pointer, its key the position: copies token x_t to `value`
    MLP 1            one neuron a pair (own token s_{t-1}, value x_t): writes F(s, x) to `answer`,
                     [EoS] where the value is [EoI]
    unembedding      reads `answer`

Head 1 of either layer is spare. With no rung of difficulty the build is *pristine*. What is true of
a build is known from how it was made: its true edges, the role of every part, the subspaces of the
variables.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from compo_mech.data import DataConfig
from compo_mech.graph import LOGITS, POS, TOK, Edge, Model, Reader, Writer
from compo_mech.model import ModelConfig, Params, parameter_shapes
from compo_mech.settings import Settings
from compo_mech.tasks import Copy, Task, TaskField
from compo_mech.vocabulary import Vocabulary

SPARE_POSITIONS = 4
"""Positions beyond the longest row, so that position ids can be shifted."""

N_JUNK = 4
ANSWER_GAIN = 10.0
OWN_WEIGHT = 4.0
FIRING_THRESHOLD = 0.25
"""A neuron fires from this share of the fetched coordinate on. Below it there is no gradient, which
integrated gradients have to step over: at 0.5 and sharpness 30, twenty steps miss a true edge."""


class Rungs(Settings):
    """What makes a build harder to read. The defaults are the pristine build; rungs combine."""

    sharpness: float = Field(default=30.0, gt=0, description="attention score of the key that is looked for")
    rotated: bool = Field(default=False, description="residual stream in a random orthogonal basis")
    distractors: bool = Field(default=False, description="spare heads and neurons write what no one reads")
    backup: bool = Field(default=False, description="a second head does all that the iteration head does")
    split: bool = Field(default=False, description="two heads share the iteration: odd and even t")
    noise: float = Field(default=0.0, ge=0, description="standard deviation added to every weight")
    broken: Literal["lookup", "subtraction", "iteration", "update"] | None = Field(
        default=None, description="a decoy: this part of the circuit does not do its work"
    )
    seed: int = Field(default=0, ge=0, description="of the basis, the noise and the decoy")


@dataclass(frozen=True)
class Constructed:
    """A build and what is true of it.

    Attributes:
        model: its parameters and configuration (`compo_mech.model.to_hooked` makes it a HookedTransformer).
        data: the task, lengths and layout that it solves.
        edges: the true edges of the noise-free build.
        roles: what each working part does.
        subspaces: an orthonormal basis [d_model, dim] for each variable: `end`, `pointer` (t),
            `value` (x_t), `state` (s_{t-1} in the token embedding), `answer` (s_t).
    """

    model: Model
    data: DataConfig
    edges: frozenset[Edge]
    roles: dict[str, str]
    subspaces: dict[str, Float[Tensor, "d_model dim"]] = field(repr=False)


def build(task: TaskField, max_length: int = 8, rungs: Rungs | None = None) -> Constructed:
    """The hand-built model of a task.

    Raises:
        ValueError: rungs that exclude each other.
    """
    rungs = rungs or Rungs()
    if rungs.backup and rungs.split:
        raise ValueError("split = True: goes without backup, since both need the second head")
    data = DataConfig(tasks=(task,), max_length=max_length)
    n_ctx = data.layout.n_tokens(max_length) + SPARE_POSITIONS
    sketch = _Sketch(task, data.vocabulary, n_ctx, rungs)
    for part in (sketch.embed, sketch.lookup, sketch.subtract, sketch.iterate, sketch.update, sketch.unembed):
        part()
    if rungs.distractors:
        sketch.distract()
    return Constructed(
        model=sketch.finished(),
        data=data,
        edges=frozenset(_true_edges(task, rungs)),
        roles=_roles(rungs),
        subspaces=sketch.subspaces(),
    )


def _true_edges(task: Task, rungs: Rungs) -> Iterable[Edge]:
    lookup, subtraction, update = Writer("head", 0, 0), Writer("mlp", 0), Writer("mlp", 1)
    yield Edge(TOK, Reader("k", 0, 0))
    yield Edge(POS, Reader("v", 0, 0))
    yield Edge(POS, Reader("mlp", 0))
    yield Edge(lookup, Reader("mlp", 0))
    for head in (0, 1) if rungs.backup or rungs.split else (0,):
        yield Edge(subtraction, Reader("q", 1, head))
        yield Edge(POS, Reader("k", 1, head))
        yield Edge(TOK, Reader("v", 1, head))
        yield Edge(Writer("head", 1, head), Reader("mlp", 1))
    if not isinstance(task, Copy):  # s_{t-1} does not matter to copy
        yield Edge(TOK, Reader("mlp", 1))
    yield Edge(update, LOGITS)


def _roles(rungs: Rungs) -> dict[str, str]:
    roles = {"L0H0": "lookup", "mlp0": "subtraction", "L1H0": "iteration", "mlp1": "update"}
    if rungs.backup:
        roles["L1H1"] = "backup of the iteration"
    if rungs.split:
        roles |= {"L1H0": "iteration, odd t", "L1H1": "iteration, even t"}
    if rungs.distractors:
        roles["L0H1"] = "distractor"
        roles.setdefault("L1H1", "distractor")
    return roles


class _Sketch:
    """Weights in the making, in a basis where every variable has coordinates of its own."""

    def __init__(self, task: Task, vocabulary: Vocabulary, n_ctx: int, rungs: Rungs) -> None:
        self.task, self.vocabulary, self.n_ctx, self.rungs = task, vocabulary, n_ctx, rungs
        sizes = {
            "token": len(vocabulary),
            "position": n_ctx,
            "end": n_ctx,
            "pointer": n_ctx,
            "value": len(vocabulary),
            "answer": len(vocabulary),
            "junk": N_JUNK,
        }
        starts = [0, *torch.tensor(list(sizes.values())).cumsum(0).tolist()]
        self.space = {name: slice(a, b) for name, a, b in zip(sizes, starts, starts[1:], strict=False)}
        self.pairs = [(i, e) for e in range(2, n_ctx) for i in range(e, n_ctx)]
        self.rules = list(self._rules())
        self.config = ModelConfig(
            n_layers=2,
            n_heads=2,
            d_model=starts[-1],
            d_head=max(n_ctx, len(vocabulary)),
            d_mlp=max(len(self.pairs), len(self.rules)) + N_JUNK,
            act_fn="relu",
            normalization="none",
            biases=True,
        )
        shapes = parameter_shapes(self.config, len(vocabulary), n_ctx)
        self.params: Params = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}
        self.generator = torch.Generator().manual_seed(rungs.seed)

    def _rules(self) -> Iterable[tuple[int | None, int, int]]:
        """(own token, value, answer): what MLP 1 has to know. Own token None: it does not matter."""
        words, table = self.vocabulary, self.task.table
        inputs = range(self.task.first_input, self.task.n_inputs)
        yield None, words.end_of_input, words.end_of_states
        if isinstance(self.task, Copy):
            yield from ((None, x, x) for x in inputs)
            return
        for state in (*range(self.task.n_states), None):
            row = table[-1] if state is None else table[state]
            own = words.end_of_input if state is None else state
            yield from ((own, x, int(row[x])) for x in inputs)

    def embed(self) -> None:
        """Tokens and positions, one-hot."""
        self.params["embed.W_E"][:, self.space["token"]] = torch.eye(len(self.vocabulary), dtype=torch.float64)
        self.params["pos_embed.W_pos"][:, self.space["position"]] = torch.eye(self.n_ctx, dtype=torch.float64)

    def _attend(self, layer: int, head: int, value: str, into: str) -> None:
        """A head's values: copy one subspace into another."""
        size = self.space[value].stop - self.space[value].start
        self.params[f"blocks.{layer}.attn.W_V"][head][self.space[value], :size] = torch.eye(size, dtype=torch.float64)
        self.params[f"blocks.{layer}.attn.W_O"][head][:size, self.space[into]] = torch.eye(size, dtype=torch.float64)

    @property
    def _scale(self) -> float:
        """Makes the score of the right key the sharpness, whatever the width of a head."""
        return self.rungs.sharpness * math.sqrt(self.config.head_width)

    def lookup(self) -> None:
        """Every row asks for [EoI] and gets its position. Broken: it asks for the first token."""
        found = self.vocabulary.end_of_input
        if self.rungs.broken == "lookup":
            found = self.vocabulary.task_token(self.task)
        self.params["blocks.0.attn.W_K"][0][self.space["token"].start + found, 0] = 1.0
        self.params["blocks.0.attn.b_Q"][0, 0] = self._scale
        self._attend(0, 0, "position", "end")

    def _neuron(self, layer: int, index: int, own: int | None, fetched: int, output: int) -> None:
        """A neuron that writes 1 where its own and its fetched coordinate are 1, and 0 without either.

        The own one weighs so much that twice the fetched (as from two heads) cannot replace it.
        """
        mlp, gain = f"blocks.{layer}.mlp", 1 / (1 - FIRING_THRESHOLD)
        self.params[f"{mlp}.W_in"][fetched, index] = gain
        self.params[f"{mlp}.b_in"][index] = -gain * FIRING_THRESHOLD
        if own is not None:
            self.params[f"{mlp}.W_in"][own, index] = gain * OWN_WEIGHT
            self.params[f"{mlp}.b_in"][index] -= gain * OWN_WEIGHT
        self.params[f"{mlp}.W_out"][index, output] = 1.0

    def subtract(self) -> None:
        """t = i - e + 1, pair by pair. Broken: a random pointer for every pair."""
        for index, (i, e) in enumerate(self.pairs):
            pointer = i - e + 1
            if self.rungs.broken == "subtraction":
                pointer = int(torch.randint(1, self.n_ctx, (1,), generator=self.generator))
            own, fetched = self.space["position"].start + i, self.space["end"].start + e
            self._neuron(0, index, own, fetched, self.space["pointer"].start + pointer)

    def iterate(self) -> None:
        """The pointer asks, positions answer, tokens are fetched. Broken: the key is the one after."""
        off = 1 if self.rungs.broken == "iteration" else 0
        heads = (0, 1) if self.rungs.backup or self.rungs.split else (0,)
        for head in heads:
            query, key = self.params["blocks.1.attn.W_Q"][head], self.params["blocks.1.attn.W_K"][head]
            for t in range(1, self.n_ctx - off):
                if self.rungs.split and t % 2 == head:  # head 0: odd t
                    continue
                query[self.space["pointer"].start + t, t] = self._scale
                key[self.space["position"].start + t + off, t] = 1.0
            self._attend(1, head, "token", "value")
            if self.rungs.split:  # where a head has no pointer it rests on the first token
                query[self.space["pointer"], 0] = torch.tensor(
                    [self._scale if t and t % 2 == head else 0.0 for t in range(self.n_ctx)], dtype=torch.float64
                )
                key[self.space["position"].start, 0] = 1.0

    def update(self) -> None:
        """F(s, x), rule by rule. Broken: the answers are shuffled."""
        order = list(range(len(self.rules)))
        if self.rungs.broken == "update":
            order = torch.randperm(len(order), generator=self.generator).tolist()
        for index, (own, value, _) in enumerate(self.rules):
            place = None if own is None else self.space["token"].start + own
            answer = self.space["answer"].start + self.rules[order[index]][2]
            self._neuron(1, index, place, self.space["value"].start + value, answer)

    def unembed(self) -> None:
        """The answer is the logits."""
        eye = torch.eye(len(self.vocabulary), dtype=torch.float64)
        self.params["unembed.W_U"][self.space["answer"]] = ANSWER_GAIN * eye

    def distract(self) -> None:
        """Spare heads and neurons that vary with the input and write where no one reads."""

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

        junk = self.space["junk"]
        read = slice(self.space["token"].start, self.space["position"].stop)
        n_read = read.stop - read.start
        width = self.config.head_width
        for layer in (0, 1):
            if layer == 0 or not (self.rungs.backup or self.rungs.split):
                attention = f"blocks.{layer}.attn"
                for which in "QKV":
                    self.params[f"{attention}.W_{which}"][1][read] = random(n_read, width)
                self.params[f"{attention}.W_O"][1][:, junk] = random(width, N_JUNK) / math.sqrt(width)
            self.params[f"blocks.{layer}.mlp.W_in"][read, -N_JUNK:] = random(n_read, N_JUNK)
            self.params[f"blocks.{layer}.mlp.W_out"][-N_JUNK:, junk] = random(N_JUNK, N_JUNK)

    def _basis(self) -> Float[Tensor, "d_model d_model"]:
        """Row i is where coordinate i lies in the stream."""
        d = self.config.d_model
        if not self.rungs.rotated:
            return torch.eye(d, dtype=torch.float64)
        generator = torch.Generator().manual_seed(self.rungs.seed)
        random = torch.randn(d, d, generator=generator, dtype=torch.float64)
        q, r = torch.linalg.qr(random)
        return q * r.diagonal().sign()  # uniform over the orthogonal group

    def finished(self) -> Model:
        """Weights in their basis, with their noise, in single precision."""
        basis = self._basis()
        noise = torch.Generator().manual_seed(self.rungs.seed + 1)
        params = {}
        for name, param in self.params.items():
            last = name.split(".")[-1]
            if last in ("W_E", "W_pos", "W_O", "W_out", "b_O", "b_out"):
                param = param @ basis
            elif last in ("W_Q", "W_K", "W_V", "W_in", "W_U"):
                param = basis.T @ param
            if self.rungs.noise:
                param = param + self.rungs.noise * torch.randn(param.shape, generator=noise, dtype=torch.float64)
            params[name] = param.float()
        return Model(params, self.config)

    def subspaces(self) -> dict[str, Float[Tensor, "d_model dim"]]:
        """Bases of the variables in the stream."""
        basis = self._basis()
        names = {"end": "end", "pointer": "pointer", "value": "value", "state": "token", "answer": "answer"}
        return {variable: basis[self.space[name]].T.float() for variable, name in names.items()}
