"""What attention heads do at the last line of a prompt: where they look, what they carry, whether they are needed.

A head's output is *interchanged* when, at every row of the last line that predicts a state, it is that of the same rows
of another line after the same prefix; everything downstream is recomputed.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from compo_mech.pretrained.few_shot import FewShot
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
    z: Sequence[Z]
    patterns: Sequence[Float[Tensor, "head state pos"]]

    @property
    def logits(self) -> Float[Tensor, "state d_vocab"]:
        """Of what follows each row that predicts a state."""
        return state_logits(self, self.streams[-1])[0]


@torch.no_grad()
def read_last_line(shared: Prefix, prompt: FewShot) -> LastLine:
    """Run a prompt of which the first tokens have been read.

    Args:
        shared: those that it has in common with others.
        prompt: that begins with them.
    """
    model, rows = shared.model, prompt.rows
    prefix = shared.read(prompt.tokens[shared.n_pos : prompt.first_row])
    streams, mids, zs, patterns = [model.embed(prompt.tail[None])], [], [], []
    for layer in range(model.cfg.n_layers):
        z, pattern = prefix.attention(layer, streams[-1])
        zs.append(z)
        patterns.append(pattern[0, :, rows])
        mids.append(prefix.attend(layer, streams[-1], z))
        streams.append(prefix.mlp(layer, mids[-1]))
    return LastLine(prompt, prefix, streams, mids, zs, patterns)


@torch.no_grad()
def state_logits(line: LastLine, stream: Stream) -> Float[Tensor, "batch state d_vocab"]:
    """Return the logits of what follows each row that predicts a state, given the stream after the last layer."""
    model = line.prefix.model
    return model.unembed(model.ln_final(stream[:, line.prompt.rows]))


@torch.no_grad()
def each_head_interchanged(line: LastLine, other: LastLine) -> Iterator[Float[Tensor, "head state d_vocab"]]:
    """Yield for each layer the logits when the output of one of its heads is that of another line."""
    prefix = line.prefix
    for layer, block in enumerate(prefix.model.blocks):
        change = torch.einsum("brhd,hdm->hrm", other.z[layer] - line.z[layer], block.attn.W_O)
        yield state_logits(line, prefix.run(prefix.mlp(layer, line.mids[layer] + change), layer + 1))


@torch.no_grad()
def heads_replaced(line: LastLine, values: Mapping[int, Z], heads: Collection[Head]) -> Float[Tensor, "state d_vocab"]:
    """Return the logits when some heads put out something else.

    Args:
        line: that is run again.
        values: z of all heads of each layer in which there are such heads.
        heads: that are replaced.
    """
    prefix, first = line.prefix, min(layer for layer, _ in heads)
    stream = line.streams[first]
    for layer in range(first, prefix.model.cfg.n_layers):
        z = prefix.attention(layer, stream)[0]
        replaced = [head for at, head in heads if at == layer]
        if replaced:
            z[:, :, replaced] = values[layer][:, :, replaced]
        stream = prefix.mlp(layer, prefix.attend(layer, stream, z))
    return state_logits(line, stream)[0]


def weight_on(line: LastLine, keys: Sequence[int]) -> Float[Tensor, "layer head"]:
    """Return the mean weight on one key for each row that predicts a state."""
    at = torch.stack([pattern[:, torch.arange(len(keys)), list(keys)] for pattern in line.patterns])
    return at.mean(-1)
