"""RASP programs that Tracr compiled, as Models: circuits that others built, whose every direction has a name.

Tracr (Lindner et al. 2023, arXiv 2301.05062; package `tracr-pypi`) compiles a program of RASP (Weiss et al. 2021) to
the weights of a transformer without LayerNorm, whose attention goes both ways unless it was compiled as causal. A
string is read behind a token BOS. A folder of compiled programs has two files for each: `NAME.safetensors`, parameters
under TransformerLens' names but for the unembedding, and `NAME.json`: tokens, what each direction of the residual
stream stands for, which of them are the output, what the interpreter of RASP answers to every short string, and the
digests of the weights and of the script that compiled them.

The unembedding is ours. A categorical output has a logit for each of its values: its coordinate, times a gain. A
numerical one, read from a single coordinate y, has a logit for each value v that the interpreter ever answers: -(y - v)²
times a gain, without the y² that all share. So the likeliest token is the nearest value, and every metric applies.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Int
from torch import Tensor

from compo_mech.model.config import ModelConfig
from compo_mech.model.params import Model, Params

GAIN = 10.0
"""By how much the logit of the right value exceeds that of the next."""

Value = str | int | float


@dataclass(frozen=True)
class TracrProgram:
    """A compiled program, and what it should answer.

    Attributes:
        name: of the program.
        model: its network; `causal` says whether its attention is to earlier positions alone.
        tokens: the value of each token id.
        beginning: the value of the token before every string.
        values: the value that each logit stands for.
        labels: what each direction of the residual stream stands for.
        answers: of the interpreter of RASP, to every short string, string by string in order of length.

    Example:
        >>> from compo_mech.ground_truth import read_tracr
        >>> program = read_tracr("tests/data/tracr", "reverse")  # doctest: +SKIP
        >>> program.answers["a", "b", "c"]  # doctest: +SKIP
        ('c', 'b', 'a')
    """

    name: str
    model: Model
    causal: bool
    tokens: tuple[Value, ...]
    beginning: Value
    values: tuple[Value, ...]
    labels: tuple[str, ...] = field(repr=False)
    answers: dict[tuple[Value, ...], tuple[Value, ...]] = field(repr=False)

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
    return sorted(file.stem for file in Path(folder).glob("*.json") if file.with_suffix(".safetensors").exists())


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
    return TracrProgram(
        name=facts["program"],
        model=Model(params, _config(params)),
        causal=facts["causal"],
        tokens=tuple(facts["tokens"]),
        beginning=facts["beginning"],
        values=values,
        labels=tuple(facts["residual_labels"]),
        answers=answers,
    )


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


def _config(params: Params) -> ModelConfig:
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
    )
