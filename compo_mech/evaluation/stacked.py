"""All measures of many networks at once, given as stacked parameters: what `measure` says of each, up to rounding.

Networks take part as further heads: every measure of attention takes any number of heads, each by itself.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.layout import Layout
from compo_mech.evaluation import accuracy
from compo_mech.evaluation.head_scores import OFFSET_FLOOR, edges_of_roles, head_measures
from compo_mech.evaluation.measure import summaries
from compo_mech.evaluation.sets import EvalSet
from compo_mech.evaluation.table import Row
from compo_mech.model.config import ModelConfig
from compo_mech.model.finite import NotFinite
from compo_mech.model.forward import forward
from compo_mech.model.generate import Past, read_at
from compo_mech.model.params import Model, Params

N_NUMBERS = 2**23
"""Activations of one kind that are held at once, but on a GPU; networks are measured in groups that keep to it."""
DIVERGED = "diverged"
"""Stands for the verdict of a network whose logits are not finite."""
BYTES_EACH = 64
"""Of a GPU's free memory for each such number: as many are held of about ten kinds."""


class Measured(NamedTuple):
    """One measure of every network.

    Attributes:
        what: where and what it is, a row without a value.
        value: of each network; NaN: it is not recorded of that one, as nothing is where a logit is not finite.
    """

    what: Row
    value: np.ndarray


def rows_of(measured: Sequence[Measured], member: int) -> list[Row]:
    """The rows of one of the networks, as `measure` gives them.

    Raises:
        NotFinite: one of its logits is not.
    """
    rows = (what._replace(value=float(value[member])) for what, value in measured)
    found = [row for row in rows if not math.isnan(row.value)]
    if not found:
        raise NotFinite("logits = nan or infinite: must be finite")
    return found


