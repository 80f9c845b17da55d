"""All measures of one network on test strings, as long rows: what is recorded at each snapshot."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech import attention, metrics
from compo_mech.data import DataConfig, TrainingStream, is_split, test_strings
from compo_mech.forward import Past, forward, read_on
from compo_mech.layout import Layout, Packing
from compo_mech.model import ModelConfig, Params, init_params
from compo_mech.tasks import Task

CONTROL = "control"
"""Split of the rows that a freshly initialised model of the same configuration scores."""

SUMMARISED = (
    "entropy", "sparsity", "pointer_weight", "lookup", "lookup_sparsity", "lookup_distance", "iteration",
    "iteration_sparsity", "iteration_distance", "iteration_first", "iteration_middle", "iteration_last",
    "end_on_end_of_input", "end_pointer_weight", "lookup_together", "iteration_together",
)  # fmt: skip
"""Measures of a head, or of a layer's heads together, of which the mean over lengths is recorded as well."""

TRAIN = "train"
"""Split of the training loss, and of accuracy on the training strings where they are a fixed set."""

OFFSET_FLOOR = 0.01
"""Offsets that hold less of the weight than this are left out of the recorded profile."""


class Row(NamedTuple):
    """One measured number. What does not apply is None: no head for accuracy, no length for a mean."""

    split: str
    task: str
    length: int | None
    layer: int | None
    head: int | None
    metric: str
    value: float


def select(metrics: pd.DataFrame, **wanted: object) -> pd.DataFrame:
    """The rows of a table of measurements in which each named column holds the wanted value."""
    for column, value in wanted.items():
        metrics = pd.DataFrame(metrics[metrics[column] == value])
    return metrics


def measured(metrics: pd.DataFrame, task: str) -> pd.DataFrame:
    """The rows of one task, without the control's and those of the training strings."""
    return pd.DataFrame(metrics[(metrics["task"] == task) & ~metrics["split"].isin((CONTROL, TRAIN))])


@dataclass(frozen=True)
class EvalSet:
    """Test strings of one task and one length.

    Attributes:
        split: `test`, or `all` where the length is too short to be split.
        tokens: whole rows, the first [EoS] included.
    """

    task: Task
    length: int
    split: str
    tokens: Int[Tensor, "batch pos"]
    packing: Packing
    layout: Layout

    @property
    def targets(self) -> Int[Tensor, "batch query"]:
        return self.tokens[:, [position + 1 for position in self.layout.scored(self.length)]]


def eval_sets(config: DataConfig, n_strings: int, device: torch.device | str = "cpu") -> list[EvalSet]:
    """Up to `n_strings` test strings for every measured task and length: the same for every run and seed."""
    sets = []
    for task in config.measured_tasks:
        for length in config.lengths:
            split = "test" if is_split(task, length) else "all"
            sets.append(_set_of(config, task, test_strings(task, length, n_strings), split, device))
    return sets


def train_sets(stream: TrainingStream) -> list[EvalSet]:
    """The training strings of every measured task and length; none where they are drawn afresh."""
    config = stream.config
    if stream.strings is None:
        return []
    return [
        _set_of(config, task, stream.strings[config.tasks.index(task), i, :, :length].cpu(), TRAIN, stream.device)
        for task in config.measured_tasks
        for i, length in enumerate(config.lengths)
    ]


def _set_of(
    config: DataConfig, task: Task, inputs: Int[Tensor, "batch length"], split: str, device: torch.device | str
) -> EvalSet:
    vocabulary, layout, (n, length) = config.vocabulary, config.layout, inputs.shape
    first = vocabulary.task_token(task) if config.task_token else vocabulary.beginning
    tokens = layout.assemble(
        torch.full((n,), first),
        inputs,
        task.states(inputs),
        torch.full((n,), length),
        vocabulary.end_of_input,
        vocabulary.end_of_states,
    ).to(device)
    return EvalSet(task, length, split, tokens, Packing.of_lengths(layout, [length] * n, device), layout)


@torch.no_grad()
def generate(
    params: Params, model: ModelConfig, prompts: Int[Tensor, "batch pos"], n_new: int
) -> Int[Tensor, "batch n_new"]:
    """The likeliest continuation, token by token, of prompts of one length."""
    past: Past = []
    written = [prompts[:, :0]]
    tokens = prompts
    for _ in range(n_new):
        tokens = read_on(params, model, tokens, past).argmax(-1)[:, None]
        written.append(tokens)
    return torch.cat(written, 1)


