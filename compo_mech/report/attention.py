"""Attention maps over training, for a run's page."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from compo_mech.data.packing import Packing
from compo_mech.evaluation.sets import EvalSet
from compo_mech.model.forward import forward
from compo_mech.model.params import Model, Params
from compo_mech.plots import attention
from compo_mech.plots.theme import indexed
from compo_mech.runs.config import RunConfig

if TYPE_CHECKING:
    import plotly.graph_objects as go

MAX_FRAMES, MAX_WEIGHTS = 24, 400_000
"""Steps that the attention slider goes through, and attention weights that all of them together may hold."""

SHOWN_LENGTH, N_SHOWN = 12, 64
"""Strings whose attention is shown: the longest up to this length, and how many are averaged."""


def shown_set(sets: Sequence[EvalSet], task: str) -> EvalSet:
    """The longest strings of a task up to `SHOWN_LENGTH`, or its shortest ones, of lengths that training asks about."""
    of_task = [test for test in sets if str(test.task) == task and test.length in test.data.drawn_lengths]
    short = [test for test in of_task if test.length <= SHOWN_LENGTH]
    return max(short, key=lambda test: test.length) if short else min(of_task, key=lambda test: test.length)


def n_frames(config: RunConfig, n_runs: int = 1) -> int:
    """Steps that a page's slider can hold, with that many runs on the page."""
    length = max(config.data.min_length, min(config.data.max_length, SHOWN_LENGTH))
    n_weights = config.model.n_layers * config.model.n_heads * config.data.layout.n_read(length) ** 2
    return max(2, min(MAX_FRAMES, MAX_WEIGHTS // (n_weights * len(config.data.measured_tasks) * n_runs)))


def attention_by_step(checkpoints: Mapping[int, Params], config: RunConfig, test: EvalSet) -> "go.Figure":
    """Mean attention over test strings of one length, with a slider over steps.

    Args:
        checkpoints: parameters by step, at least one.
        config: of their run.
        test: the strings.
    """
    frames = {step: mean_patterns(Model(params, config.model), test) for step, params in checkpoints.items()}
    return attention.with_slider(frames, indexed(test.layout.labels(test.length)), f"{_title(test)}, by step")


def attention_figure(model: Model, test: EvalSet) -> "go.Figure":
    """Mean attention over up to `N_SHOWN` test strings at every position that is read."""
    return attention.attention_maps(mean_patterns(model, test), indexed(test.layout.labels(test.length)), _title(test))


def mean_patterns(model: Model, test: EvalSet) -> list[Float[Tensor, "head pos pos"]]:
    """Return the attention of every layer, averaged over up to `N_SHOWN` test strings."""
    tokens = test.read[:N_SHOWN]
    patterns: list = []
    forward(model, tokens, Packing.dense(*tokens.shape, device=tokens.device), patterns=patterns)
    return [pattern.detach().mean(0).cpu() for pattern in patterns]


def _title(test: EvalSet) -> str:
    return f"Mean attention over {min(N_SHOWN, len(test.tokens))} test strings of length {test.length}"
