"""Weights of hand-built models, set by formula, in a basis where every variable has coordinates of its own.

A sketch is a list of components: heads that copy one subspace into another, and neurons that write when what they read
is present. Each component also declares the edges that it makes true, so that the truth of a build is written down with
its weights.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.encode import encode
from compo_mech.ground_truth.options import BuildOptions
from compo_mech.interventions.edges import Edge, Reader, Writer
from compo_mech.interventions.graph import embeddings, run_graph
from compo_mech.interventions.streams import Outputs, total_of
from compo_mech.model.config import ModelConfig, parameter_shapes
from compo_mech.model.params import Model, Params

SPARE_POSITIONS = 4
"""Positions beyond the longest row, so that position ids can be shifted."""
N_JUNK = 4
ANSWER_GAIN = 10.0
OWN_WEIGHT = 2.2

FIRING_THRESHOLD = 0.05
"""A neuron fires from this fraction of the fetched coordinate on. Below it there is no gradient, a plateau that
integrated gradients have to cross; and when the fetched value is ablated to its mean, it answers for the mean."""


@dataclass
class Neuron:
    """What one neuron reads, its threshold, and where it writes 1.

    Example:
        >>> from compo_mech.ground_truth import Neuron
        >>> both = Neuron(reads={0: 1.0, 1: 1.0}, bias=-1.0, writes={2: 1.0})
        >>> [max(0.0, both.bias + x * both.reads[0] + y * both.reads[1]) for x, y in ((1, 0), (1, 1))]
        [0.0, 1.0]
    """

    reads: dict[int, float]
    bias: float
    writes: dict[int, float] = field(default_factory=dict)


class Sketch:
    """Spaces, heads and neurons, and what they make true.

    Args:
        data: task, lengths and layout.
        rungs: of difficulty.
        spaces: name and size of each subspace, beside those that every build has.
        n_layers, n_heads: of the network; spare heads do nothing unless they distract.
        d_head: width of a head; None: room for a position or a token.
        positions: the code of each position; None: a coordinate of its own.

    Example:
        >>> from compo_mech.data import DataConfig
        >>> from compo_mech.ground_truth import BuildOptions, Sketch
        >>> from compo_mech.interventions import TOK, Reader
        >>> sketch = Sketch(DataConfig(max_length=2), BuildOptions(), {"value": 6}, n_layers=1, n_heads=1)
        >>> query, key = sketch.head(0, 0, "copies a token", source="token", into="value")
        >>> sketch.true(TOK, Reader("v", 0, 0))
        >>> sketch.roles, [str(edge) for edge in sketch.edges]
        ({'L0H0': 'copies a token'}, ['tok → L0H0.v'])
    """

    def __init__(
        self,
        data: DataConfig,
        rungs: BuildOptions,
        spaces: dict[str, int],
        n_layers: int,
        n_heads: int,
        d_head: int | None = None,
        positions: Float[Tensor, "position code"] | None = None,
    ) -> None:
        self.data, self.rungs, self.words = data, rungs, data.vocabulary
        self.task = data.tasks[0]
        self.n_ctx = data.layout.n_tokens(data.max_length) + SPARE_POSITIONS
        n_words = len(self.words)
        self.positions = torch.eye(self.n_ctx, dtype=torch.float64) if positions is None else positions
        sizes = {"token": n_words, "position": self.positions.shape[1], **spaces, "answer": n_words, "junk": N_JUNK}
        starts = [0, *torch.tensor(list(sizes.values())).cumsum(0).tolist()]
        self.space = {name: slice(a, b) for name, a, b in zip(sizes, starts, starts[1:], strict=False)}
        self.width, self.d_head = starts[-1], d_head or max(self.n_ctx, n_words)
        self.n_layers, self.n_heads = n_layers, n_heads
        self.neurons: list[list[Neuron]] = [[] for _ in range(n_layers)]
        shape = (n_heads, self.width, self.d_head)
        self.heads = [{x: torch.zeros(shape, dtype=torch.float64) for x in "QKVO"} for _ in range(n_layers)]
        self.ask_always: set[tuple[int, int]] = set()  # heads whose query has a constant 1 as its first coordinate
        self.edges: set[Edge] = set()
        self.sets: set[frozenset[Edge]] = set()
        self.roles: dict[str, str] = {}
        self.generator = torch.Generator().manual_seed(rungs.seed)

    def at(self, space: str, i: int = 0) -> int:
        """Return the coordinate of an element of a space."""
        return self.space[space].start + i

    def random_int(self, low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=self.generator))

    @property
    def scale(self) -> float:
        """The factor that makes the attention score of the right key the sharpness, at any head width."""
        return self.rungs.sharpness * math.sqrt(self.d_head)

    def head(self, layer: int, head: int, role: str, source: str, into: str) -> tuple[Tensor, Tensor]:
        """Add a head that copies one subspace into another; return its query and key matrices, to be filled in."""
        size = self.space[source].stop - self.space[source].start
        eye = torch.eye(size, dtype=torch.float64)
        parts = self.heads[layer]
        parts["V"][head, self.space[source], :size] = eye
        parts["O"][head, self.space[into], :size] = eye
        self.roles[str(Writer("head", layer, head))] = role
        return parts["Q"][head], parts["K"][head]

    def true(self, writer: Writer, reader: Reader) -> None:
        """Declare that this edge belongs to the circuit."""
        self.edges.add(Edge(writer, reader))

    def together(self, *groups: Iterable[Edge]) -> None:
        """Declare that one edge of each group together change the output, though none does for the same input alone."""
        self.sets.update(frozenset(chosen) for chosen in itertools.product(*groups))

    def both(self, layer: int, fetched: int, own: tuple[int, ...], output: int) -> None:
        """Add a neuron that writes 1 where its own and its fetched coordinate are 1, and 0 without one of them.

        The own ones weigh so much that twice the fetched (as from two heads) cannot replace them.
        """
        gain = 1 / (1 - FIRING_THRESHOLD)
        reads = {fetched: gain, **dict.fromkeys(own, gain * OWN_WEIGHT)}
        bias = -gain * (FIRING_THRESHOLD + OWN_WEIGHT * len(own))
        self.neurons[layer].append(Neuron(reads, bias, {output: 1.0}))

    # --------------------------------------------------------------------------- the network

    def finished(self) -> Model:
        """Return the weights in their basis, with their distractors and noise, in single precision."""
        plain = self._assembled()
        if self.rungs.distractors:
            self._distract(plain)
        if not self.rungs.layer_norm:
            return self._placed(plain, {})
        return self._placed(plain, self._gains(Model(plain, self._config("none"))))

    def _config(self, normalization: Literal["LN", "none"], d_model: int | None = None) -> ModelConfig:
        return ModelConfig(
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            d_model=d_model or self.width,
            d_head=self.d_head,
            d_mlp=max(map(len, self.neurons)) + N_JUNK,
            act_fn="relu",
            normalization=normalization,
            biases=True,
        )

    def _assembled(self) -> Params:
        config = self._config("none")
        shapes = parameter_shapes(config, len(self.words), self.n_ctx)
        params: Params = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}
        n_words = len(self.words)
        params["embed.W_E"][:, self.space["token"]] = torch.eye(n_words, dtype=torch.float64)
        params["pos_embed.W_pos"][:, self.space["position"]] = self.positions
        if "number" in self.space:  # the position once more, as a number below 1
            params["pos_embed.W_pos"][:, self.at("number")] = torch.arange(self.n_ctx, dtype=torch.float64) / self.n_ctx
        gain = ANSWER_GAIN * (2 if self.rungs.layer_norm else 1)  # neurons then answer by half
        params["unembed.W_U"][self.space["answer"]] = gain * torch.eye(n_words, dtype=torch.float64)
        for layer in range(self.n_layers):
            block = f"blocks.{layer}"
            for which in "QKV":
                params[f"{block}.attn.W_{which}"] = self.heads[layer][which].clone()
            params[f"{block}.attn.W_O"] = self.heads[layer]["O"].mT.clone()
            for head in range(self.n_heads):
                if (layer, head) in self.ask_always:
                    params[f"{block}.attn.b_Q"][head, 0] = self.scale
            neurons = self.neurons[layer]
            _fill(params[f"{block}.mlp.W_in"].mT, [neuron.reads for neuron in neurons])
            _fill(params[f"{block}.mlp.W_out"], [neuron.writes for neuron in neurons])
            biases = [neuron.bias for neuron in neurons]
            params[f"{block}.mlp.b_in"][: len(neurons)] = torch.tensor(biases, dtype=torch.float64)
        return params

    def _distract(self, params: Params) -> None:
        """Add spare heads and neurons that vary with the input and write where no one reads."""
        size = 0.1 if self.rungs.layer_norm else 0.3  # all of the stream counts in a LayerNorm's scale

        def random(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

        junk = self.space["junk"]
        read = slice(self.space["token"].start, self.space["position"].stop)
        n_read = read.stop - read.start
        for layer in range(self.n_layers):
            for head in range(self.n_heads):
                writer = str(Writer("head", layer, head))
                if writer in self.roles:
                    continue
                attention = f"blocks.{layer}.attn"
                for which in "QKV":
                    params[f"{attention}.W_{which}"][head][read] = random(n_read, self.d_head)
                params[f"{attention}.W_O"][head][:, junk] = size * random(self.d_head, N_JUNK) / math.sqrt(self.d_head)
                self.roles[writer] = "distractor"
            params[f"blocks.{layer}.mlp.W_in"][read, -N_JUNK:] = random(n_read, N_JUNK)
            params[f"blocks.{layer}.mlp.W_out"][-N_JUNK:, junk] = size * random(N_JUNK, N_JUNK)

    def _gains(self, plain: Model) -> dict[str, float]:
        """LayerNorm gains that leave a stream of usual size as it is, for what the heads read.

        The size is that of the same network without LayerNorm, in the rows that predict a state.
        MLPs see a stream that lacks one variable as it is, and a whole one smaller: their neurons
        would take a larger one for the variable that is missing.
        """
        layout, n = self.data.layout, self.data.max_length
        inputs = torch.full((1, n), self.task.first_input)
        strings = encode(self.data, self.task, inputs)
        rows = list(layout.scored(n))[:-1]
        sizes: dict[str, float] = {}

        def read(reader: Reader, outputs: Outputs) -> Tensor:
            stream = total_of(outputs)
            names = {"mlp": f"blocks.{reader.layer}.ln2", "logits": "ln_final"}
            name = names.get(reader.kind, f"blocks.{reader.layer}.ln1")
            sizes[name] = math.sqrt(float(stream[0, rows].square().sum(-1).mean()) - (reader.kind == "mlp"))
            return stream

        run_graph(plain, embeddings(plain, strings.read, strings.position_ids), read)
        return sizes

    @cached_property
    def basis(self) -> Float[Tensor, "coordinate d_model"]:
        """Row i is where coordinate i lies in the stream: orthonormal, and without a mean under LayerNorm."""
        n = self.width + self.rungs.layer_norm
        frame = torch.eye(n, dtype=torch.float64)
        if self.rungs.rotated:
            generator = torch.Generator().manual_seed(self.rungs.seed)
            frame = torch.randn(n, n, generator=generator, dtype=torch.float64)
        if self.rungs.layer_norm:  # LayerNorm takes away the mean: nothing may lie along it
            frame = torch.cat([torch.ones(1, n, dtype=torch.float64), frame[: self.width]])
        q, r = torch.linalg.qr(frame.T)
        frame = (q * r.diagonal().sign()).T  # uniform over the orthogonal group, if rotated
        return frame[int(self.rungs.layer_norm) :]

    def _placed(self, plain: Params, gains: dict[str, float]) -> Model:
        basis = self.basis
        noise = torch.Generator().manual_seed(self.rungs.seed + 1)
        config = self._config("LN" if gains else "none", basis.shape[1])
        params: Params = {}
        for name, shape in parameter_shapes(config, len(self.words), self.n_ctx).items():
            part, last = name.removesuffix(".w").removesuffix(".b"), name.split(".")[-1]
            if part in gains:  # the norm's own scale is 1 / sqrt(mean square)
                value = gains[part] / math.sqrt(basis.shape[1]) if last == "w" else 0.0
                params[name] = torch.full(shape, value)
                continue
            param = plain[name]
            if last in ("W_E", "W_pos", "W_O", "W_out", "b_O", "b_out"):
                param = param @ basis
            elif last in ("W_Q", "W_K", "W_V", "W_in", "W_U"):
                param = basis.T @ param
            if self.rungs.noise:
                param = param + self.rungs.noise * torch.randn(param.shape, generator=noise, dtype=torch.float64)
            params[name] = param.float()
        return Model(params, config)


def _fill(weights: Float[Tensor, "neuron coordinate"], rows: Sequence[dict[int, float]]) -> None:
    """Set the weights of each neuron, all at once: one by one is slow."""
    neurons = [index for index, row in enumerate(rows) for _ in row]
    coordinates = [coordinate for row in rows for coordinate in row]
    values = [value for row in rows for value in row.values()]
    weights[neurons, coordinates] = torch.tensor(values, dtype=weights.dtype)
