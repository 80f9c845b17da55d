"""What signals to a network that the string has ended: what the last layer's attention brings, or the row's own stream.

1. Take strings of two inputs or more, and of each the row that predicts [EoS] and one that predicts a state from the
   second on (at the first [EoI] stands in the row itself).
2. Put the stream in front of the last layer of the one together with what that layer's attention brings to the other,
   both ways, and go on from there.
3. See which of the two mixed rows says [EoS]: only that with the last row's attention, only that with its stream,
   neither, or both. The stream holds all that earlier layers brought, so this is about the last layer's attention.
4. Let attention bring nothing but [EoI] to either row: what says [EoS] then goes by the token that is found.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from compo_mech.data.config import DataConfig
from compo_mech.data.encode import encode
from compo_mech.data.tasks import Task
from compo_mech.interventions.head_swaps import MIN_COUNTED
from compo_mech.interventions.row_traces import RowTrace, row_trace
from compo_mech.interventions.switches import strings
from compo_mech.model import blocks
from compo_mech.model.finite import check_weights, likeliest
from compo_mech.model.params import Model
from compo_mech.stats.intervals import Interval, wilson

MOST = 0.9
"""A network's signal is the one in at least this fraction of its strings."""
N_STRINGS = 1024

EndSignal = Literal["attention", "stream", "both needed", "either enough"]
"""What signals that a string has ended: only the mixed row with the last row's attention says [EoS]; only that with its
stream; neither; both."""
EndVerdict = Literal["attention", "stream", "both needed", "either enough", "mixed"]


@dataclass(frozen=True)
class EndRow:
    """Fractions of the strings that the network answers right at both rows.

    Attributes:
        signals: with each signal.
        by_length: the verdict on strings of one length, where there are enough.
        end_found: whose row that predicts a state says [EoS] if all that attention brings is [EoI].
        only_end_found: whose row that predicts [EoS] still says so if that is all.

    >>> from compo_mech import Parity, build
    >>> built = build(Parity(), max_length=5)
    >>> found = end_row(built.model, built.data, Parity(), torch.Generator().manual_seed(0), 256)
    >>> found.verdict, found.signals["attention"].mean, found.end_found.mean
    ('attention', 1.0, 1.0)
    """

    signals: Mapping[EndSignal, Interval]
    by_length: Mapping[int, EndVerdict]
    end_found: Interval
    only_end_found: Interval

    @property
    def verdict(self) -> EndVerdict:
        """The signal in at least `MOST` of the strings; `mixed` if none is."""
        return _verdict(self.signals)


def _verdict(signals: Mapping[EndSignal, Interval]) -> EndVerdict:
    for signal, share in signals.items():
        if share.mean >= MOST:
            return signal
    return "mixed"


@torch.no_grad()
def end_row(
    model: Model, data: DataConfig, task: Task, generator: torch.Generator, n_strings: int = N_STRINGS
) -> EndRow | None:
    """Ask what signals to a network that the string has ended.

    None: nothing is generated step by step, no string has two inputs, or fewer than `MIN_COUNTED` strings are right at
    both rows.

    Args:
        model: the network.
        data: tasks, lengths and layout.
        task: one of the data's.
        generator: draws strings, their lengths, and the row of each that predicts a state.
        n_strings: strings.

    Raises:
        ValueError: attention goes both ways, or a weight is not finite.

    >>> from compo_mech import BuildOptions, Copy, build
    >>> built = build(Copy(), 6, BuildOptions(route="neighbour"))
    >>> found = end_row(built.model, built.data, Copy(), torch.Generator().manual_seed(0), 256)
    >>> found.verdict, found.end_found.mean  # by attention, but not by what stands at [EoI]'s own position
    ('attention', 0.0)
    """
    blocks.check_causal(model)
    check_weights(model)
    lengths = [length for length in data.drawn_lengths if length > 1]
    if not data.chain_of_thought or not lengths:
        return None
    inputs = strings(task, n_strings, data.max_length, generator)
    length = torch.tensor(lengths)[torch.randint(len(lengths), (n_strings,), generator=generator)]
    t = _middle(length, generator)
    tokens, states = encode(data, task, inputs, length).read.to(model.device), task.states(inputs)
    start = data.layout.end_of_input(length)
    last, middle = (_rows(model, tokens, position) for position in (start + length, start + t - 1))
    answer = _answers(states, t).to(model.device)
    ends = data.vocabulary.end_of_states_id
    counted = (likeliest(last.logits) == ends) & (likeliest(middle.logits) == answer)
    if int(counted.sum()) < MIN_COUNTED:
        return None

    def says_end(stream: RowTrace, attn_out: Float[Tensor, "row d_model"]) -> Bool[Tensor, "row"]:
        layer, before = model.config.n_layers - 1, stream.resid_pre[-1]
        logits = blocks.logits(model, blocks.resid_post(model, layer, before, before + attn_out))
        return likeliest(logits) == ends

    by_attention, by_stream = says_end(middle, last.attn_out[-1]), says_end(last, middle.attn_out[-1])
    of_length = {own: counted & (length == own).to(model.device) for own in lengths}
    only_end = _found_at(model, last, start.to(model.device))
    return EndRow(
        signals=_signals(by_attention[counted], by_stream[counted]),
        by_length={
            own: _verdict(_signals(by_attention[of], by_stream[of]))
            for own, of in of_length.items()
            if int(of.sum()) >= MIN_COUNTED
        },
        end_found=_share(says_end(middle, only_end)[counted]),
        only_end_found=_share(says_end(last, only_end)[counted]),
    )


def _signals(by_attention: Bool[Tensor, "string"], by_stream: Bool[Tensor, "string"]) -> dict[EndSignal, Interval]:
    return {
        "attention": _share(by_attention & ~by_stream),
        "stream": _share(by_stream & ~by_attention),
        "both needed": _share(~by_attention & ~by_stream),
        "either enough": _share(by_attention & by_stream),
    }


def _share(of: Bool[Tensor, "string"]) -> Interval:
    return wilson(int(of.sum()), len(of))


def _middle(length: Int[Tensor, "string"], generator: torch.Generator) -> Int[Tensor, "string"]:
    """The t of a state for each string, from 2 to its length."""
    return 2 + (torch.rand(len(length), generator=generator) * (length - 1)).long()


def _answers(states: Int[Tensor, "string max_length"], t: Int[Tensor, "string"]) -> Int[Tensor, "string"]:
    return states.gather(1, t[:, None] - 1)[:, 0]


def _rows(model: Model, tokens: Int[Tensor, "row pos"], position: Int[Tensor, "row"]) -> RowTrace:
    ids = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    return row_trace(model, tokens, ids, position.to(tokens.device))


def _found_at(model: Model, found: RowTrace, position: Int[Tensor, "row"]) -> Float[Tensor, "row d_model"]:
    """What the last layer's heads write if all of their attention is on one position of each string."""
    values = blocks.by_query_head(model, found.v[-1])
    at = position[:, None, None, None].expand(-1, values.shape[1], 1, values.shape[3])
    return blocks.attn_out(model, model.config.n_layers - 1, values.gather(2, at)[:, :, 0].flatten(1))
