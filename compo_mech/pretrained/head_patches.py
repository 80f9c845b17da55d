"""What attention heads do at the last line of a prompt: where they look, what they carry, whether they are needed.

A head's output is *interchanged* when, at every row of the last line from the one that predicts its first state on, it
is that of the same rows of another line after the same prefix; everything downstream is recomputed.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from compo_mech.pretrained.few_shot import FewShot, digit_tokens
from compo_mech.pretrained.prefix import Prefix, Stream, Z

Head = tuple[int, int]
"""Layer and head."""


@dataclass(frozen=True)
class LastLine:
    """One run of the rows of the last line that predict states, after its prefix and its inputs.

    Attributes:
        prompt: that was read.
        prefix: all before the rows.
        streams: in front of each layer, and after the last.
        mids: between attention and MLP of each layer.
        z: of all heads of each layer.
        patterns: of each layer, from the rows that predict a state.
    """

    prompt: FewShot
    prefix: Prefix
    streams: Sequence[Float[Tensor, "1 row d_model"]]
    mids: Sequence[Float[Tensor, "1 row d_model"]]
    z: Sequence[Float[Tensor, "1 row head d_head"]]
    patterns: Sequence[Float[Tensor, "head state pos"]]

    @property
    def states(self) -> Int[Tensor, "state"]:
        """The right digits."""
        return torch.tensor(self.prompt.lines[-1][1])

    @property
    def logits(self) -> Float[Tensor, "state digit"]:
        """Of each digit at the rows that predict a state."""
        return digit_logits(self, self.streams[-1])[0]


class Replaced(NamedTuple):
    """Heads that put out something else, and what: z of each layer."""

    heads: Collection[Head]
    z: Sequence[Z]


@torch.no_grad()
def read_last_lines(shared: Prefix, prompts: Sequence[FewShot]) -> list[LastLine]:
    """Run prompts of which the first tokens have been read.

    Args:
        shared: those that they have in common.
        prompts: of equally many tokens.
    """
    model, first, rows = shared.model, prompts[0].first_row - shared.n_pos, prompts[0].rows
    streams = [model.embed(torch.stack([p.tokens[shared.n_pos : p.state_positions[-1][-1]] for p in prompts]))]
    keys, values, mids, zs, patterns = [], [], [], [], []
    for layer in range(model.cfg.n_layers):
        for store, own in zip((keys, values), shared.keys_and_values(layer, streams[-1]), strict=True):
            store.append(own[:, :first])
        z, pattern = shared.attention(layer, streams[-1])
        zs.append(z)
        patterns.append(pattern[:, :, rows + first])
        mids.append(shared.attend(layer, streams[-1], z))
        streams.append(shared.mlp(layer, mids[-1]))
    lines = []
    for i, prompt in enumerate(prompts):
        longer = [
            [torch.cat([before, own[i]]) for before, own in zip(old, new, strict=True)]
            for old, new in ((shared.keys, keys), (shared.values, values))
        ]
        own_streams, own_mids, own_z = ([kept[i : i + 1, first:] for kept in store] for store in (streams, mids, zs))
        own_patterns = [pattern[i] for pattern in patterns]
        lines.append(LastLine(prompt, Prefix(model, *longer), own_streams, own_mids, own_z, own_patterns))
    return lines


@torch.no_grad()
def digit_logits(line: LastLine, stream: Stream) -> Float[Tensor, "batch state digit"]:
    """Return the logits of the digits at the rows that predict a state, given the stream after the last layer."""
    model = line.prefix.model
    weight = model.W_U[:, digit_tokens(model.tokenizer)]  # pyright: ignore[reportArgumentType]
    return model.ln_final(stream[:, line.prompt.rows]) @ weight


@torch.no_grad()
def each_head_interchanged(line: LastLine, other: LastLine) -> Float[Tensor, "layer head state digit"]:
    """Return the logits when the output of one head alone is that of another line, for each head."""
    prefix, stream = line.prefix, line.streams[0][:0]
    for layer, block in enumerate(prefix.model.blocks):
        if len(stream):  # of heads of earlier layers
            stream = prefix.run(stream, layer, layer + 1)
        change = torch.einsum("brhd,hdm->hrm", other.z[layer] - line.z[layer], block.attn.W_O)
        stream = torch.cat([stream, prefix.mlp(layer, line.mids[layer] + change)])
    return digit_logits(line, stream).unflatten(0, (prefix.model.cfg.n_layers, -1))


@torch.no_grad()
def heads_replaced(line: LastLine, conditions: Sequence[Replaced]) -> Float[Tensor, "condition state digit"]:
    """Return the logits when some heads put out something else, under each of several conditions."""
    prefix, first = line.prefix, min(layer for condition in conditions for layer, _ in condition.heads)
    stream = line.streams[first].expand(len(conditions), -1, -1)
    for layer in range(first, prefix.model.cfg.n_layers):
        z = prefix.attention(layer, stream)[0]
        for i, (heads, values) in enumerate(conditions):
            for head in (head for at, head in heads if at == layer):
                z[i, :, head] = values[layer][0, :, head]
        stream = prefix.mlp(layer, prefix.attend(layer, stream, z))
    return digit_logits(line, stream)
