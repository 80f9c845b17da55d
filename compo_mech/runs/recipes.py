"""The settings that the scripts start from. LOG.md describes how they were found."""

from collections.abc import Callable, Mapping
from typing import Literal

from compo_mech.data.config import DataConfig, Stage
from compo_mech.data.tasks import Automaton, Copy, Parity, Polynomial, Task
from compo_mech.model.config import ModelConfig
from compo_mech.runs.config import RunConfig
from compo_mech.training.loop import TrainConfig
from compo_mech.training.optim import OptimConfig


def parity() -> RunConfig:
    """Parity, lengths 1 to 12, with an initial phase mixed with the polynomial task before parity alone."""
    return _with_initial_phase(Parity(), max_length=12)


def copy() -> RunConfig:
    """Binary copy, lengths 1 to 12, with the same initial phase."""
    return _with_initial_phase(Copy(), max_length=12)


def polynomial() -> RunConfig:
    """The polynomial task modulo 11, lengths 1 to 8."""
    return RunConfig(data=DataConfig(tasks=(Polynomial(),), max_length=8))


def automaton() -> RunConfig:
    """An automaton of three states and two inputs that does not commute, lengths 1 to 8."""
    return RunConfig(data=DataConfig(tasks=(Automaton(transitions=((1, 0), (2, 0), (2, 1))),), max_length=8))


def grokking() -> RunConfig:
    """Parity on the same 24 strings of length 8 throughout: memorised at once, generalised much later or not at all."""
    return RunConfig(
        data=DataConfig(tasks=(Parity(),), min_length=8, max_length=8, n_train_strings=24),
        optim=OptimConfig(weight_decay=0.1, betas=(0.9, 0.98), decay_share=0.3),
        train=TrainConfig(n_steps=8000, snapshot_every=50),
        n_test_strings=128,
    )


def parity_alone() -> RunConfig:
    """Parity without an initial phase mixed with another task, position ids that start at 0, 1 or 2, lengths 1 to
    12."""
    return RunConfig(data=DataConfig(tasks=(Parity(),)), train=TrainConfig(max_position_shift=2))


def reference(max_length: int = 12) -> RunConfig:
    """Parity as the public code of Cabannes et al. 2024 trains it, but for its padding.

    1024 strings a length, never shuffled and sorted by length, so that every batch holds one
    length; Adam, d_model 128, dropout at the embedding.
    """
    n_epochs, batch_size, n_strings = 1000, 256, 1024
    return RunConfig(
        data=DataConfig(
            tasks=(Parity(),),
            max_length=max_length,
            batch_size=batch_size,
            n_train_strings=n_strings,
            order="shortest_first",
        ),
        model=ModelConfig(d_model=128),
        optim=OptimConfig(optimizer="adam", lr=3e-4, n_warmup_steps=0, decay_share=0.0),
        train=TrainConfig(n_steps=n_epochs * max_length * n_strings // batch_size, embed_dropout=0.1),
    )


def _with_initial_phase(task: Task, max_length: int) -> RunConfig:
    """One task, with an initial phase mixed with the polynomial task, and position ids that start at 0, 1 or 2.

    Both remove shortcuts: one of eleven values cannot be carried to other positions as easily as a bit, and the
    length can no longer be read off a position.
    """
    mixed = Stage(n_steps=1500, task_weights=(1.0, 1.0))
    tasks = {"tasks": (task, Polynomial()), "task_weights": (1.0, 0.0), "curriculum": (mixed,)}
    return RunConfig(data=DataConfig(max_length=max_length, **tasks), train=TrainConfig(max_position_shift=2))


RecipeName = Literal["parity", "copy", "polynomial", "automaton", "grokking", "parity_alone"]
RECIPES: Mapping[str, Callable[[], RunConfig]] = {
    "parity": parity,
    "copy": copy,
    "polynomial": polynomial,
    "automaton": automaton,
    "grokking": grokking,
    "parity_alone": parity_alone,
}
"""By the name that the command line gives them."""
