"""Test strings of one task and one length, ready to be read by a network."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.encode import Encoded, encode
from compo_mech.data.layout import Layout
from compo_mech.data.packing import Packing
from compo_mech.data.splits import is_split, test_strings
from compo_mech.data.stream import TrainingStream
from compo_mech.data.tasks import Task
from compo_mech.evaluation.table import TRAIN


@dataclass(frozen=True)
class EvalSet(Encoded):
    """Test strings of one task and one length.

    Attributes:
        data: how they are encoded.
        split: `test`, or `all` where the length is too short to be split.
        packing: what is read and scored of them.
    """

    data: DataConfig
    task: Task
    length: int
    split: str
    packing: Packing

    @property
    def layout(self) -> Layout:
        return self.data.layout

    @property
    def targets(self) -> Int[Tensor, "batch query"]:
        return self.tokens[:, [position + 1 for position in self.layout.scored(self.length)]]


def eval_sets(config: DataConfig, n_strings: int, device: torch.device | str = "cpu") -> list[EvalSet]:
    """Up to `n_strings` test strings for every measured task and length: the same for every run and seed."""
    return [_test_set(config, task, n, n_strings, device) for task in config.measured_tasks for n in config.lengths]


def drawn_sets(config: DataConfig, task: Task, n_strings: int, device: torch.device | str = "cpu") -> list[EvalSet]:
    """Those of `eval_sets` of one task whose lengths training asks about."""
    return [_test_set(config, task, length, n_strings, device) for length in config.drawn_lengths]


def train_sets(stream: TrainingStream) -> list[EvalSet]:
    """The (first seed's) training strings of every measured task and drawn length; none where new strings are drawn at
    every step."""
    config = stream.config
    if stream.strings is None:
        return []
    return [
        _set_of(config, task, stream.strings[0, config.tasks.index(task), i, :, :length].cpu(), TRAIN, stream.device)
        for task in config.measured_tasks
        for i, length in enumerate(config.lengths)
        if length in config.drawn_lengths
    ]


def _test_set(config: DataConfig, task: Task, length: int, n_strings: int, device: torch.device | str) -> EvalSet:
    split = "test" if is_split(task, length) else "all"
    return _set_of(config, task, test_strings(task, length, n_strings), split, device)


def _set_of(
    config: DataConfig, task: Task, inputs: Int[Tensor, "batch length"], split: str, device: torch.device | str
) -> EvalSet:
    n, length = inputs.shape
    packing = Packing.of_lengths(config.layout, [length] * n, device)
    return EvalSet(encode(config, task, inputs).tokens.to(device), config, task, length, split, packing)
