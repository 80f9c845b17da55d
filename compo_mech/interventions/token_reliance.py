"""Which tokens the answers depend on, and where earlier inputs are added up before the last layer.

One token is replaced at a time and every other one held, the written states among them. A network that goes by s_{t-1}
and x_t then changes its answer with these two alone; one that adds the inputs up anew changes it with each of x_1 to
x_t. How an earlier input gets there is asked by activation patching: of the stream in front of the last layer, one
place at a time is taken from the run in which that input is another.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.encode import encode
from compo_mech.data.tasks import Task
from compo_mech.interventions.pairs import Pairs
from compo_mech.interventions.patching import patched_logits
from compo_mech.interventions.traces import Trace, trace
from compo_mech.model.finite import check_finite, check_weights, likeliest
from compo_mech.model.params import Model
from compo_mech.model.sites import Site

TokenKind = Literal["x_t", "earlier inputs", "later inputs", "s_t-1", "earlier states"]
"""A token, seen from the row that predicts s_t."""

Place = Literal["its own position", "later inputs", "[EoI] and states", "the row"]
"""Positions of the stream, seen from an earlier input and the row that predicts s_t, before which the states are."""


@dataclass(frozen=True)
class Reliance:
    """What the right answers of a network depend on.

    Attributes:
        changed: fraction of them that change when one token of a kind does, over strings, rows and tokens; kinds that a
            string has none of are left out.
        carried: fraction of those that an earlier input changes which change as well when its effect is carried by one
            place alone; empty where there are none, or only one layer.
        n_right: answers that were right, of `n` that were asked.
        n_moved: changes by an earlier input, which `carried` is of.

    >>> Reliance({"x_t": 1.0}, {}, n_right=8, n=8, n_moved=0).changed["x_t"]
    1.0
    """

    changed: Mapping[TokenKind, float]
    carried: Mapping[Place, float]
    n_right: int
    n: int
    n_moved: int


class _Strings(NamedTuple):
    """Strings of one length, run as they are: t of each scored row, and which answers are right."""

    tokens: Int[Tensor, "batch pos"]
    position_ids: Int[Tensor, "batch pos"]
    run: Trace
    rows: list[int]
    t: list[int]
    answers: Int[Tensor, "batch row"]
    right: Bool[Tensor, "batch row"]

    def answered(self, run: Trace) -> Int[Tensor, "batch row"]:
        return likeliest(run.logits[:, self.rows])


@torch.no_grad()
def reliance(
    model: Model, data: DataConfig, task: Task, length: int, generator: torch.Generator, n_strings: int = 128
) -> Reliance:
    """Replace one token of random strings at a time.

    Args:
        model: the network, causal.
        data: how strings are encoded.
        task: one of the data's.
        length: of the strings.
        generator: draws the strings, and what each token is replaced by.
        n_strings: how many.

    Raises:
        ValueError: the length is none that training asks about, there is no string, attention goes both ways, or a
            weight or a logit is not finite.

    >>> from compo_mech import Parity, build
    >>> built = build(Parity(), max_length=4)
    >>> found = reliance(built.model, built.data, Parity(), 4, torch.Generator().manual_seed(0), 16)
    >>> {kind: fraction for kind, fraction in found.changed.items() if fraction}  # s_t = s_{t-1} + x_t and no more
    {'x_t': 1.0, 's_t-1': 1.0}
    """
    if length not in data.drawn_lengths:
        drawn = ", ".join(map(str, data.drawn_lengths))
        raise ValueError(f"length = {length}: must be one that training asks about: {drawn}")
    if n_strings < 1:
        raise ValueError(f"n_strings = {n_strings}: must be at least 1")
    check_weights(model)
    strings = _strings(model, data, task, length, generator, n_strings)
    asked: dict[TokenKind, list[Tensor]] = {}
    moved: dict[Place, list[Tensor]] = {}
    for position, t_of_token, is_input in _tokens(data, length):
        other = _replaced(strings.tokens, position, task, is_input, generator)
        run = trace(model, other, strings.position_ids)
        changed = strings.answered(run) != strings.answers
        for column, t in enumerate(strings.t):
            if position <= strings.rows[column] or is_input:
                kind = _kind(t_of_token - t, is_input)
                asked.setdefault(kind, []).append(changed[strings.right[:, column], column])
        if is_input and model.config.n_layers > 1:
            for column in (i for i, t in enumerate(strings.t) if t > t_of_token):
                counted = strings.right[:, column] & changed[:, column]
                for place, found in _by_place(model, data, strings, run, position, column, length):
                    moved.setdefault(place, []).append((found != strings.answers[:, column])[counted])
    n_moved = sum(map(len, moved.get("its own position", [])))  # a place that there always is
    return Reliance(
        changed={
            kind: _share(asked[kind]) for kind in get_args(TokenKind) if kind in asked and sum(map(len, asked[kind]))
        },
        carried={place: _share(found) for place, found in moved.items() if n_moved and sum(map(len, found))},
        n_right=int(strings.right.sum()),
        n=strings.right.numel(),
        n_moved=n_moved,
    )


def _share(found: Sequence[Tensor]) -> float:
    return float(torch.cat(list(found)).double().mean())


def _strings(model: Model, data: DataConfig, task: Task, length: int, generator: torch.Generator, n: int) -> _Strings:
    layout = data.layout
    inputs = torch.randint(task.first_input, task.n_inputs, (n, length), generator=generator)
    tokens = encode(data, task, inputs).read.to(model.device)
    position_ids = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape)
    run, rows = trace(model, tokens, position_ids), list(layout.scored(length))[:-1]
    check_finite("logits", run.logits)
    t = [int(layout.predicted(row, length)) for row in rows]
    answers = likeliest(run.logits[:, rows])
    states = task.states(inputs).to(tokens.device)[:, [i - 1 for i in t]]
    return _Strings(tokens, position_ids, run, rows, t, answers, answers == states)


def _tokens(data: DataConfig, length: int) -> Iterator[tuple[int, int, bool]]:
    """The position of each input and state, its number, and whether it is an input."""
    for i, position in enumerate(data.layout.inputs(length)):
        yield position, i + 1, True
    if data.chain_of_thought:
        for i, position in enumerate(data.layout.states(length)):
            yield position, i + 1, False


def _replaced(
    tokens: Int[Tensor, "batch pos"], position: int, task: Task, is_input: bool, generator: torch.Generator
) -> Int[Tensor, "batch pos"]:
    """The strings with another input or state at a position, each other one as likely."""
    first, n = (task.first_input, task.n_inputs - task.first_input) if is_input else (0, task.n_states)
    step = torch.randint(1, n, (len(tokens),), generator=generator).to(tokens.device) if n > 1 else 0
    other = tokens.clone()
    other[:, position] = first + (tokens[:, position] - first + step) % n
    return other


def _kind(after: int, is_input: bool) -> TokenKind:
    """Of a token whose number is that of the row's state and so many more."""
    if is_input:
        return "x_t" if after == 0 else "later inputs" if after > 0 else "earlier inputs"
    return "s_t-1" if after == -1 else "earlier states"


