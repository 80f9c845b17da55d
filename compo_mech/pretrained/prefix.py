"""A language model after a prefix: keys and values of the tokens before are computed once for many continuations.

It is for models as `from_gguf` reads them: rotary positions, no biases, keys and values shared by groups of heads.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

Stream = Float[Tensor, "batch row d_model"]
Z = Float[Tensor, "batch row head d_head"]


@dataclass(frozen=True)
class Prefix:
    """Keys and values of what has been read, by layer.

    Attributes:
        model: that has read it.
        keys, values: of each layer; keys are rotated.
    """

    model: "HookedTransformer"
    keys: Sequence[Float[Tensor, "pos key_head d_head"]]
    values: Sequence[Float[Tensor, "pos key_head d_head"]]

    @classmethod
    def empty(cls, model: "HookedTransformer") -> "Prefix":
        """Return the prefix of a text of which nothing has been read."""
        cfg = model.cfg
        nothing = torch.empty(0, cfg.n_key_value_heads or cfg.n_heads, cfg.d_head, dtype=cfg.dtype)
        return cls(model, [nothing] * cfg.n_layers, [nothing] * cfg.n_layers)

    @classmethod
    def of(cls, model: "HookedTransformer", tokens: Int[Tensor, "pos"]) -> "Prefix":
        """Read tokens from the start of a text."""
        return cls.empty(model).read(tokens)

    @property
    def n_pos(self) -> int:
        """How many tokens have been read."""
        return len(self.keys[0])

    def read(self, tokens: Int[Tensor, "pos"]) -> "Prefix":
        """Return the prefix with further tokens at its end."""
        stream, keys, values = self.model.embed(tokens[None]), [], []
        for layer in range(self.model.cfg.n_layers):
            k, v = self.keys_and_values(layer, stream)
            keys.append(torch.cat([self.keys[layer], k[0]]))
            values.append(torch.cat([self.values[layer], v[0]]))
            stream = self.mlp(layer, self.attend(layer, stream, self.attention(layer, stream)[0]))
        return Prefix(self.model, keys, values)

    def keys_and_values(self, layer: int, stream: Stream) -> tuple[Tensor, Tensor]:
        """Return rotated keys, and values, of rows that follow the prefix."""
        block = self.model.blocks[layer]
        normed = block.ln1(stream)
        k, v = (torch.einsum("brm,hmd->brhd", normed, weight) for weight in (block.attn._W_K, block.attn._W_V))
        return block.attn.apply_rotary(k, self.n_pos), v

    def attention(self, layer: int, stream: Stream) -> tuple[Z, Float[Tensor, "batch head row key"]]:
        """Return z and the pattern of the rows that follow the prefix; rows of the batch do not see each other."""
        attn, normed = self.model.blocks[layer].attn, self.model.blocks[layer].ln1(stream)
        k, v = self.keys_and_values(layer, stream)
        q = attn.apply_rotary(torch.einsum("brm,hmd->brhd", normed, attn.W_Q), self.n_pos)
        q = rearrange(q, "b r (kv group) d -> b kv group r d", kv=k.shape[2])
        before = torch.einsum("bkgrd,pkd->bkgrp", q, self.keys[layer])
        own = torch.einsum("bkgrd,bskd->bkgrs", q, k)
        unseen = torch.ones(own.shape[-2:], dtype=torch.bool, device=own.device).triu(1)
        scores = torch.cat([before, own.masked_fill(unseen, -torch.inf)], -1) / math.sqrt(q.shape[-1])
        pattern = scores.softmax(-1)
        z = torch.einsum("bkgrp,pkd->brkgd", pattern[..., : self.n_pos], self.values[layer])
        z = z + torch.einsum("bkgrs,bskd->brkgd", pattern[..., self.n_pos :], v)
        return z.flatten(2, 3), pattern.flatten(1, 2)

    def attend(self, layer: int, stream: Stream, z: Z) -> Stream:
        """Add what the heads write to the stream."""
        return stream + torch.einsum("brhd,hdm->brm", z, self.model.blocks[layer].attn.W_O)

    def mlp(self, layer: int, mid: Stream) -> Stream:
        """Add what the MLP writes to the stream."""
        block = self.model.blocks[layer]
        return mid + block.mlp(block.ln2(mid))

    def run(self, stream: Stream, first_layer: int = 0, end: int | None = None) -> Stream:
        """Run the blocks from a layer on, all or those before the end."""
        for layer in range(first_layer, self.model.cfg.n_layers if end is None else end):
            stream = self.mlp(layer, self.attend(layer, stream, self.attention(layer, stream)[0]))
        return stream
