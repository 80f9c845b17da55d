"""RASP programs that Tracr compiled, as Models: circuits that others built, whose every direction has a name.

Tracr (Lindner et al. 2023, arXiv 2301.05062; package `tracr-pypi`) compiles a program of RASP (Weiss et al. 2021) to
the weights of a transformer without LayerNorm, whose attention goes both ways unless it was compiled as causal. A
string is read behind a token BOS. A folder of compiled programs has two files for each: `NAME.safetensors`, parameters
under TransformerLens' names but for the unembedding, and `NAME.json`: tokens, what each direction of the residual
stream stands for, which of them are the output, what the interpreter of RASP answers to every short string, and the
digests of the weights and of the script that compiled them. `edges.json` has the true edges of each, as `true_edges`
finds them.

The unembedding is ours. A categorical output has a logit for each of its values: its coordinate, times a gain. A
numerical one, read from a single coordinate y, has a logit for each value v that the interpreter ever answers:
-(y - v)² times a gain, without the y² that all share. So the likeliest token is the nearest value, and every metric
applies.
"""

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Int
from torch import Tensor

from compo_mech.ground_truth.directions import connected
from compo_mech.interventions.edges import Edge, Reader, all_edges
from compo_mech.interventions.graph import embeddings, run_graph
from compo_mech.interventions.streams import Outputs, Stream, total_of
from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model, Params

GAIN = 10.0
"""By how much the logit of the right value exceeds that of the next."""

VISIBLE = 0.02
"""Change of a probability from which on an output counts as changed."""

Value = str | int | float


@dataclass(frozen=True)
class TracrProgram:
    """A compiled program, and what it should answer.

    Attributes:
        name: of the program.
        model: its network.
        tokens: the value of each token id.
        beginning: the value of the token before every string.
        values: the value that each logit stands for.
        labels: what each direction of the residual stream stands for.
        answers: of the interpreter of RASP, to every short string, string by string in order of length.
        edges: those that are true: the output changes on some string when that edge alone carries another value of its
            range.

    Example:
        >>> from compo_mech.ground_truth import read_tracr
        >>> program = read_tracr("tests/data/tracr", "reverse")  # doctest: +SKIP
        >>> program.answers["a", "b", "c"]  # doctest: +SKIP
        ('c', 'b', 'a')
    """

    name: str
    model: Model
    tokens: tuple[Value, ...]
    beginning: Value
    values: tuple[Value, ...]
    labels: tuple[str, ...] = field(repr=False)
    answers: dict[tuple[Value, ...], tuple[Value, ...]] = field(repr=False)
    edges: frozenset[Edge] = field(repr=False, default=frozenset())

    def encode(self, strings: Sequence[Sequence[Value]]) -> Int[Tensor, "string pos"]:
        """Return the token ids of strings of one length, with the token before them.

        Raises:
            ValueError: a value is no token, or a string is longer than the program was compiled for.
        """
        for string in strings:
            for value in string:
                if value not in self.tokens or value == self.beginning:
                    raise ValueError(f"value = {value!r}: must be one of {', '.join(map(str, self.tokens))}")
            if len(string) >= self.model.n_ctx:
                raise ValueError(f"string = {len(string)} values: must be at most {self.model.n_ctx - 1}")
        return torch.tensor([[self.tokens.index(value) for value in (self.beginning, *string)] for string in strings])

    def of_length(self, length: int) -> tuple[Int[Tensor, "string pos"], Int[Tensor, "string length"]]:
        """Return every known string of a length, encoded, and the index of the right logit at each of its values.

        The rows that are scored are those behind the first.
        """
        strings = [string for string in self.answers if len(string) == length]
        answers = [[self.values.index(value) for value in self.answers[string]] for string in strings]
        return self.encode(strings), torch.tensor(answers)

    @property
    def lengths(self) -> list[int]:
        """The lengths of the strings whose answers are known."""
        return sorted({len(string) for string in self.answers})


def tracr_programs(folder: str | Path) -> list[str]:
    """Return the names of the compiled programs in a folder.

    Example:
        >>> from compo_mech.ground_truth import tracr_programs
        >>> tracr_programs("/nowhere")
        []
    """
    return sorted(file.stem for file in Path(folder).glob("*.safetensors") if file.with_suffix(".json").exists())


