"""Fine-tuning a language model on strings of a task with a chain of thought, `101101=110110`, without examples."""

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.data.splits import all_strings, is_split, is_test_string
from compo_mech.data.tasks import Task
from compo_mech.pretrained.few_shot import digit_tokens
from compo_mech.training.loop import TrainState

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

N_WARMUP = 20
"""Steps over which the learning rate grows to what it then stays at."""


def string_rows(
    model: "HookedTransformer", task: Task, inputs: Int[Tensor, "string length"]
) -> Int[Tensor, "string token"]:
    """Return the tokens of `x1…xL=s1…sL` and a line break, one string a row."""
    tokenizer = model.tokenizer
    assert tokenizer is not None
    digits = digit_tokens(tokenizer)
    equals, end = (torch.tensor([tokenizer(text)["input_ids"]] * len(inputs)) for text in ("=", "\n"))
    return torch.cat([digits[inputs], equals, digits[task.states(inputs)], end], 1)


def split_strings(task: Task, length: int, test: bool) -> Int[Tensor, "string length"]:
    """Return all test or all training strings of a length; those of lengths too short to be split are both."""
    strings = all_strings(task, length)
    if not is_split(task, length):
        return strings
    return strings[is_test_string(strings, torch.full((len(strings),), length)) == test]


def answer_logits(
    model: "HookedTransformer", rows: Int[Tensor, "string token"], first_layer: int = 0, stream: Tensor | None = None
) -> Float[Tensor, "string answer d_vocab"]:
    """Return the logits of the tokens after `=`: the states and the line break.

    Args:
        model: the network.
        rows: from `string_rows`.
        first_layer: where the computation starts.
        stream: in front of that layer; None: the embeddings, in front of layer 0.
    """
    resid: Tensor = model.embed(rows) if stream is None else stream
    for block in model.blocks[first_layer:]:
        resid = block(resid)
    n_answers = rows.shape[1] // 2
    return model.unembed(model.ln_final(resid[:, -1 - n_answers : -1]))


def starting_state(model: "HookedTransformer", first_layer: int, generator: torch.Generator) -> TrainState:
    """Return the state before the first step, and freeze all that is not trained.

    Args:
        model: the network, which training changes in place.
        first_layer: of those trained.
        generator: source of lengths and strings.
    """
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    weights = trained(model, first_layer)
    for parameter in weights.values():
        parameter.requires_grad_(True)
    return TrainState(0, weights, [torch.optim.AdamW(weights.values(), weight_decay=0.0)], generator)


def fine_tune(
    model: "HookedTransformer",
    state: TrainState,
    task: Task,
    lengths: Sequence[int],
    first_layer: int,
    n_steps: int,
    batch_size: int = 8,
    lr: float = 1e-4,
) -> Iterator[tuple[int, float]]:
    """Train the blocks from a layer on, from the state's step to the end; yield each step and its loss.

    What lies below is frozen, and computed once for each string. A batch holds strings of one length, drawn with
    replacement from the training strings.

    Args:
        model: the network, changed in place.
        state: from `starting_state` of the same model and layer; it is kept up to date.
        task: whose states are to be written.
        lengths: of the strings, drawn uniformly.
        first_layer: of those trained.
        n_steps: steps in all.
        batch_size: strings a step.
        lr: of AdamW, after a warm-up.
    """
    (optimizer,) = state.optimizers
    strings = {length: split_strings(task, length, test=False) for length in lengths}
    below = {length: read_strings(model, task, of_length, first_layer) for length, of_length in strings.items()}
    for step in range(state.step + 1, n_steps + 1):
        length = lengths[int(torch.randint(len(lengths), (1,), generator=state.generator))]
        rows, stream = below[length]
        drawn = torch.randint(len(rows), (batch_size,), generator=state.generator)
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, step / N_WARMUP)
        logits = answer_logits(model, rows[drawn], first_layer, stream[drawn])
        loss = F.cross_entropy(logits.flatten(0, 1), rows[drawn, -logits.shape[1] :].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        state.step = step
        yield step, loss.item()


def trained(model: "HookedTransformer", first_layer: int) -> dict[str, Tensor]:
    """Return the parameters that fine-tuning from a layer on changes: those of its blocks but biases, which are 0."""
    found = dict(model.named_parameters())
    layers = range(first_layer, model.cfg.n_layers)
    parts = itertools.product(layers, ("attn", "mlp", "ln1", "ln2"))
    prefixes = tuple(f"blocks.{layer}.{part}." for layer, part in parts)
    return {n: p for n, p in found.items() if n.startswith(prefixes) and not n.split(".")[-1].startswith("b")}


@torch.no_grad()
def read_strings(
    model: "HookedTransformer", task: Task, strings: Int[Tensor, "string length"], first_layer: int
) -> tuple[Int[Tensor, "string token"], Float[Tensor, "string token d_model"]]:
    """Return the tokens of strings, and the stream in front of the first layer that is trained."""
    rows = string_rows(model, task, strings)
    stream = model.embed(rows)
    for block in model.blocks[:first_layer]:
        stream = block(stream)
    return rows, stream


@torch.no_grad()
def n_right(
    model: "HookedTransformer",
    rows: Int[Tensor, "string token"],
    stream: Float[Tensor, "string token d_model"],
    first_layer: int,
) -> tuple[int, int]:
    """Return how many states are right, and of how many, given the right states before each."""
    right = answer_logits(model, rows, first_layer, stream)[:, :-1].argmax(-1) == rows[:, rows.shape[1] // 2 : -1]
    return int(right.sum()), right.numel()