@torch.no_grad()
def run_set(
    params: Params, model: ModelConfig, test: EvalSet
) -> tuple[Float[Tensor, "batch query d_vocab"], list[Float[Tensor, "batch head query key"]]]:
    """Teacher-forced logits at the scored rows, and every layer's attention there."""
    patterns: list[Tensor] = []
    logits = forward(params, model, test.tokens, test.packing, patterns=patterns)
    return logits.unflatten(0, (len(test.tokens), -1)), patterns


def generated(
    params: Params, model: ModelConfig, test: EvalSet, predicted: Int[Tensor, "batch query"]
) -> Int[Tensor, "batch query"]:
    """What the network writes freely after [EoI].

    Strings that are right under teacher forcing are written just so when generated, since every
    token is then the likeliest one after the same tokens; only the others need generating.
    """
    wrong = ~metrics.strings_right(predicted, test.targets)
    written = predicted.clone()
    if wrong.any():
        prompts = test.tokens[wrong, : test.layout.end_of_input(test.length) + 1]
        written[wrong] = generate(params, model, prompts, predicted.shape[1])
    return written


def measure(params: Params, model: ModelConfig, data: DataConfig, sets: list[EvalSet]) -> list[Row]:
    """Every measure on every set, then each head's means over lengths and its verdict."""
    rows: list[Row] = []
    for test in sets:
        logits, patterns = run_set(params, model, test)
        predicted = logits.argmax(-1)
        written = generated(params, model, test, predicted)
        vocabulary = data.vocabulary
        right = metrics.strings_right(predicted, test.targets)
        grammar = metrics.grammatical(written, vocabulary.n_values, vocabulary.end_of_states)
        numbers = {
            "accuracy": metrics.share(right),
            "generated_accuracy": metrics.share(metrics.strings_right(written, test.targets)),
            "token_accuracy": metrics.token_accuracy(logits, test.targets),
            "loss": metrics.mean_loss(logits, test.targets),
            "grammar": metrics.share(grammar),
        }
        place = (test.split, str(test.task), test.length)
        rows += [Row(*place, None, None, name, float(value)) for name, value in numbers.items()]
        for layer, pattern in enumerate(patterns):
            rows += [Row(*place, layer, *rest) for rest in layer_measures(pattern, test.layout, test.length)]
    return rows + list(_summaries(rows))


def layer_measures(
    pattern: Float[Tensor, "batch head query key"], layout: Layout, length: int, lean: bool = False
) -> Iterator[tuple[int | None, str, float]]:
    """(head, measure, value) of every measure of each head, and of the layer's heads together (head None).

    Args:
        pattern: attention at the scored rows of strings of one length.
        layout, length: of the strings.
        lean: only measures that are `SUMMARISED`.
    """
    for name, values in head_measures(pattern, layout, length, lean).items():
        yield from ((head, name, value) for head, value in enumerate(values.tolist()))
    for name, (rows, keys) in _works(layout, length).items():
        yield None, f"{name}_together", float(attention.together(attention.edge_weights(pattern, rows, keys)))


def _works(layout: Layout, length: int) -> dict[str, tuple[list[int], list[int]]]:
    """(rows, keys) of each work that strings of this length have; rows count from the first scored one."""
    first = layout.scored(length)[0]
    edges = {"lookup": layout.lookup_edges(length), "iteration": layout.iteration_edges(length)}
    return {name: ([query - first for query in queries], keys) for name, (queries, keys) in edges.items() if queries}


@torch.no_grad()
def measure_train(params: Params, model: ModelConfig, sets: list[EvalSet]) -> list[Row]:
    """Teacher-forced accuracy on the training strings."""
    rows = []
    for known in sets:
        logits, _ = run_set(params, model, known)
        right = float(metrics.share(metrics.strings_right(logits.argmax(-1), known.targets)))
        rows.append(Row(TRAIN, str(known.task), known.length, None, None, "accuracy", right))
    return rows