def _by_place(
    model: Model, data: DataConfig, strings: _Strings, run: Trace, source: int, column: int, length: int
) -> Iterator[tuple[Place, Int[Tensor, "batch"]]]:
    """The answers at a row with the other run's stream at one place alone in front of the last layer."""
    row, layout = strings.rows[column], data.layout
    inputs = layout.inputs(length)
    places: dict[Place, range] = {
        "its own position": range(source, source + 1),
        "later inputs": range(source + 1, inputs[-1] + 1),
        "[EoI] and states": range(inputs[-1] + 1, row),
        "the row": range(row, row + 1),
    }
    site, n = Site("resid_post", model.config.n_layers - 2), len(strings.tokens)
    at = torch.arange(n, device=strings.tokens.device), torch.full((n,), row, device=strings.tokens.device)
    lengths = torch.full((n,), length, device=strings.tokens.device)
    pairs = Pairs(
        strings.tokens, strings.tokens, strings.position_ids, strings.position_ids, *at,
        strings.answers[:, column], strings.answers[:, column], lengths, lengths, layout, "altered",
    )  # fmt: skip
    for place, positions in places.items():
        if not positions:  # without a chain of thought nothing lies between the inputs and the row
            continue
        where = torch.zeros_like(strings.tokens, dtype=torch.bool)
        where[:, list(positions)] = True
        yield place, likeliest(patched_logits(model, strings.run, run, site, where, pairs))
