"""How much memory and time a run would take, estimated from its settings before there is a folder.

The estimates count what grows with the settings and leave out constants of some hundred megabytes. They are there to
refuse what cannot end well, with a figure and the limit, and not to plan by.
"""

from collections.abc import Mapping, Sequence

from compo_mech.data.config import DataConfig
from compo_mech.data.splits import MIN_SPLIT, n_strings
from compo_mech.data.stream import N_CANDIDATES
from compo_mech.data.tasks import Task
from compo_mech.model.config import ModelConfig
from compo_mech.training.loop import TrainConfig

MAX_MEMORY = 2.0**38
"""Bytes that no machine has on which such networks are trained: settings beyond it can be no run's."""

MAX_DAYS = 365
SECONDS_A_STEP = 1e-3
"""That the smallest step takes, on any device; a snapshot takes some ten of them."""

FLOPS = 1e14
"""Operations a second of a fast device."""

GB, DAY = 1e9, 86400
N_DRAWN = 8
"""Strings that are drawn for each that is kept, where a set of distinct ones is made."""

MANY = 64
"""Length of which there are more strings than are ever drawn; counting those of a million inputs takes seconds."""


def memory(data: DataConfig, model: ModelConfig, n_test_strings: int, n_params: int) -> dict[str, float]:
    """Estimate the bytes that training takes, by the setting that decides them, with its value."""
    length, n_fixed = data.max_length, data.n_train_strings or 0
    n_pos, n_words, n_sets = data.layout.n_read(length), len(data.vocabulary), len(data.tasks) * len(data.lengths)
    of_layer = 8 * model.d_model + _of_attention(model, n_pos) + _of_mlp(model)
    trained = n_pos * 4 * (model.n_layers * of_layer + 3 * n_words)  # bytes a row that the backward pass needs
    measured = n_pos * 4 * (of_layer + 3 * n_words)  # bytes a row where there is none
    longest = [n_strings(task, min(length, MANY)) for task in data.measured_tasks]
    n_tested = max(min(n_test_strings, max(MIN_SPLIT, n)) for n in longest)
    return {
        f"model = {n_params} parameters": 16.0 * n_params,  # with gradients and two averages
        f"data.batch_size = {data.batch_size}": float(data.batch_size) * (trained + 24 * N_CANDIDATES * length),
        f"data.n_train_strings = {n_fixed}": float(n_fixed) * (measured + 8 * n_sets * length)
        + _drawn_from(data.tasks, data, n_fixed),
        f"n_test_strings = {n_test_strings}": float(n_tested) * measured
        + _drawn_from(data.measured_tasks, data, n_test_strings),
    }


def _of_attention(model: ModelConfig, n_pos: int) -> int:
    """Numbers a row that a layer's attention keeps: q, k, v and z, what they are made into, scores and pattern."""
    n_given = model.n_heads if model.n_sharing > 1 else 0  # shared keys and values are copied for each head
    n_made = 2 * model.n_heads if model.use_qk_norm or model.positional_embedding == "rotary" else 0
    n_vectors = 2 * model.n_heads + 2 * (model.n_kv_heads + n_given) + n_made
    return n_vectors * model.head_width + 2 * model.n_heads * n_pos


def _of_mlp(model: ModelConfig) -> int:
    """Numbers a row that a layer's MLP keeps: each neuron before and after its nonlinearity, and its gate."""
    return 0 if model.attn_only else (6 if model.gated_mlp else 3) * model.mlp_width


def _drawn_from(tasks: Sequence[Task], data: DataConfig, n: int) -> float:
    """Bytes of the strings from which n distinct ones are taken: all of a length, or some at random."""
    sizes = [
        min(n_strings(task, min(length, MANY)), N_DRAWN * n) * (56.0 + 24 * length)
        for task in tasks
        for length in (data.min_length, data.max_length)
    ]
    return max(sizes)


def check_memory(needed: Mapping[str, float], limit: float, whose: str = "") -> None:
    """Refuse what takes more memory than there is.

    Args:
        needed: bytes by setting, as `memory` gives them.
        limit: bytes that there are.
        whose: words after the limit.

    Raises:
        ValueError: one line that names the setting that takes most, the estimate and the limit.
    """
    total = sum(needed.values())
    if total > limit:
        name, most = max(needed.items(), key=lambda one: one[1])
        most_gb, total_gb = (f"{n_bytes / GB:.3g} GB" for n_bytes in (most, total))
        takes = f"takes about {most_gb} of memory" + (f", and all together {total_gb}" if most_gb != total_gb else "")
        raise ValueError(f"{name}: {takes}, must take at most {limit / GB:.3g} GB{whose}")


def check_settings(
    data: DataConfig, model: ModelConfig, train: TrainConfig, n_test_strings: int, n_params: int
) -> None:
    """Refuse settings that no machine could train.

    Raises:
        ValueError: one line that names the setting, the estimate and the limit.
    """
    check_memory(memory(data, model, n_test_strings, n_params), MAX_MEMORY)
    n_tokens = data.batch_size * data.layout.n_read(data.max_length)
    a_step = max(SECONDS_A_STEP, 6 * n_params * n_tokens / FLOPS)
    n_snapshots = train.n_steps // train.snapshot_every
    for name, seconds in (
        (f"train.n_steps = {train.n_steps}", train.n_steps * a_step),
        (f"train.snapshot_every = {train.snapshot_every}", n_snapshots * 10 * a_step),
    ):
        if seconds > MAX_DAYS * DAY:
            raise ValueError(f"{name}: takes about {seconds / DAY:.3g} days or more, must take at most {MAX_DAYS}")