def measure_control(model: ModelConfig, n_ctx: int, data: DataConfig, sets: list[EvalSet], seed: int) -> list[Row]:
    """Every measure on a freshly initialised model: what the scores are worth before any training."""
    generator = torch.Generator(sets[0].tokens.device).manual_seed(seed)
    fresh = init_params(model, len(data.vocabulary), n_ctx, generator)
    return [row._replace(split=CONTROL) for row in measure(fresh, model, data, sets)]


def head_measures(
    pattern: Float[Tensor, "batch head query key"], layout: Layout, length: int, lean: bool = False
) -> dict[str, Float[Tensor, "head"]]:
    """Every measure of each head, or the `SUMMARISED` ones, on strings of one length, from attention at the scored
    rows."""
    scored, works = layout.scored(length), _works(layout, length)
    squares = attention.concentration(pattern)
    found: dict[str, Tensor] = {"entropy": attention.entropy(pattern), "sparsity": attention.sparsity(squares, scored)}
    n_states = layout.n_states(length)
    predicting = pattern[:, :, :n_states]  # the rows that predict a state, not [EoS]
    for name, (rows, keys) in works.items():
        weights = attention.edge_weights(pattern, rows, keys)
        found[name] = attention.score(weights)
        found[f"{name}_sparsity"] = attention.sparsity(squares[:, :, rows], [scored[row] for row in rows])
        found[f"{name}_distance"] = attention.distance(squares[:, :, rows], weights)
        if not lean:
            found[f"{name}_above_half"] = attention.peakiness(weights)
            found[f"{name}_invariance"] = attention.invariance(weights)
    found |= _odd_spots(pattern, layout, length)
    if lean:
        return found | {"pointer_weight": predicting.amax(-1).mean((0, 2))}
    pointer = attention.pointer(predicting)
    found["pointer_weight"] = pointer.weight.mean(-1)
    found["pointer_agreement"] = pointer.agreement.mean(-1)
    found["pointer_sharp_rows"] = pointer.sharp.float().mean(-1)
    if "iteration" in works:
        profile = attention.offset_profile(predicting, *works["iteration"])
        found |= {f"offset_{offset:+d}": weight for offset, weight in profile.items() if weight.max() >= OFFSET_FLOOR}
    return found


def _odd_spots(
    pattern: Float[Tensor, "batch head query key"], layout: Layout, length: int
) -> dict[str, Float[Tensor, "head"]]:
    """The special rows, each on its own: the first and the last that predict a state, and the one that ends.

    `iteration_first` and `iteration_last` are weights on x_1 and x_L, `iteration_middle` the mean over the rows
    between them; `end_on_end_of_input` is the weight of the row that predicts [EoS] on [EoI], `end_pointer_weight` that
    on its strongest key.
    """
    ending = pattern[:, :, -1]  # [batch, head, key]
    found = {
        "end_on_end_of_input": ending[..., layout.end_of_input(length)].mean(0),
        "end_pointer_weight": ending.amax(-1).mean(0),
    }
    edges = _works(layout, length).get("iteration")
    if edges is not None:
        weights = attention.edge_weights(pattern, *edges).mean(0)  # [head, edge]
        found |= {"iteration_first": weights[:, 0], "iteration_last": weights[:, -1]}
        if length > 2:
            found["iteration_middle"] = weights[:, 1:-1].mean(1)
    return found


def _summaries(rows: list[Row]) -> Iterator[Row]:
    """Means of each head and layer over lengths >= 4 (sharp rows: over all rows of those lengths) and verdicts."""
    of_heads: dict[tuple, dict[str, dict[int, float]]] = {}  # (task, layer, head) -> metric -> length -> value
    for row in rows:
        if row.layer is not None and row.length is not None and row.length >= attention.MIN_LENGTH:
            found = of_heads.setdefault((row.task, row.layer, row.head), {})
            found.setdefault(row.metric, {})[row.length] = row.value
    for (task, layer, head), found in of_heads.items():
        means = {metric: sum(found[metric].values()) / len(found[metric]) for metric in SUMMARISED if metric in found}
        if (sharp := found.get("pointer_sharp_rows")) is not None:
            means["pointer_sharp_rows"] = sum(n * share for n, share in sharp.items()) / sum(sharp)
        if "iteration" in means:
            means["verdict"] = attention.verdict(means["iteration"], means["pointer_sharp_rows"])
        for metric, value in means.items():
            yield Row("mean", task, None, layer, head, metric, float(value))
