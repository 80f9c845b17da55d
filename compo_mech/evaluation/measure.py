"""All measures of one network on test strings, as long rows: what is recorded at each snapshot."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.evaluation import accuracy, attention
from compo_mech.evaluation.head_scores import SUMMARISED, layer_measures
from compo_mech.evaluation.sets import EvalSet
from compo_mech.evaluation.table import CONTROL, TRAIN, Row
from compo_mech.model.config import ModelConfig
from compo_mech.model.finite import likeliest
from compo_mech.model.forward import forward
from compo_mech.model.generate import Past, read_at
from compo_mech.model.params import Model, Params, init_params


def _verdict(iteration_score: float, sharp_share: float) -> float:
    """As a number; NaN of a network that diverged."""
    known = not np.isnan(iteration_score + sharp_share)
    return float(attention.attention_verdict(iteration_score, sharp_share)) if known else np.nan


VERDICT_OF_EACH = np.vectorize(_verdict, otypes=[float])


@torch.no_grad()
def run_set(
    model: Model, test: EvalSet, past: Past | None = None
) -> tuple[Float[Tensor, "batch query d_vocab"], list[Float[Tensor, "batch head query key"]]]:
    """Teacher-forced logits at the scored rows, and every layer's attention there; of `past`, see `forward`."""
    patterns: list[Tensor] = []
    logits = forward(model, test.tokens, test.packing, patterns=patterns, past=past)
    return rearrange(logits, "(batch query) d_vocab -> batch query d_vocab", batch=len(test.tokens)), patterns


def generated(
    model: Model, test: EvalSet, predicted: Int[Tensor, "batch query"], past: Past
) -> Int[Tensor, "batch query"]:
    """What the network generates after [EoI].

    Up to its first wrong token a string comes out as under teacher forcing, since every token is the likeliest one
    after the same tokens; only what follows that token needs generating.

    Args:
        model: the network.
        test: the strings.
        predicted: under teacher forcing.
        past: keys and values of that pass.
    """
    is_wrong = predicted != test.targets
    first_wrong = torch.where(is_wrong.any(1), is_wrong.to(torch.uint8).argmax(1), predicted.shape[1])
    first_wrong, order = first_wrong.sort()
    n_going_on = torch.searchsorted(first_wrong, torch.arange(predicted.shape[1], device=first_wrong.device)).tolist()
    written = predicted[order]
    past = [(k[order[: n_going_on[-1]]], v[order[: n_going_on[-1]]]) for k, v in past]
    for i, n in enumerate(n_going_on):
        if n:
            before = [(k[:n], v[:n]) for k, v in past]
            logits = read_at(model, written[:n, i - 1], before, test.layout.end_of_input(test.length) + i)
            written[:n, i] = likeliest(logits)
    return torch.empty_like(written).index_copy_(0, order, written)


def measure(model: Model, data: DataConfig, sets: list[EvalSet]) -> list[Row]:
    """Every measure on every set, then each head's means over the lengths that training asks about, and its verdict."""
    rows: list[Row] = []
    for test in sets:
        past: Past = []
        logits, patterns = run_set(model, test, past)
        predicted = likeliest(logits)
        written = generated(model, test, predicted, past)
        vocabulary = data.vocabulary
        right = accuracy.strings_right(predicted, test.targets)
        grammar = accuracy.grammatical(written, vocabulary.n_values, vocabulary.end_of_states_id)
        numbers = {
            "accuracy": accuracy.share(right),
            "generated_accuracy": accuracy.share(accuracy.strings_right(written, test.targets)),
            "token_accuracy": accuracy.token_accuracy(logits, test.targets),
            "loss": accuracy.mean_loss(logits, test.targets),
            "grammar": accuracy.share(grammar),
        }
        where = (test.split, str(test.task), test.length)
        rows += [Row(*where, None, None, name, float(value)) for name, value in numbers.items()]
        rows += [Row(*where, *rest) for rest in layer_measures(patterns, test.layout, test.length)]
    return rows + [row._replace(value=float(row.value)) for row in summaries(rows, data.drawn_lengths)]


@torch.no_grad()
def measure_train(model: Model, sets: list[EvalSet]) -> list[Row]:
    """Teacher-forced accuracy on the training strings."""
    rows = []
    for known in sets:
        logits, _ = run_set(model, known)
        right = float(accuracy.share(accuracy.strings_right(likeliest(logits), known.targets)))
        rows.append(Row(TRAIN, str(known.task), known.length, None, None, "accuracy", right))
    return rows


def measure_control(config: ModelConfig, n_ctx: int, data: DataConfig, sets: list[EvalSet], seed: int) -> list[Row]:
    """Every measure on the randomly initialised control, as a baseline for the scores."""
    params = control_params(config, n_ctx, data, sets[0].tokens.device, seed)
    return as_control(measure(Model(params, config), data, sets))


def control_params(config: ModelConfig, n_ctx: int, data: DataConfig, device: torch.device, seed: int) -> Params:
    """Weights of the randomly initialised control of this seed."""
    return init_params(config, len(data.vocabulary), n_ctx, torch.Generator(device).manual_seed(seed))


def as_control(rows: Sequence[Row]) -> list[Row]:
    """The same rows, said of the control."""
    return [row._replace(split=CONTROL) for row in rows]


def summaries(rows: Sequence[Any], drawn: Sequence[int]) -> Iterator[Row]:
    """Means of each head and layer over drawn lengths >= 4 (sharp rows: over all their rows) and
    verdicts.

    Args:
        rows: whose values are numbers, or arrays of the numbers of many networks, as those of the means are then.
        drawn: lengths that training asks about.
    """
    of_heads: dict[tuple, dict[str, dict[int, Any]]] = {}  # (task, layer, head) -> metric -> length -> value
    for row in rows:
        if row.layer is None or row.length is None:
            continue
        if row.length in drawn and row.length >= attention.MIN_LENGTH:
            found = of_heads.setdefault((row.task, row.layer, row.head), {})
            found.setdefault(row.metric, {})[row.length] = row.value
    for (task, layer, head), found in of_heads.items():
        means = {metric: sum(found[metric].values()) / len(found[metric]) for metric in SUMMARISED if metric in found}
        if (sharp := found.get("pointer_sharp_rows")) is not None:
            means["pointer_sharp_rows"] = sum(n * share for n, share in sharp.items()) / sum(sharp)
        if "iteration" in means:
            means["verdict"] = VERDICT_OF_EACH(means["iteration"], means["pointer_sharp_rows"])
        for metric, value in means.items():
            yield Row("mean", task, None, layer, head, metric, value)