@torch.no_grad()
def measure_each(params: Params, config: ModelConfig, data: DataConfig, sets: Sequence[EvalSet]) -> list[Measured]:
    """Every measure of each network on every set, then its means and verdicts.

    Args:
        params: stacked along a leading axis.
        config: of every network.
        data: that they were trained on.
        sets: test strings.
    """
    n_members = len(params["embed.W_E"])
    found: list[Measured] = []
    for test in sets:
        n_numbers = max(test.tokens.numel() * config.mlp_width, 1)
        at_once = max(1, _room(test.tokens.device) // n_numbers)
        groups = [
            dict(_of_set({name: param[start : start + at_once] for name, param in params.items()}, config, data, test))
            for start in range(0, n_members, at_once)
        ]
        for layer, head, metric in groups[0]:
            values = np.concatenate([group[layer, head, metric] for group in groups])
            what = Row(test.split, str(test.task), test.length, layer, head, metric, math.nan)
            found.append(Measured(what, values))
    means = summaries([what._replace(value=value) for what, value in found], data.drawn_lengths)
    found += [Measured(row._replace(value=math.nan), np.asarray(row.value)) for row in means]
    bad = np.any([np.isnan(value) for what, value in found if what.metric == "loss"], axis=0)
    return [Measured(what, np.where(bad, np.nan, value)) for what, value in found]


def _room(device: torch.device) -> int:
    """How many activations of one kind may be held at once."""
    return torch.cuda.mem_get_info(device)[0] // BYTES_EACH if device.type == "cuda" else N_NUMBERS


def _of_set(
    params: Params, config: ModelConfig, data: DataConfig, test: EvalSet
) -> Iterator[tuple[tuple[int | None, int | None, str], np.ndarray]]:
    """(layer, head, metric), and its value of each network."""

    def run(params: Params) -> tuple[Tensor, tuple[Tensor, ...], Past]:
        patterns: list[Tensor] = []
        past: Past = []
        logits = forward(Model(params, config), test.tokens, test.packing, patterns=patterns, past=past)
        by_string = rearrange(logits, "(batch query) d_vocab -> batch query d_vocab", batch=len(test.tokens))
        return by_string, (*patterns,), past

    logits, patterns, past = torch.func.vmap(run)(params)
    finite = logits.isfinite().flatten(1).all(1)
    predicted = logits.argmax(-1)  # [member, batch, query]
    right = accuracy.strings_right(predicted, test.targets)
    written = _generated(params, config, test, predicted, right, past)
    targets = test.targets.expand(predicted.shape).flatten()
    losses = F.cross_entropy(logits.flatten(0, 2), targets, reduction="none").view(len(predicted), -1).mean(1)
    words = data.vocabulary
    grammar = accuracy.grammatical(written, words.n_values, words.end_of_states_id)
    numbers = {
        "accuracy": _share(right),
        "generated_accuracy": _share(accuracy.strings_right(written, test.targets)),
        "token_accuracy": _share((predicted == test.targets).flatten(1)),
        "loss": losses.where(finite, torch.nan),
        "grammar": _share(grammar),
    }
    for name, values in zip(numbers, torch.stack(list(numbers.values())).double().cpu().numpy(), strict=True):
        yield (None, None, name), values
    for layer, pattern in enumerate(patterns):
        for (head, metric), values in _of_layer(pattern, test.layout, test.length):
            yield (layer, head, metric), values


def _share(right: Bool[Tensor, "member n"]) -> Float[Tensor, "member"]:
    return right.float().mean(-1)


def _generated(
    params: Params,
    config: ModelConfig,
    test: EvalSet,
    predicted: Int[Tensor, "member batch query"],
    right: Bool[Tensor, "member batch"],
    past: Sequence[
        tuple[Float[Tensor, "member batch kv_head key d_head"], Float[Tensor, "member batch kv_head key d_head"]]
    ],
) -> Int[Tensor, "member batch query"]:
    """What each generates after [EoI]: where all of a string is right what it predicts, see `generated`.

    Args:
        past: keys and values of the pass that predicted, stacked.
    """
    n_wrong = int((~right).sum(1).max())  # strings of one network that are generated, of all as many
    if n_wrong == 0:
        return predicted
    members = (~right).any(1).nonzero()
    strings = right[members[:, 0]].to(torch.uint8).argsort(1)[:, :n_wrong]
    first = test.layout.end_of_input(test.length)

    def generate(params: Params, predicted: Tensor, past: Past) -> Tensor:
        new = [predicted[:, 0]]
        for i in range(1, predicted.shape[1]):
            new.append(read_at(Model(params, config), new[-1], past, first + i).argmax(-1))
        return torch.stack(new, 1)

    written = predicted.clone()
    written[members, strings] = torch.func.vmap(generate)(
        {name: param[members[:, 0]] for name, param in params.items()},
        predicted[members, strings],
        [(k[members, strings], v[members, strings]) for k, v in past],
    )
    return written


def _of_layer(
    pattern: Float[Tensor, "member batch head query key"], layout: Layout, length: int
) -> Iterator[tuple[tuple[int | None, str], np.ndarray]]:
    """(head, metric), and its value of each network; in the order of `layer_measures`."""
    n_members, n_heads = pattern.shape[0], pattern.shape[2]
    as_heads = rearrange(pattern, "member batch head query key -> batch (member head) query key")
    found = head_measures(as_heads, layout, length)
    together = {
        f"{name}_together": as_heads[:, :, rows, keys].mean(0).unflatten(0, (n_members, n_heads)).amax(1).mean(-1)
        for name, (rows, keys) in edges_of_roles(layout, length).items()
    }
    of_heads = rearrange(
        torch.stack(list(found.values())), "metric (member head) -> metric head member", head=n_heads
    ).double()
    if names := [i for i, name in enumerate(found) if name.startswith("offset_")]:
        profile = of_heads[names]
        of_heads[names] = torch.where(profile.amax(1, keepdim=True) >= OFFSET_FLOOR, profile, torch.nan)
    for name, values in zip(found, of_heads.cpu().numpy(), strict=True):
        yield from (((head, name), of_head) for head, of_head in enumerate(values))
    for name, values in together.items():
        yield (None, name), values.double().cpu().numpy()