def read_tracr(folder: str | Path, name: str) -> TracrProgram:
    """Read a compiled program.

    Raises:
        ValueError: there is no such program, or its weights are not those that its facts were written down for.

    Example:
        >>> from compo_mech.ground_truth import read_tracr
        >>> read_tracr("/nowhere", "reverse")
        Traceback (most recent call last):
        ValueError: name = reverse: must be one of the compiled programs in /nowhere: none
    """
    known = tracr_programs(folder)
    if name not in known:
        raise ValueError(
            f"name = {name}: must be one of the compiled programs in {folder}: {', '.join(known) or 'none'}"
        )
    facts = json.loads((Path(folder) / f"{name}.json").read_text(encoding="utf-8"))
    content = (Path(folder) / f"{name}.safetensors").read_bytes()
    if hashlib.sha256(content).hexdigest() != facts["weights_sha256"]:
        raise ValueError(f"{name}.safetensors = other weights: must be those that {name}.json was written for")
    answers = {tuple(string): tuple(answer) for string, answer in facts["outputs"]}
    values = tuple(facts["output_values"] or sorted({value for answer in answers.values() for value in answer}))
    params = safetensors.torch.load(content)
    params |= _unembedding(facts, values)
    model = Model(params, _config(params, facts["causal"]))
    return TracrProgram(
        name=facts["program"],
        model=model,
        tokens=tuple(facts["tokens"]),
        beginning=facts["beginning"],
        values=values,
        labels=tuple(facts["residual_labels"]),
        answers=answers,
        edges=_edges(model, Path(folder) / "edges.json", name),
    )


def _edges(model: Model, file: Path, name: str) -> frozenset[Edge]:
    """The true edges that a file has for a program, as they are written; none if it has none."""
    known = json.loads(file.read_text(encoding="utf-8")).get(name, []) if file.exists() else []
    by_text = {str(edge): edge for edge in all_edges(model.config)}
    return frozenset(by_text[text] for text in known)


def _unembedding(facts: dict[str, Any], values: tuple[Value, ...]) -> Params:
    """The weights of the logits: the output's own coordinates, or the nearness of a number to each value."""
    labels = facts["residual_labels"]
    rows = [labels.index(label) for label in facts["output_labels"]]
    weight, bias = torch.zeros(len(labels), len(values)), torch.zeros(len(values))
    if facts["output_values"] is not None:
        weight[rows, range(len(values))] = GAIN
    else:
        numbers = torch.tensor(values, dtype=torch.float64)
        gain = GAIN / float(numbers.sort().values.diff().min()) ** 2
        weight[rows[0]] = (2 * gain * numbers).float()
        bias = (-gain * numbers.square()).float()
    return {"unembed.W_U": weight, "unembed.b_U": bias}


def _config(params: Params, causal: bool) -> ModelConfig:
    n_heads, d_model, d_head = params["blocks.0.attn.W_Q"].shape
    return ModelConfig(
        n_layers=1 + max(int(name.split(".")[1]) for name in params if name.startswith("blocks.")),
        n_heads=n_heads,
        d_model=d_model,
        d_head=d_head,
        d_mlp=params["blocks.0.mlp.W_in"].shape[1],
        n_ctx=params["pos_embed.W_pos"].shape[0],
        act_fn="relu",
        normalization="none",
        biases=True,
        attention_dir="causal" if causal else "bidirectional",
    )


@torch.no_grad()
def true_edges(program: TracrProgram, n_rows: int = 256) -> frozenset[Edge]:
    """Patch every edge that can reach the logits; return those that change the output's probabilities by 2% or more.

    What an edge carries instead is what its writer puts out on another string, or at another position of any string.
    Strings are drawn, as many of each length, since there are more pairs of them than can be tried.

    Example:
        >>> from compo_mech.ground_truth import read_tracr, true_edges
        >>> program = read_tracr("tests/data/tracr", "histogram")  # doctest: +SKIP
        >>> true_edges(program) == program.edges  # doctest: +SKIP
        True
    """
    model, found, draws = program.model, set[Edge](), torch.Generator().manual_seed(0)
    for length in program.lengths:
        tokens, _ = program.of_length(length)
        clean, other = (tokens[torch.randint(len(tokens), (n_rows,), generator=draws)] for _ in range(2))
        positions = torch.arange(clean.shape[1]).expand_as(clean)
        inputs = embeddings(model, clean, positions)
        outputs, before = run_graph(model, inputs)
        rows, columns = (torch.randint(n, clean.shape, generator=draws) for n in clean.shape)
        elsewhere = {writer: out[rows, columns] for writer, out in outputs.items()}
        for edge, carried in itertools.product(
            connected(model), (run_graph(model, embeddings(model, other, positions))[0], elsewhere)
        ):
            if edge not in found:
                _, after = run_graph(model, inputs, partial(_read_patched, edge, carried))
                moved = (after.softmax(-1) - before.softmax(-1))[:, 1:].abs().max()
                found |= {edge} if moved > VISIBLE else set()
    return frozenset(found)


def _read_patched(edge: Edge, carried: Outputs, reader: Reader, outputs: Outputs) -> Stream:
    """What a reader sees where one edge carries something else."""
    own = carried if reader == edge.reader else outputs
    return total_of({writer: own[writer] if writer == edge.writer else out for writer, out in outputs.items()})
